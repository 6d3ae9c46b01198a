import type { Line } from "./list";

export function idOf(line: Line): string {
  return line.kind === "run" ? line.row.id : `group ${line.name}`;
}

/** Return what is chosen after one more choice: this alone, this too or no longer, or all from the anchor to this. */
export function choose(
  chosen: ReadonlySet<string>,
  ids: readonly string[],
  id: string,
  how: "one" | "toggle" | "range",
  anchor: string | null,
): ReadonlySet<string> {
  const isRun = (one: string) => !one.startsWith("group ");
  if (how === "toggle") {
    const next = new Set(chosen);
    if (!next.delete(id) && isRun(id)) next.add(id);
    return next;
  }
  const from = how === "range" && anchor !== null ? ids.indexOf(anchor) : -1;
  if (from < 0) {
    return new Set(isRun(id) ? [id] : []);
  }
  const to = ids.indexOf(id);
  return new Set(ids.slice(Math.min(from, to), Math.max(from, to) + 1).filter(isRun));
}
