import assert from "node:assert/strict";
import test from "node:test";
import { sparkPath } from "../src/runs/sparkline";
import { visible } from "../src/runs/window";

const sum = (heights: number[]) => heights.reduce((total, one) => total + one, 0);

test("what is drawn covers what is seen, and all heights stay the same", () => {
  const heights = Array.from({ length: 1000 }, (_, i) => (i % 9 === 0 ? 28 : 52));
  for (let top = 0; top < sum(heights); top += 777) {
    const { first, last, before, after } = visible(heights, top, 600, 300);
    const drawn = heights.slice(first, last);
    assert.equal(before + sum(drawn) + after, sum(heights));
    assert.ok(before <= top, `at ${top}`);
    assert.ok(before + sum(drawn) >= Math.min(top + 600, sum(heights)), `at ${top}`);
    assert.ok(drawn.length < 40, "few rows are drawn, however many there are");
  }
});

test("a list that became shorter than it is scrolled draws nothing wrong", () => {
  assert.deepEqual(visible([52, 52], 5000, 600), { first: 2, last: 2, before: 104, after: 0 });
  assert.deepEqual(visible([], 0, 600), { first: 0, last: 0, before: 0, after: 0 });
});

test("a sparkline spans its box, and leaves out what is no number", () => {
  assert.equal(sparkPath([0, 1, 2], 60, 20), "M0.0 20.0L30.0 10.0L60.0 0.0");
  assert.equal(sparkPath([0, null, 2, "NaN", 1], 60, 20), "M0.0 20.0M30.0 0.0M60.0 10.0");
  assert.equal(sparkPath([3, 3], 60, 20), "M0.0 10.0L60.0 10.0");
  assert.equal(sparkPath([3, "Infinity"], 60, 20), "");
  assert.equal(sparkPath([], 60, 20), "");
});
