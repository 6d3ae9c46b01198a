import type { LiveMessage, RunRow, Severity } from "../api/types";

export const LIVE = new Set(["created", "starting", "running", "stopping"]);
const RANKS: Record<Severity, number> = { info: 1, warning: 2, error: 3, critical: 4 };

export type Order = "newest" | "name" | "health" | "alerts" | "state";
export type Grouping = "none" | "recipe" | "project" | "host";
export type Shown = "all" | "live" | "over" | "alerts";

/** A line of the list: a run, or the heading of a group. */
export type Line = { kind: "group"; name: string; count: number } | { kind: "run"; row: RunRow };

/** Take what the socket said into the rows; the same rows where it says nothing of runs. */
export function merge(rows: ReadonlyMap<string, RunRow>, message: LiveMessage): ReadonlyMap<string, RunRow> {
  if (message.type !== "runs") {
    return rows;
  }
  const merged = new Map(message.all ? [] : rows);
  for (const id of message.removed ?? []) {
    merged.delete(id);
  }
  for (const row of message.rows) {
    merged.set(row.id, row);
  }
  return merged;
}

/** Keep the runs that hold every word somewhere in what is shown of them. */
export function filter(rows: Iterable<RunRow>, search: string, shown: Shown): RunRow[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  return [...rows].filter((row) => {
    if (shown === "live" && !LIVE.has(row.state)) return false;
    if (shown === "over" && LIVE.has(row.state)) return false;
    if (shown === "alerts" && row.alerts === 0) return false;
    const text = [row.name, row.id, row.recipe, row.host, row.state, row.algorithm, row.project]
      .join(" ")
      .toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

// Made once: a thousand names are compared ten thousand times.
const BY_NAME = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
const ORDERS: Record<Order, (a: RunRow, b: RunRow) => number> = {
  newest: () => 0,
  name: (a, b) => BY_NAME.compare(a.name, b.name),
  health: (a, b) => (a.health ?? Number.POSITIVE_INFINITY) - (b.health ?? Number.POSITIVE_INFINITY),
  alerts: (a, b) => rank(b.worst) - rank(a.worst) || b.alerts - a.alerts,
  state: (a, b) => Number(LIVE.has(b.state)) - Number(LIVE.has(a.state)) || a.state.localeCompare(b.state),
};

/** Order runs; what is equal stands newest first. */
export function sort(rows: readonly RunRow[], order: Order): RunRow[] {
  const newest = (a: RunRow, b: RunRow) => (b.created ?? 0) - (a.created ?? 0) || (a.id < b.id ? 1 : -1);
  return [...rows].sort((a, b) => {
    const difference = ORDERS[order](a, b);
    return (Number.isNaN(difference) ? 0 : difference) || newest(a, b);
  });
}

/** Put runs under headings, groups in the order of their first run. */
export function group(rows: readonly RunRow[], by: Grouping, none: string, closed: ReadonlySet<string>): Line[] {
  if (by === "none") {
    return rows.map((row) => ({ kind: "run", row }));
  }
  const groups = new Map<string, RunRow[]>();
  for (const row of rows) {
    const name = row[by] || none;
    const members = groups.get(name);
    if (members) members.push(row);
    else groups.set(name, [row]);
  }
  return [...groups].flatMap(([name, members]): Line[] => [
    { kind: "group", name, count: members.length },
    ...(closed.has(name) ? [] : members.map((row): Line => ({ kind: "run", row }))),
  ]);
}

export function rank(severity: Severity | null): number {
  return severity ? RANKS[severity] : 0;
}

/** How many runs are live, and the lowest health and gravest finding among them. */
export function summary(rows: Iterable<RunRow>): { live: number; health: number | null; worst: Severity | null } {
  const live = [...rows].filter((row) => LIVE.has(row.state));
  const healths = live.map((row) => row.health).filter((health) => health !== null);
  const worst = live.reduce<Severity | null>((found, row) => (rank(row.worst) > rank(found) ? row.worst : found), null);
  return { live: live.length, health: healths.length ? Math.min(...healths) : null, worst };
}
