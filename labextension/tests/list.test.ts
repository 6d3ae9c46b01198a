import assert from "node:assert/strict";
import test from "node:test";
import type { RunRow } from "../src/api/types";
import { filter, group, merge, sort, summary } from "../src/runs/list";
import { choose, idOf } from "../src/runs/selection";
import { row } from "./rows";

const ids = (rows: Iterable<RunRow>) => [...rows].map(({ id }) => id);

test("a whole list replaces what was known, changed rows are taken in, removed ones go", () => {
  const whole = merge(new Map([["old", row("old")]]), { type: "runs", rows: [row("a"), row("b")], all: true });
  assert.deepEqual([...whole.keys()], ["a", "b"]);
  const changed = merge(whole, {
    type: "runs",
    rows: [row("b", { step: 7 }), row("c")],
    all: false,
    removed: ["a", "never"],
  });
  assert.deepEqual([...changed.keys()], ["b", "c"]);
  assert.equal(changed.get("b")?.step, 7);
  assert.equal(whole.get("b")?.step, null, "what was handed out stays as it is");
  assert.equal(merge(changed, { type: "pong" }), changed);
});

test("every word must be found, in any of what is shown", () => {
  const rows = [
    row("a", { name: "GRPO Math", host: "gpu01" }),
    row("b", { name: "grpo", recipe: "math-cpu" }),
    row("c", { name: "sft" }),
  ];
  assert.deepEqual(ids(filter(rows, "math grpo", "all")), ["a", "b"]);
  assert.deepEqual(ids(filter(rows, "  gpu01 ", "all")), ["a"]);
  assert.deepEqual(ids(filter(rows, "", "all")), ["a", "b", "c"]);
  assert.deepEqual(ids(filter(rows, ".*", "all")), []);
});

test("live, over and alerting runs can be told apart", () => {
  const rows = [
    row("a", { state: "stopping" }),
    row("b", { state: "lost", alerts: 2 }),
    row("c", { state: "completed" }),
  ];
  assert.deepEqual(ids(filter(rows, "", "live")), ["a"]);
  assert.deepEqual(ids(filter(rows, "", "over")), ["b", "c"]);
  assert.deepEqual(ids(filter(rows, "", "alerts")), ["b"]);
});

test("runs are ordered as asked, and newest first where that says nothing", () => {
  const rows = [
    row("a", { created: 1, name: "run 10", health: 90 }),
    row("b", { created: 3, name: "run 9", health: null, state: "completed" }),
    row("c", { created: 2, name: "Run 9", health: 20, worst: "critical", alerts: 1 }),
    row("d", { created: 4, name: "x", health: null, worst: "warning", alerts: 9, state: "completed" }),
  ];
  assert.deepEqual(ids(sort(rows, "newest")), ["d", "b", "c", "a"]);
  assert.deepEqual(ids(sort(rows, "name")), ["b", "c", "a", "d"]);
  assert.deepEqual(ids(sort(rows, "health")), ["c", "a", "d", "b"]);
  assert.deepEqual(ids(sort(rows, "alerts")), ["c", "d", "b", "a"]);
  assert.deepEqual(ids(sort(rows, "state")), ["c", "a", "d", "b"]);
  assert.deepEqual(ids(rows), ["a", "b", "c", "d"], "the rows handed in stay as they are");
});

test("groups stand in the order of their first run, and closed ones hide theirs", () => {
  const rows = [row("a", { recipe: "x" }), row("b"), row("c", { recipe: "x" })];
  const shown = (closed: string[]) => group(rows, "recipe", "none", new Set(closed)).map(idOf);
  assert.deepEqual(shown([]), ["group x", "a", "c", "group none", "b"]);
  assert.deepEqual(shown(["x"]), ["group x", "group none", "b"]);
  assert.deepEqual(group(rows, "none", "none", new Set()).map(idOf), ["a", "b", "c"]);
});

test("the summary counts live runs only, and takes the worst of them", () => {
  const rows = [
    row("a", { health: 80, worst: "warning" }),
    row("b", { health: 60, worst: "error" }),
    row("c", { health: 1, worst: "critical", state: "failed" }),
  ];
  assert.deepEqual(summary(rows), { live: 2, health: 60, worst: "error" });
  assert.deepEqual(summary([]), { live: 0, health: null, worst: null });
});

test("one, several and a range of runs can be chosen; headings cannot", () => {
  const lines = ["group x", "a", "b", "group y", "c"];
  const none = new Set<string>();
  assert.deepEqual([...choose(none, lines, "a", "one", null)], ["a"]);
  assert.deepEqual([...choose(new Set(["a"]), lines, "c", "toggle", null)], ["a", "c"]);
  assert.deepEqual([...choose(new Set(["a", "c"]), lines, "a", "toggle", null)], ["c"]);
  assert.deepEqual([...choose(none, lines, "c", "range", "b")], ["b", "c"]);
  assert.deepEqual([...choose(none, lines, "a", "range", "c")], ["a", "b", "c"]);
  assert.deepEqual([...choose(none, lines, "a", "range", "gone")], ["a"]);
  assert.deepEqual([...choose(none, lines, "group y", "one", null)], []);
});
