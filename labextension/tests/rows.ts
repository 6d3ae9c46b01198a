import type { RunRow } from "../src/api/types";

/** A row as the server tells it. */
export function row(id: string, given: Partial<RunRow> = {}): RunRow {
  return {
    id,
    name: id,
    state: "running",
    reason: null,
    phase: null,
    step: null,
    total: null,
    elapsed_s: null,
    remaining_s: null,
    host: "local",
    recipe: null,
    algorithm: null,
    kind: "run",
    created: null,
    health: null,
    worst: null,
    alerts: 0,
    spark: null,
    can_stop: true,
    can_resume: false,
    project: null,
    ...given,
  };
}
