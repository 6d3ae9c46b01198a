/** What an output says of the panel in it. */
export const PANEL_MIME = "application/vnd.verl-lab.panel+json";

export interface PanelOutput {
  view: "run" | "replay" | "compare";
  runs: readonly string[];
  /** What to draw at first; by default what says most. */
  metrics: readonly string[];
  /** Of a replay. */
  replay?: { start: number; end: number; speed: number };
}

const VERSION = 1;
const VIEWS = new Set<unknown>(["run", "replay", "compare"]);
const RUN_ID = /^[a-z0-9]+(-[a-z0-9]+)*$/;
const LONGEST_ID = 80;
const LONGEST_METRIC = 500;
const MOST_RUNS = 7;
const MOST_METRICS = 24;

function isId(value: unknown): value is string {
  return typeof value === "string" && value.length <= LONGEST_ID && RUN_ID.test(value);
}

function isMetric(value: unknown): value is string {
  return typeof value === "string" && value.length <= LONGEST_METRIC;
}

function isNumber(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

/** Whoever wrote the notebook wrote this: only what has the right shape is taken, anything else is null. */
export function readOutput(data: unknown): PanelOutput | null {
  if (typeof data !== "object" || data === null) {
    return null;
  }
  const { version, view, runs, metrics, replay } = data as Record<string, unknown>;
  if (version !== VERSION || !VIEWS.has(view) || !Array.isArray(runs) || !Array.isArray(metrics)) {
    return null;
  }
  const fits = view === "compare" ? runs.length > 1 && runs.length <= MOST_RUNS : runs.length === 1;
  if (!fits || !runs.every(isId) || metrics.length > MOST_METRICS || !metrics.every(isMetric)) {
    return null;
  }
  const read: PanelOutput = { view: view as PanelOutput["view"], runs, metrics };
  if (view === "replay" && typeof replay === "object" && replay !== null) {
    const { start, end, speed } = replay as Record<string, unknown>;
    if (!isNumber(start) || !isNumber(end) || !isNumber(speed)) {
      return null;
    }
    read.replay = { start, end, speed };
  }
  return read;
}

/** The socket's name below the API, with its query. */
export function socketPath({ view, runs, metrics, replay }: PanelOutput): string {
  const query = new URLSearchParams(view === "compare" ? { runs: runs.join(",") } : { run: runs.join() });
  if (metrics.length) {
    query.set("metrics", metrics.join(","));
  }
  if (view === "replay") {
    query.set("replay", "1");
  }
  for (const [name, value] of Object.entries(replay ?? {})) {
    query.set(name, String(value));
  }
  return `${view === "compare" ? "compare" : "panel"}?${query}`;
}
