import * as React from "react";
import type { Task } from "../api/types";
import { useSession } from "../panel/context";
import { Failure } from "../ui/parts";
import { asError } from "../ui/request";

const ASK_EVERY_MS = 1500;

/** Follows the making of a host's environment, which goes on there whatever happens here. */
export function SetUp({ task, ended }: { task: string; ended: () => void }): JSX.Element {
  const { client, trans } = useSession();
  const [state, setState] = React.useState<Task | null>(null);
  const [failed, setFailed] = React.useState<Error | null>(null);
  const lines = React.useRef<HTMLPreElement>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: `ended` is told once
  React.useEffect(() => {
    let over = false;
    let timer: ReturnType<typeof setTimeout>;
    const ask = async () => {
      try {
        const told = await client.task(task);
        if (over) return;
        setState(told);
        setFailed(null);
        if (told.done) {
          ended();
          return;
        }
      } catch (error) {
        if (!over) setFailed(asError(error));
      }
      if (!over) timer = setTimeout(() => void ask(), ASK_EVERY_MS);
    };
    void ask();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [client, task]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the end is shown when lines come
  React.useEffect(() => {
    // Browsers may return something here, which React would take for what ends the effect.
    lines.current?.scrollTo({ top: lines.current.scrollHeight });
  }, [state?.lines.length]);
  return (
    <section aria-label={trans.__("Setting up")} aria-live="polite">
      <p>{state?.message ?? (state?.done ? trans.__("Done.") : trans.__("Setting up; this may take minutes."))}</p>
      {failed && <Failure error={failed} />}
      {state && state.lines.length > 0 && (
        <pre className="vl-log" ref={lines} tabIndex={0}>
          {state.lines.join("\n")}
        </pre>
      )}
    </section>
  );
}
