import type { TranslationBundle } from "@jupyterlab/translation";
import type { RunRow } from "../api/types";
import { LIVE } from "../runs/list";

/** A span of time in one or two units: `58 s`, `1 m 04 s`, `6 h 12 m`, `3 d`. */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  const two = (n: number) => String(n).padStart(2, "0");
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} m ${two(s % 60)} s`;
  if (s < 172_800) return `${Math.floor(s / 3600)} h ${two(Math.floor((s % 3600) / 60))} m`;
  return `${Math.floor(s / 86_400)} d`;
}

export function bytes(count: number): string {
  for (const [unit, size] of [
    ["GB", 1e9],
    ["MB", 1e6],
    ["kB", 1e3],
  ] as const) {
    if (count >= size) return `${(count / size).toFixed(1)} ${unit}`;
  }
  return `${count} B`;
}

/** A value of any kind that the server told. */
export function valueText(value: unknown): string {
  if (value === null || value === undefined) return "–";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** The state of a run in a person's words. */
export function stateWord(row: RunRow, trans: TranslationBundle): string {
  const words: Record<string, string> = {
    created: trans.__("created"),
    starting: trans.__("starting"),
    running: trans.__("running"),
    stopping: trans.__("stopping"),
    completed: trans.__("completed"),
    failed: trans.__("failed"),
    stopped: trans.__("stopped"),
    lost: trans.__("lost"),
  };
  return words[row.state] ?? row.state;
}

/** The second line of a run: where it stands, what is left, where it runs. */
export function standing(row: RunRow, trans: TranslationBundle): string {
  const parts: string[] = [];
  const step =
    row.step === null
      ? null
      : row.total === null
        ? trans.__("step %1", row.step)
        : trans.__("step %1 of %2", row.step, row.total);
  if (row.state === "failed" || row.state === "lost") {
    parts.push(row.reason ? `${stateWord(row, trans)}: ${row.reason}` : stateWord(row, trans));
    if (step) parts.push(step);
  } else if (row.state === "running" && step) {
    parts.push(step);
    if (row.remaining_s !== null) parts.push(trans.__("%1 left", duration(row.remaining_s)));
  } else {
    parts.push(LIVE.has(row.state) && row.phase ? row.phase : stateWord(row, trans));
    if (step && row.state !== "completed") parts.push(step);
    if (!LIVE.has(row.state) && row.elapsed_s !== null) parts.push(duration(row.elapsed_s));
  }
  parts.push(row.host);
  return parts.join(" · ");
}
