import * as React from "react";
import type { Session } from "../panel/context";
import { summary } from "../runs/list";
import { Dot } from "../ui/parts";
import { useStore } from "../ui/store";

/** How many runs are live, and the worst health among them. */
export function StatusItem({ session }: { session: Session }): JSX.Element {
  const { commands, live, trans } = session;
  const { live: count, health, worst } = summary(useStore(live.rows).values());
  const connection = useStore(live.connection);
  const isLost = connection === "lost" || connection === "expired";
  const runs = trans._n("%1 run", "%1 runs", count);
  const text = isLost
    ? connection === "expired"
      ? trans.__("log in again")
      : trans.__("not connected")
    : health === null
      ? runs
      : trans.__("%1 · health %2", runs, Math.round(health));
  return (
    <button
      type="button"
      className="vl-status"
      data-severity={worst ?? undefined}
      title={trans.__("verl-lab: live runs, and the worst health among them")}
      onClick={() => void commands.execute("verl-lab:show")}
    >
      <Dot state={isLost ? "lost" : count ? "running" : "created"} />
      {text}
    </button>
  );
}
