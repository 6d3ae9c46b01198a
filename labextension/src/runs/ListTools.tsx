import * as React from "react";
import { useSession } from "../panel/context";
import { Options, SearchBox } from "../ui/parts";
import type { Grouping, Order, Shown } from "./list";

interface Tools {
  search: string;
  setSearch: (value: string) => void;
  shown: Shown;
  setShown: (value: Shown) => void;
  order: Order;
  setOrder: (value: Order) => void;
  grouping: Grouping;
  setGrouping: (value: Grouping) => void;
}

/** Search, filter, order and grouping of the list. */
export function ListTools(tools: Tools): JSX.Element {
  const { trans } = useSession();
  return (
    <div className="vl-tools">
      <SearchBox label={trans.__("Find a run")} value={tools.search} type={tools.setSearch} />
      <div className="vl-choices">
        <Choice<Shown>
          label={trans.__("Which runs")}
          value={tools.shown}
          choose={tools.setShown}
          options={{
            all: trans.__("All"),
            live: trans.__("Live"),
            over: trans.__("Over"),
            alerts: trans.__("With alerts"),
          }}
        />
        <Choice<Order>
          label={trans.__("Order")}
          value={tools.order}
          choose={tools.setOrder}
          options={{
            newest: trans.__("Newest first"),
            name: trans.__("By name"),
            health: trans.__("Worst health first"),
            alerts: trans.__("Gravest finding first"),
            state: trans.__("Live first"),
          }}
        />
        <Choice<Grouping>
          label={trans.__("Groups")}
          value={tools.grouping}
          choose={tools.setGrouping}
          options={{
            none: trans.__("No groups"),
            recipe: trans.__("By recipe"),
            project: trans.__("By project"),
            host: trans.__("By host"),
          }}
        />
      </div>
    </div>
  );
}

function Choice<T extends string>(props: {
  label: string;
  value: T;
  choose: (value: T) => void;
  options: Record<T, string>;
}): JSX.Element {
  return (
    <select
      className="vl-choice"
      aria-label={props.label}
      title={props.label}
      value={props.value}
      onChange={(event) => props.choose(event.target.value as T)}
    >
      <Options of={Object.entries<string>(props.options)} />
    </select>
  );
}
