import assert from "node:assert/strict";
import test from "node:test";
import type { TranslationBundle } from "@jupyterlab/translation";
import { bytes, duration, standing } from "../src/ui/words";
import { row } from "./rows";

const english = {
  __: (text: string, ...values: unknown[]) => text.replace(/%(\d)/g, (_, n) => String(values[Number(n) - 1])),
} as TranslationBundle;

test("spans of time are told in one or two units", () => {
  const told = [0, 58, 64, 3599.6, 3720, 90_000, 172_800].map(duration);
  assert.deepEqual(told, ["0 s", "58 s", "1 m 04 s", "1 h 00 m", "1 h 02 m", "25 h 00 m", "2 d"]);
});

test("sizes are told in a fitting unit", () => {
  assert.deepEqual([0, 999, 1500, 2_000_000, 3.2e9].map(bytes), ["0 B", "999 B", "1.5 kB", "2.0 MB", "3.2 GB"]);
});

test("a run says where it stands in one line", () => {
  const running = row("a", { step: 30, total: 60, remaining_s: 62, host: "gpu01" });
  assert.equal(standing(running, english), "step 30 of 60 · 1 m 02 s left · gpu01");
  assert.equal(standing(row("a", { state: "starting", phase: "loading model" }), english), "loading model · local");
  const failed = row("a", { state: "failed", reason: "non-finite gradient", step: 12 });
  assert.equal(standing(failed, english), "failed: non-finite gradient · step 12 · local");
  assert.equal(
    standing(row("a", { state: "completed", elapsed_s: 58, step: 60 }), english),
    "completed · 58 s · local",
  );
});
