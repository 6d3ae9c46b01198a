import assert from "node:assert/strict";
import { test } from "node:test";
import { Choices } from "../src/renderer/choices";
import { readFrame } from "../src/renderer/frame";
import { readOutput, socketPath } from "../src/renderer/output";

const RUN = "20251122-074100-grpo-arithmetic-1a2b";
const good = { version: 1, view: "run", runs: [RUN], metrics: [] };

test("an output of the right shape is taken, with its query", () => {
  assert.deepEqual(readOutput(good), { view: "run", runs: [RUN], metrics: [] });
  const output = readOutput({ ...good, metrics: ["val-core/a&b=1/acc", "x"] });
  assert.equal(output && socketPath(output), `panel?run=${RUN}&metrics=val-core%2Fa%26b%3D1%2Facc%2Cx`);
  const compared = readOutput({ ...good, view: "compare", runs: ["run-a", "run-b"] });
  assert.equal(compared && socketPath(compared), "compare?runs=run-a%2Crun-b");
  const replay = readOutput({ ...good, view: "replay", replay: { start: 1, end: 9, speed: 2.5 } });
  assert.equal(replay && socketPath(replay), `panel?run=${RUN}&replay=1&start=1&end=9&speed=2.5`);
});

for (const [what, data] of Object.entries({
  nothing: null,
  "a text": "run",
  "another version": { ...good, version: 2 },
  "an unknown view": { ...good, view: "__proto__" },
  "no runs": { ...good, runs: [] },
  "two runs where one is shown": { ...good, runs: ["run-a", "run-b"] },
  "one run where several are": { ...good, view: "compare" },
  markup: { ...good, runs: ["<img src=x onerror=alert(1)>"] },
  "a way upwards": { ...good, runs: ["../../api/contents"] },
  "a query": { ...good, runs: ["run-a&token=b"] },
  "a long id": { ...good, runs: ["a".repeat(81)] },
  "ids that are no texts": { ...good, runs: [{ toString: () => "run-a" }] },
  "metrics that are no texts": { ...good, metrics: [{}] },
  "too many metrics": { ...good, metrics: Array(25).fill("a") },
  "a replay without end": { ...good, view: "replay", replay: { start: 1, end: Number.NaN, speed: 1 } },
})) {
  test(`an output with ${what} is refused`, () => assert.equal(readOutput(data), null));
}

test("a frame gives its content and each buffer in its place", () => {
  const text = new TextEncoder().encode(JSON.stringify({ content: { type: "snapshot", é: 1 }, buffers: [2, 0, 3] }));
  const bytes = new Uint8Array(4 + text.length + 5);
  new DataView(bytes.buffer).setUint32(0, text.length, true);
  bytes.set(text, 4);
  bytes.set([1, 2, 3, 4, 5], 4 + text.length);
  const { content, buffers } = readFrame(bytes.buffer);
  assert.deepEqual(content, { type: "snapshot", é: 1 });
  const read = buffers.map((one) => [...new Uint8Array(one.buffer, one.byteOffset, one.byteLength)]);
  assert.deepEqual(read, [[1, 2], [], [3, 4, 5]]);
});

test("choices are said again, each as it was last; questions and actions are not", () => {
  const choices = new Choices(null, "run-a");
  for (const asked of [
    { type: "show", metric: "a", shown: true },
    { type: "view", smooth: 0.5 },
    { type: "view", span: [1, 2] },
    { type: "stop" },
    { type: "log" },
    { type: "show", metric: "a", shown: false },
    { type: "view", axis: "time" },
    { type: "acknowledge", key: "k" },
  ]) {
    choices.asked(asked);
  }
  assert.deepEqual(choices.again(), [
    { type: "show", metric: "a", shown: false },
    { type: "view", smooth: 0.5, span: null, axis: "time" },
    { type: "acknowledge", key: "k" },
  ]);
});

test("a replay goes on where it stood", () => {
  const choices = new Choices(null, "run-a");
  choices.heard({ type: "snapshot", header: { playback: { position: 7, speed: 2, is_playing: false } } });
  assert.deepEqual(choices.again(), [{ type: "speed", speed: 2 }, { type: "pause" }, { type: "seek", step: 7 }]);
});

test("choices outlive the page, and what else lies there does no harm", () => {
  const store = new Map<string, string>();
  const kept = {
    getItem: (name: string) => store.get(name) ?? null,
    setItem: (name: string, text: string) => void store.set(name, text),
  };
  new Choices(kept, "run-a").asked({ type: "view", log: true });
  assert.deepEqual(new Choices(kept, "run-a").again(), [{ type: "view", log: true }]);
  assert.deepEqual(new Choices(kept, "run-b").again(), []);
  for (const text of ["{", "null", "7"]) {
    store.set("run-a", text);
    assert.deepEqual(new Choices(kept, "run-a").again(), []);
  }
});
