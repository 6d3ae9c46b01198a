// Samples of a step: each prompt with its responses and their scores side by side.
import { button, element, setText } from "./dom.js";

const KINDS = ["validation", "rollout"];

function score(value) {
  return value === null ? "no score" : String(Number(value.toPrecision(4)));
}

function spread(samples, count) {
  const scores = samples.map((sample) => sample.score).filter((value) => value !== null);
  if (scores.length < 2) return "";
  const mean = scores.reduce((sum, value) => sum + value, 0) / scores.length;
  const [low, high] = [Math.min(...scores), Math.max(...scores)];
  const range = low === high ? "all the same" : `${score(low)} to ${score(high)}`;
  const shown = count > samples.length ? `the first ${samples.length} of ` : "";
  return `${shown}${count} responses · mean ${score(mean)} · ${range}`;
}

export function createSamples(send) {
  const root = element("div", "verl-lab-samples");
  const bar = element("div", "verl-lab-fields");
  const kind = element("select", "", "", { "aria-label": "Kind of samples" });
  for (const name of KINDS) kind.append(element("option", "", name, { value: name }));
  const step = element("select", "", "", { "aria-label": "Step" });
  const ask = (wanted, start = 0) => send({ type: "samples", kind: kind.value, step: wanted, start });
  const beside = (by) => ask(sheet.steps[sheet.kind][sheet.steps[sheet.kind].indexOf(sheet.step) + by]);
  const earlier = button("‹", () => beside(-1), { "aria-label": "Earlier step" });
  const later = button("›", () => beside(1), { "aria-label": "Later step" });
  const newest = button("Newest", () => ask(null));
  const before = button("Previous prompts", () => ask(sheet.step, starts[starts.length - 2] ?? 0));
  const after = button("Next prompts", () => ask(sheet.step, sheet.start + sheet.groups.length));
  const count = element("span", "verl-lab-unit");
  const empty = element("p", "verl-lab-empty");
  const list = element("div", "");
  bar.append(kind, earlier, step, later, newest, count, before, after);
  root.append(bar, empty, list);
  kind.addEventListener("change", () => ask(null));
  step.addEventListener("change", () => ask(Number(step.value)));
  let sheet = null;
  let starts = [0];

  const text = (told, group, place) => {
    const made = element("div", "verl-lab-text");
    made.append(element("span", "", told.head));
    if (told.left_out) {
      const all = button(`… ${told.left_out.toLocaleString("en")} characters left out …`, () =>
        send({ type: "sample", kind: sheet.kind, step: sheet.step, group, place }), { class: "verl-lab-link" });
      made.append(all, element("span", "", told.tail));
      made.dataset.place = `${group} ${place}`;
    }
    return made;
  };
  const card = (sample, group, place) => {
    const made = element("div", "verl-lab-response");
    const head = element("p", "verl-lab-finding-head");
    head.append(element("b", "", score(sample.score)));
    if (sample.expected !== null) head.append(element("span", "verl-lab-unit", `expected ${sample.expected}`));
    made.append(head, text(sample.response, group, place));
    return made;
  };
  const draw = ({ prompt, samples, responses: count }, group) => {
    const made = element("section", "verl-lab-sample-group");
    const responses = element("div", "verl-lab-responses", "", { tabindex: "0", role: "group", "aria-label": "Responses" });
    responses.append(...samples.map((sample, place) => card(sample, group, place)));
    made.append(text(prompt, group, null), element("p", "verl-lab-unit", spread(samples, count)), responses);
    return made;
  };
  return {
    root,
    shown: (isShown) => isShown && sheet === null && ask(null),
    update(message) {
      const has = message.groups !== undefined;
      setText(empty, has ? "" : message.empty);
      empty.hidden = has;
      for (const node of [earlier, step, later, newest, count, before, after]) node.hidden = !has;
      list.replaceChildren();
      if (!has) return;
      sheet = message;
      starts = message.start === 0 ? [0] : [...starts.filter((start) => start < message.start), message.start];
      kind.value = message.kind;
      const steps = message.steps[message.kind];
      step.replaceChildren(...steps.map((one) => element("option", "", `step ${one}`, { value: String(one) })));
      step.value = String(message.step);
      earlier.disabled = steps.indexOf(message.step) < 1;
      later.disabled = newest.disabled = steps.indexOf(message.step) === steps.length - 1;
      const end = message.start + message.groups.length;
      setText(count, `prompts ${message.start + 1}–${end} of ${message.count}`);
      before.hidden = message.start === 0;
      after.hidden = end >= message.count;
      list.append(...message.groups.map((group, k) => draw(group, message.start + k)));
    },
    whole(message) {
      const place = `${message.group} ${message.place}`;
      for (const node of list.querySelectorAll(".verl-lab-text")) {
        if (node.dataset.place === place) node.replaceChildren(element("span", "", message.text));
      }
    },
  };
}
