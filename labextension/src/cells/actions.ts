import type { Client } from "../api/client";
import type { RunRow } from "../api/types";
import { LIVE } from "../runs/list";
import * as cells from "./lines";

export type Way = "cells" | "server";

/** What a person does to runs: as a cell in the notebook, or, where the setting says so, by the server. */
export class Actions {
  constructor(
    private readonly client: Client,
    private readonly way: () => Way,
    private readonly runCell: (...texts: string[]) => Promise<void>,
  ) {}

  /** Launch, and return the run where the server did it. */
  async launch(training: cells.Training): Promise<RunRow | null> {
    if (this.way() === "cells") {
      await this.runCell(cells.trainCell(training));
      return null;
    }
    const { recipe, overrides, host, name, preset } = training;
    return this.client.launch({ recipe, overrides, host, name: name || null, preset: preset ?? null });
  }

  dryRun = (training: cells.Training) => this.runCell(cells.trainCell({ ...training, dryRun: true }));

  stop = (run: string, now: boolean) =>
    this.way() === "cells" ? this.runCell(cells.stopCell(run, now)) : this.client.stop(run, now);

  resume = (run: string) => (this.way() === "cells" ? this.runCell(cells.resumeCell(run)) : this.client.resume(run));

  demo = () => this.runCell(...cells.demoCells());
  watch = (run: string) => this.runCell(cells.watchCell(run));
  compare = (runs: readonly string[]) => this.runCell(cells.compareCell(runs));
  report = (runs: readonly string[]) => this.runCell(cells.reportCell(runs));
  health = (run: string) => this.runCell(cells.healthCell(run));
  diff = (a: string, b: string) => this.runCell(cells.diffCell(a, b));
}

/** Which actions the chosen runs allow. */
export function allowed(rows: readonly RunRow[]) {
  const one = rows.length === 1 ? rows[0] : undefined;
  return {
    open: one !== undefined,
    watch: one !== undefined,
    compare: rows.length >= 2 && rows.length <= 7,
    diff: rows.length === 2,
    stop: (one?.can_stop ?? false) && LIVE.has(one?.state ?? ""),
    resume: one?.can_resume ?? false,
    report: rows.length >= 1,
  };
}
