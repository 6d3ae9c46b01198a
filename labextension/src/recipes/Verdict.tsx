import * as React from "react";
import type { Problem, Validation } from "../api/types";
import { useSession } from "../panel/context";
import { Copyable, FactList, Failure } from "../ui/parts";
import type { Asked } from "../ui/request";
import { valueText } from "../ui/words";

/** What the server says of the recipe with these overrides. */
export function Verdict({ check }: { check: Asked<Validation> }): JSX.Element {
  const { trans } = useSession();
  const { data, error, loading, reload } = check;
  if (error) {
    return <Failure error={error} retry={reload} />;
  }
  const grave = (data?.problems ?? []).filter((problem) => problem.severity !== "info");
  return (
    <section className="vl-verdict" aria-label={trans.__("Check")} aria-live="polite" aria-busy={loading}>
      <h3>
        {data === null || loading
          ? trans.__("Checking…")
          : grave.length
            ? trans._n("%1 problem", "%1 problems", grave.length)
            : trans.__("Nothing is wrong")}
      </h3>
      {grave.map((problem) => (
        <ProblemText key={`${problem.key} ${problem.message}`} problem={problem} />
      ))}
      {data && data.facts.length > 0 && (
        <FactList
          of={[
            ...data.facts.map((fact) => [fact.name, valueText(fact.value)] as const),
            ...(data.rules
              ? [[trans.__("rules with data"), trans.__("%1 of %2", data.rules.with_data, data.rules.total)] as const]
              : []),
          ]}
        />
      )}
      {data?.command && (
        <details>
          <summary>{trans.__("Command")}</summary>
          <Copyable text={data.command} label={trans.__("the command")} />
        </details>
      )}
    </section>
  );
}

function ProblemText({ problem }: { problem: Problem }): JSX.Element {
  const { trans } = useSession();
  const severity = problem.severity === "error" ? trans.__("Error") : trans.__("Warning");
  return (
    <p className="vl-finding" data-severity={problem.severity}>
      <b>{severity}</b> {problem.key && <code>{problem.key}</code>} {problem.message}{" "}
      <span className="vl-quiet">{problem.valid}</span>
    </p>
  );
}
