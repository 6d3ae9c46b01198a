import assert from "node:assert/strict";
import test from "node:test";
import type { Field } from "../src/api/types";
import { literal, overridesOf, shown, wrong } from "../src/recipes/overrides";

function field(given: Partial<Field>): Field {
  const empty = { help: null, group: "", value: null, default: null, choices: null, minimum: null, maximum: null };
  return { key: "k", title: "k", type: "string", ...empty, ...given };
}

test("values are written in Hydra's notation", () => {
  const expected: [unknown, string][] = [
    [null, "null"],
    [true, "true"],
    [0.5, "0.5"],
    ["plain/path-1.x", "plain/path-1.x"],
    ["two words", '"two words"'],
    ["null", '"null"'],
    ["7", '"7"'],
    ["", '""'],
    ['say "hi"', '"say \\"hi\\""'],
    ["C:\\dir\\", '"C:\\dir\\\\"'],
    [["a", 1, null], "[a,1,null]"],
    [{ a: 1, b: "x y" }, '{a:1,b:"x y"}'],
  ];
  for (const [value, text] of expected) {
    assert.equal(literal(value), text);
  }
});

test("only what was changed becomes an override, rows after the form", () => {
  const fields = [
    field({ key: "a", type: "integer", value: 3 }),
    field({ key: "b", value: "x" }),
    field({ key: "c", type: "list", value: ["p", "q"] }),
    field({ key: "d", type: "boolean", value: false }),
    field({ key: "e", type: "integer", value: 5 }),
    field({ key: "f", type: "choice", value: "1", choices: ["1", "2"] }),
  ];
  const typed = new Map([
    ["a", " 7 "],
    ["b", "x"],
    ["c", "p, r s, 3"],
    ["d", "true"],
    ["e", ""],
    ["f", "2"],
  ]);
  const rows = [
    { key: " optim.lr ", value: " 1e-6" },
    { key: "", value: "9" },
    { key: "left.empty", value: "" },
  ];
  assert.deepEqual(overridesOf(fields, typed, rows), [
    "a=7",
    'c=[p,"r s",3]',
    "d=true",
    "e=null",
    'f="2"',
    "optim.lr=1e-6",
  ]);
});

test("a field shows its value as it would be typed", () => {
  assert.equal(shown(field({ value: null })), "");
  assert.equal(shown(field({ type: "list", value: ["a", "b"] })), "a, b");
  assert.equal(shown(field({ type: "boolean", value: false })), "false");
});

test("a number is checked while it is typed", () => {
  const number = field({ type: "number", minimum: 0, maximum: 1 });
  assert.equal(wrong(number, "abc"), "number");
  assert.equal(wrong(number, "-0.1"), "minimum");
  assert.equal(wrong(number, "1e1"), "maximum");
  assert.equal(wrong(number, "1e-6"), null);
  assert.equal(wrong(number, ""), null);
  assert.equal(wrong(field({ type: "integer" }), "1.5"), "integer");
  assert.equal(wrong(field({ type: "string", maximum: 1 }), "abc"), null);
});
