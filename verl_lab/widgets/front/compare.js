// Runs side by side: their curves, their values, and what differs in their configuration.
import { createCharts, withArrays } from "./charts.js";
import { element, save, setText, speakFor } from "./dom.js";
import { wantLibrary } from "./library.js";
import { createPicker } from "./picker.js";
import { createTabs } from "./tabs.js";
import { createToolbar } from "./toolbar.js";

const LETTERS_OF_RUNS = "ABCDEFGH";

function columnHeads(lines) {
  return lines.map(({ name }, k) => {
    const head = element("th", "verl-lab-line", "", { scope: "col", "data-line": String(k), title: name });
    head.append(element("b", "", LETTERS_OF_RUNS[k % 8]), element("span", "", ` ${name}`));
    return head;
  });
}

function headRow(first, lines) {
  const row = element("tr", "");
  row.append(element("th", "", first, { scope: "col" }), ...columnHeads(lines));
  return row;
}

/** Where each run stands and how healthy it is. */
function createRuns() {
  const root = element("ul", "verl-lab-runs");
  let told = "";
  return {
    root,
    update({ runs, lines }) {
      if (told === JSON.stringify([runs, lines])) return;
      told = JSON.stringify([runs, lines]);
      root.replaceChildren(...runs.map((run, k) => {
        const row = element("li", "verl-lab-line", "", { "data-line": String(k) });
        const state = element("span", "verl-lab-state", run.state);
        const step = run.step === null ? "" : `step ${run.step}${run.total === null ? "" : ` of ${run.total}`}`;
        const { score } = run.health;
        const parts = [step, score === null ? "no health score" : `health ${score}`, run.reason].filter(Boolean);
        row.append(element("i", ""), element("b", "", LETTERS_OF_RUNS[k % 8]), element("span", "verl-lab-run-name", lines[k].name, { title: run.run_id }), state, element("span", "verl-lab-unit", parts.join(" · ")));
        row.dataset.state = run.state;
        return row;
      }));
    },
  };
}

function createValues() {
  const root = element("div", "verl-lab-compared");
  const table = element("table", "");
  const head = element("thead", "");
  const body = element("tbody", "");
  table.append(head, body);
  root.append(table);
  return {
    root,
    update({ values, lines }) {
      head.replaceChildren(headRow("", lines));
      body.replaceChildren(...values.map((row) => {
        const made = element("tr", "");
        made.append(element("th", "", row.label, { scope: "row", title: row.metric }));
        row.values.forEach(([last, best], k) => {
          const cell = element("td", "");
          cell.append(element("span", "verl-lab-last", last));
          if (best !== null) {
            const said = row.best === k ? `best of all: ${best}` : `best ${best}`;
            cell.append(element(row.best === k ? "b" : "span", "verl-lab-best", said));
          }
          made.append(cell);
        });
        return made;
      }));
    },
  };
}

function createDifferences(send) {
  const root = element("div", "verl-lab-compared");
  const note = element("p", "verl-lab-unit", "Reading the configurations…");
  const main = element("div", "");
  const noise = element("details", "");
  const summary = element("summary", "");
  noise.append(summary);
  noise.hidden = true;
  root.append(note, main, noise);
  let lines = [];
  const table = (rows) => {
    const made = element("table", "");
    const head = element("thead", "");
    const body = element("tbody", "");
    head.append(headRow("", lines));
    body.append(...rows.map(([key, , values]) => {
      const row = element("tr", "");
      row.append(element("th", "", key, { scope: "row" }), ...values.map((value) => element("td", "verl-lab-setting", value ?? "–")));
      return row;
    }));
    made.append(head, body);
    return made;
  };
  return {
    root,
    lines: (value) => (lines = value),
    shown: (isShown) => isShown && send({ type: "differences" }),
    update({ rows, left_out, unknown }) {
      const telling = rows.filter(([, isNoise]) => !isNoise);
      const rest = rows.filter(([, isNoise]) => isNoise);
      const letters = unknown.map((k) => LETTERS_OF_RUNS[k % 8]).join(", ");
      const said = [
        telling.length ? "" : "No difference that matters.",
        letters ? `The configuration of ${letters} is not known.` : "",
        left_out ? `${left_out} more are not listed.` : "",
      ];
      setText(note, said.filter(Boolean).join(" "));
      main.replaceChildren(...(telling.length ? [table(telling)] : []));
      noise.hidden = !rest.length;
      setText(summary, `${rest.length} more in paths and names`);
      noise.replaceChildren(summary, ...(rest.length ? [table(rest)] : []));
    },
  };
}

function render({ model, el }) {
  const { view, send } = speakFor(model);
  const root = element("section", "verl-lab-panel", "", { "aria-label": "Comparison of runs", "data-lm-suppress-shortcuts": "true" });
  const alarm = element("div", "verl-lab-alarm", "", { role: "alert" });
  const runs = createRuns();
  const picker = createPicker(send);
  const toolbar = createToolbar(send, { overlays: false });
  const grid = element("div", "verl-lab-grid");
  const drawn = element("div", "");
  const values = createValues();
  const different = createDifferences(send);
  drawn.append(picker.root, grid);
  const tabs = createTabs([
    { id: "charts", label: "Charts", root: drawn, tools: toolbar.root },
    { id: "values", label: "Values", root: values.root },
    { id: "configuration", label: "Configuration", root: different.root, shown: different.shown },
  ]);
  root.append(runs.root, alarm, tabs.root);
  el.append(root);
  const charts = createCharts(grid, (span) => send({ type: "view", span }));
  charts.update(null);
  const warn = (text) => {
    setText(alarm, text ?? "");
    alarm.hidden = !text;
  };
  warn(null);
  const show = (message, buffers) => {
    root.classList.add("verl-lab-live");
    warn(message.problem);
    runs.update(message);
    different.lines(message.lines);
    picker.update(message.chips, message.count);
    toolbar.update(message);
    values.update(message);
    charts.update(message.count ? withArrays(message, buffers) : null, message);
  };
  const heard = (message, buffers) => {
    if (message.type === "snapshot") show(message, buffers);
    else if (message.type === "library") library.heard(buffers);
    else if (message.type === "names") picker.list(message);
    else if (message.type === "problem") {
      root.classList.add("verl-lab-live");
      warn(message.text);
    } else if (message.to === view && message.type === "differences") different.update(message);
    else if (message.to === view && message.type === "download") save(message.name, buffers[0]);
  };
  const lost = (said) =>
    warn(typeof said === "string" ? said : "The kernel that showed these runs is gone; this is what it said last.");
  model.on("msg:custom", heard);
  model.on("comm_live_update", lost);
  const library = wantLibrary(send, charts.use, warn, model.library);
  send({ type: "ready" });
  return () => {
    model.off("msg:custom", heard);
    model.off("comm_live_update", lost);
    for (const part of [library, charts, picker, toolbar, tabs]) part.destroy();
  };
}

export default { render };
