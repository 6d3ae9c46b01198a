import * as React from "react";
import { useSession } from "../panel/context";
import { Button, Empty } from "../ui/parts";
import { useStore } from "../ui/store";
import { ActionBar } from "./ActionBar";
import { ListTools } from "./ListTools";
import { filter, type Grouping, group, type Order, type Shown, sort } from "./list";
import { RunList } from "./RunList";

/** The runs: what is live, how it stands, what can be done. */
export function RunsTab(): JSX.Element {
  const { commands, live, tab, trans } = useSession();
  const rows = useStore(live.rows);
  const connection = useStore(live.connection);
  const problem = useStore(live.problem);
  const [search, setSearch] = React.useState("");
  const [shown, setShown] = React.useState<Shown>("all");
  const [order, setOrder] = React.useState<Order>("newest");
  const [grouping, setGrouping] = React.useState<Grouping>("none");
  const [closed, setClosed] = React.useState<ReadonlySet<string>>(new Set());
  const lines = React.useMemo(
    () => group(sort(filter(rows.values(), search, shown), order), grouping, trans.__("none"), closed),
    [rows, search, shown, order, grouping, closed, trans],
  );
  const toggle = (name: string) =>
    setClosed((before) => new Set(before.has(name) ? [...before].filter((one) => one !== name) : [...before, name]));
  return (
    <>
      {problem !== null && (
        <div className="vl-notice" role="status">
          <span>{problem}</span>
        </div>
      )}
      {rows.size > 0 && (
        <ListTools {...{ search, setSearch, shown, setShown, order, setOrder, grouping, setGrouping }} />
      )}
      {connection === "waiting" && rows.size === 0 && <Skeleton label={trans.__("Reading the runs…")} />}
      {connection === "connected" && rows.size === 0 && (
        <Empty title={trans.__("No runs yet")}>
          <p>{trans.__("The demo teaches a tiny model to sort digits by GRPO, on this machine and without a GPU.")}</p>
          <Button primary onClick={() => void commands.execute("verl-lab:demo")}>
            {trans.__("Try the demo")}
          </Button>
          <p>{trans.__("Or launch a recipe, or watch any verl log from a notebook: %verl_watch PATH")}</p>
          <Button onClick={() => tab.set("recipes")}>{trans.__("Pick a recipe")}</Button>
        </Empty>
      )}
      {rows.size > 0 && lines.length === 0 && (
        <Empty title={trans.__("No run fits")}>
          <Button
            onClick={() => {
              setSearch("");
              setShown("all");
            }}
          >
            {trans.__("Show all runs")}
          </Button>
        </Empty>
      )}
      {lines.length > 0 && <RunList lines={lines} closed={closed} toggle={toggle} />}
      <ActionBar />
    </>
  );
}

/** Takes the space of the first rows while they are awaited. */
function Skeleton({ label }: { label: string }): JSX.Element {
  return (
    <div className="vl-skeleton" role="status" aria-label={label}>
      {[0, 1, 2, 3].map((one) => (
        <i key={one} />
      ))}
    </div>
  );
}
