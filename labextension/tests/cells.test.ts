import assert from "node:assert/strict";
import test from "node:test";
import * as cells from "../src/cells/lines";
import { lines } from "./cells.json";

test("words are written as the line that a kernel reads as just those", () => {
  for (const [words, line] of lines as [string[], string][]) {
    assert.equal(cells.magicLine("verl_train", words), line);
  }
});

test("what a line cannot say is refused", () => {
  for (const word of ["a\nb", "a\rb", "a\u2028b", "a\u0000b", "\u0085", "'$x", "{$x}", "$x'"]) {
    assert.throws(() => cells.magicLine("verl_train", [word]), cells.UnwritableError, JSON.stringify(word));
  }
  assert.throws(() => cells.magicLine("verl_train", ["$x", "it's"]), cells.UnwritableError);
});

test("a name that looks like an option is refused", () => {
  assert.throws(() => cells.watchCell("--replay"), cells.UnwritableError);
  assert.throws(() => cells.trainCell({ recipe: "r", overrides: [], host: "-x" }), cells.UnwritableError);
});

test("a launch without overrides is one line, with the host only where it is another machine", () => {
  assert.equal(cells.trainCell({ recipe: "grpo", overrides: [], host: "local" }), "%verl_train grpo");
  assert.equal(
    cells.trainCell({ recipe: "grpo", overrides: [], host: "gpu01", name: "my run", dryRun: true }),
    "%verl_train grpo --host gpu01 --name 'my run' --dry-run",
  );
});

test("overrides stand in the cell, one a line, as they are", () => {
  const overrides = ["trainer.total_epochs=3", 'data.train_files="a {b} $c.parquet"'];
  assert.equal(
    cells.trainCell({ recipe: "grpo", overrides, host: "local" }),
    `%%verl_train grpo\n${overrides.join("\n")}`,
  );
});

test("an override that is no line of key=value is refused", () => {
  for (const bad of ["trainer.x=1\nimport os", "# x=1", "=1", "just text", "!ls=1", "%magic=1"]) {
    assert.throws(() => cells.trainCell({ recipe: "r", overrides: [bad], host: "local" }), cells.UnwritableError, bad);
  }
});

test("the demo is made and trained on", () => {
  assert.deepEqual(cells.demoCells(), ["%verl_demo", "%verl_train sort-digits-grpo"]);
});

test("each action has its cell", () => {
  assert.equal(cells.watchCell("a-1"), "%verl_watch a-1");
  assert.equal(cells.compareCell(["a-1", "b-2"]), "%verl_compare a-1 b-2");
  assert.equal(cells.stopCell("a-1", false), "%verl_stop a-1");
  assert.equal(cells.stopCell("a-1", true), "%verl_stop a-1 --now");
  assert.equal(cells.resumeCell("a-1"), "%verl_resume a-1");
  assert.equal(cells.reportCell(["a-1"]), "%verl_report a-1");
  assert.equal(cells.diffCell("a-1", "b-2"), "%verl_diff a-1 b-2");
});
