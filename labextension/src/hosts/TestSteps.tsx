import * as React from "react";
import type { HostTest } from "../api/types";
import { useSession } from "../panel/context";
import { Button } from "../ui/parts";

/** What a test found; an unknown host key is shown, and accepted only by a person who has seen it. */
export function TestSteps(props: { test: HostTest; accept: (fingerprint: string) => Promise<void> }): JSX.Element {
  const { test, accept } = props;
  const { trans } = useSession();
  const { fingerprint } = test;
  return (
    <section className="vl-steps" aria-label={trans.__("Test")} aria-live="polite">
      <ol className="vl-plain-list">
        {test.steps.map((step) => (
          <li key={step.name}>
            <b data-ok={step.ok}>{step.ok ? "✓" : "✗"}</b> <span>{step.name}</span>{" "}
            <span className="vl-quiet">{step.message}</span>
            {!step.ok && step.hint && <p className="vl-problem">{step.hint}</p>}
          </li>
        ))}
      </ol>
      {fingerprint && (
        <div className="vl-finding" data-severity="warning" role="group" aria-label={trans.__("Unknown host key")}>
          <p>
            <b>{trans.__("This host is not known yet.")}</b>{" "}
            {trans.__("Compare its fingerprint with what its keeper says before you accept it.")}
          </p>
          <code className="vl-fingerprint">{fingerprint}</code>
          <Button onClick={() => void accept(fingerprint)}>{trans.__("Accept this key")}</Button>
        </div>
      )}
    </section>
  );
}
