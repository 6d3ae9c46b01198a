import * as React from "react";
import type { RunRow } from "../api/types";
import { useSession } from "../panel/context";
import { Dot } from "../ui/parts";
import { standing, stateWord } from "../ui/words";
import { sparkPath } from "./sparkline";

interface Item {
  id: string;
  position: number;
  size: number;
  current: boolean;
  row: RunRow;
  selected: boolean;
  choose: (event: React.MouseEvent) => void;
  open: () => void;
}

/** One run of the list. */
export function RunItem(props: Item): JSX.Element {
  const { row } = props;
  const { trans } = useSession();
  const line = standing(row, trans);
  const health = row.health === null ? "" : trans.__("health %1", Math.round(row.health));
  const alerts = row.alerts ? trans._n("%1 alert", "%1 alerts", row.alerts) : "";
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the list has the focus and takes the keys
    // biome-ignore lint/a11y/useFocusableInteractive: as above; options are told by aria-activedescendant
    <div
      id={props.id}
      role="option"
      className="vl-run"
      aria-selected={props.selected}
      aria-setsize={props.size}
      aria-posinset={props.position}
      aria-label={[row.name, stateWord(row, trans), line, health, alerts].filter(Boolean).join(", ")}
      data-run={row.id}
      data-current={props.current}
      title={`${row.name}\n${row.id}\n${line}`}
      onClick={props.choose}
      onDoubleClick={props.open}
    >
      <Dot state={row.state} />
      <span className="vl-run-text">
        <span className="vl-run-name">{row.name}</span>
        <span className="vl-run-line vl-quiet">{line}</span>
      </span>
      <Spark row={row} />
      <span className="vl-run-health">
        <b>{row.health === null ? "" : Math.round(row.health)}</b>
        {row.alerts > 0 && (
          <span className="vl-alerts" data-severity={row.worst} title={alerts}>
            ▲ {row.alerts}
          </span>
        )}
      </span>
    </div>
  );
}

const Spark = React.memo(
  ({ row }: { row: RunRow }): JSX.Element => (
    <svg className="vl-spark" viewBox="0 0 62 20" preserveAspectRatio="none" aria-hidden="true">
      {row.spark && <path d={sparkPath(row.spark.values, 62, 20)} />}
    </svg>
  ),
  (a, b) => a.row.spark === b.row.spark,
);
