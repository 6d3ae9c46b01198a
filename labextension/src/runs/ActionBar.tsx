import * as React from "react";
import { allowed } from "../cells/actions";
import { useSession } from "../panel/context";
import { Button } from "../ui/parts";
import { useStore } from "../ui/store";

/** What can be done with the runs that are chosen. */
export function ActionBar(): JSX.Element | null {
  const { commands, live, selection, trans } = useSession();
  const rows = useStore(live.rows);
  const chosen = [...useStore(selection)].flatMap((id) => rows.get(id) ?? []);
  if (chosen.length === 0) {
    return null;
  }
  const may = allowed(chosen);
  const runs = chosen.map((row) => row.id);
  const does = (command: string) => () => void commands.execute(`verl-lab:${command}`, { runs });
  const [first] = chosen;
  return (
    <div className="vl-actions" role="toolbar" aria-label={trans.__("What to do with the chosen runs")}>
      <span className="vl-actions-what">
        {chosen.length === 1 && first ? first.name : trans.__("%1 runs chosen", chosen.length)}
      </span>
      {may.open && (
        <Button primary onClick={does("open")}>
          {trans.__("Open")}
        </Button>
      )}
      {may.watch && (
        <Button onClick={does("watch")} title={trans.__("Put its live panel into the notebook")}>
          {trans.__("Watch")}
        </Button>
      )}
      {may.compare && (
        <Button primary onClick={does("compare")}>
          {trans.__("Compare")}
        </Button>
      )}
      {may.diff && <Button onClick={does("diff")}>{trans.__("Differences")}</Button>}
      {may.stop && (
        <Button onClick={does("stop")} title={trans.__("Save a checkpoint after this step, then end")}>
          {trans.__("Stop")}
        </Button>
      )}
      {may.resume && <Button onClick={does("resume")}>{trans.__("Resume")}</Button>}
      {may.report && <Button onClick={does("report")}>{trans.__("Report")}</Button>}
      {chosen.length > 1 && <Button onClick={() => selection.set(new Set())}>{trans.__("Clear")}</Button>}
    </div>
  );
}
