// The live panel's front end: takes snapshots from the kernel, shows where the run stands and its
// charts, and sends back what a person asks for. Every name is written as text, never as markup.
import { createCharts, element, setText } from "./charts.js";

const LIBRARY = Symbol.for("verl-lab.plotly");
const ASK_AGAIN_MS = 10_000;
const LISTED_MOST = 200;

/** What all panels of a page share: the drawing library, fetched once from whichever kernel answers. */
function sharedLibrary() {
  return (globalThis[LIBRARY] ??= {
    page: crypto.getRandomValues(new Uint32Array(2)).join("-"),
    askedAt: -Infinity,
    loading: null,
    plotly: null,
    waiting: new Set(),
  });
}

async function loadLibrary(shared, zipped) {
  const plain = new Blob([zipped]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = await new Response(plain).blob();
  // The file is a UMD module: given `module`, it exports there. It also sets a global, which is put
  // back, since a page may hold another Plotly.
  const before = globalThis.Plotly;
  const parts = ["const module = { exports: {} };\n", script, "\nexport default module.exports;"];
  const url = URL.createObjectURL(new Blob(parts, { type: "text/javascript" }));
  try {
    shared.plotly = (await import(/* webpackIgnore: true */ url)).default;
  } finally {
    URL.revokeObjectURL(url);
    globalThis.Plotly = before;
  }
  for (const ready of shared.waiting) ready(shared.plotly);
  shared.waiting.clear();
}

function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (n) => String(n).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} m`;
  return `${Math.floor(whole / 86400)} d ${two(Math.floor((whole % 86400) / 3600))} h`;
}

/** One line on where the run stands, `since` seconds after the kernel said so. */
function standing(header, since) {
  const parts = [];
  const gone = header.elapsed_s === null ? null : duration(header.elapsed_s + since);
  const working = header.live && header.phase !== null && header.phase !== "training" ? header.phase : null;
  if (header.step !== null) parts.push(`step ${header.step}${header.total === null ? "" : ` of ${header.total}`}`);
  if (working !== null) parts.push(header.state === "starting" && gone ? `${working}, ${gone}` : working);
  if (gone !== null && !(working !== null && header.state === "starting")) {
    const left = header.live && header.remaining_s !== null;
    parts.push(header.live ? `${gone} gone` + (left ? `, ${duration(header.remaining_s - since)} to go` : "") : gone);
  }
  parts.push(header.host);
  if (header.recipe !== null) parts.push(`recipe ${header.recipe}`);
  return parts.join(" · ");
}

function typed(view, type) {
  const bytes = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
  return type === "f8" ? new Float64Array(bytes) : new Float32Array(bytes);
}

function button(text, onClick, attributes = {}) {
  const made = element("button", "verl-lab-button", text, { type: "button", ...attributes });
  made.addEventListener("click", onClick);
  return made;
}

/** Stop and resume; stopping asks first, and once it is under way can be hastened. */
function createActions(send) {
  const root = element("div", "verl-lab-actions");
  const question = element("span", "verl-lab-question", "Stop training? It saves a checkpoint first.");
  const stop = button("Stop", () => (header.state === "stopping" ? act("stop", stop) : ask(true)));
  const yes = button("Stop the run", () => act("stop", stop), { class: "verl-lab-button verl-lab-grave" });
  const no = button("Keep running", () => ask(false));
  const resume = button("Resume", () => act("resume", resume));
  root.append(question, yes, no, stop, resume);
  let header = {};
  let asking = false;
  const show = () => {
    const sure = asking && header.can_stop && header.state !== "stopping";
    for (const node of [question, yes, no]) node.hidden = !sure;
    stop.hidden = sure || !header.can_stop;
    resume.hidden = !header.can_resume;
    setText(stop, header.state === "stopping" ? "Stop now" : "Stop");
  };
  const ask = (value) => {
    asking = value;
    show();
    (value ? no : stop).focus();
  };
  const act = (type, pressed) => {
    asking = false;
    show();
    pressed.disabled = true;
    send({ type });
  };
  return {
    root,
    update(next) {
      if (next) header = next;
      stop.disabled = resume.disabled = false;
      show();
    },
  };
}

/** Chips for the charts at hand, and a list to search for every other metric. */
function createPicker(send) {
  const root = element("div", "verl-lab-chips", "", { role: "group", "aria-label": "Charts shown" });
  const more = button("", () => toggle(list.hidden), { class: "verl-lab-chip", "aria-expanded": "false" });
  const list = element("div", "verl-lab-list");
  const search = element("input", "", "", { type: "search", placeholder: "Find a metric", "aria-label": "Find a metric" });
  const found = element("div", "verl-lab-found");
  const chips = new Map();
  let others = [];
  list.hidden = true;
  list.append(search, found);
  root.append(more, list);

  const fill = () => {
    const words = search.value.toLowerCase().split(/\s+/);
    const matching = others.filter((name) => words.every((word) => name.toLowerCase().includes(word)));
    found.replaceChildren(
      ...matching.slice(0, LISTED_MOST).map((metric) =>
        button(metric, () => send({ type: "show", metric, shown: true }), { class: "verl-lab-name" }),
      ),
    );
    if (!matching.length) found.append(element("span", "verl-lab-unit", "No metric has that in its name."));
    if (matching.length > LISTED_MOST) {
      found.append(element("span", "verl-lab-unit", `and ${matching.length - LISTED_MOST} more: type a part of the name`));
    }
  };
  const toggle = (open) => {
    list.hidden = !open;
    more.setAttribute("aria-expanded", String(open));
    if (open) fill();
    (open ? search : more).focus();
  };
  search.addEventListener("input", fill);
  list.addEventListener("keydown", (event) => event.key === "Escape" && toggle(false));

  return {
    root,
    update(offered, names) {
      const metrics = new Set(offered.map((chip) => chip.metric));
      for (const [metric, chip] of chips) if (!metrics.has(metric)) chips.delete(metric) && chip.remove();
      for (const { metric, label, shown } of offered) {
        if (!chips.has(metric)) {
          const press = (event) =>
            send({ type: "show", metric, shown: event.currentTarget.getAttribute("aria-pressed") !== "true" });
          chips.set(metric, button("", press, { class: "verl-lab-chip", title: metric }));
          more.before(chips.get(metric));
        }
        setText(chips.get(metric), label);
        chips.get(metric).setAttribute("aria-pressed", String(shown));
      }
      const rest = names.filter((name) => !metrics.has(name));
      const same = rest.length === others.length && rest.every((name, place) => name === others[place]);
      others = rest;
      setText(more, `+ ${others.length} more`);
      more.hidden = !others.length;
      if (!others.length) list.hidden = true;
      if (!list.hidden && !same) fill();
    },
  };
}

/** The line that names the run, its state and progress, and below it what a person must read. */
function createHeader(actions) {
  const root = element("header", "verl-lab-header");
  const words = element("div", "verl-lab-words");
  const title = element("div", "verl-lab-title");
  const name = element("b", "", "Waiting for the kernel…");
  const state = element("span", "verl-lab-state", "", { role: "status" });
  const meta = element("div", "verl-lab-meta", "\u00a0");
  const bar = element("div", "verl-lab-bar", "", { role: "progressbar", "aria-label": "Steps done", "aria-valuemin": "0" });
  const done = element("i", "");
  const alarm = element("div", "verl-lab-alarm", "", { role: "alert" });
  title.append(name, state);
  words.append(title, meta);
  bar.append(done);
  root.append(words, actions.root, bar, alarm);
  alarm.hidden = true;
  let shown = null;
  let receivedAt = 0;

  const tick = () => {
    const since = shown.live ? (performance.now() - receivedAt) / 1000 : 0;
    setText(meta, standing(shown, since));
    meta.title = meta.textContent;
  };
  const clock = setInterval(() => shown?.live && tick(), 1000);
  return {
    root,
    update(header) {
      shown = header;
      receivedAt = performance.now();
      setText(name, header.name);
      name.title = header.run_id;
      setText(state, header.state);
      root.dataset.state = header.state;
      const known = header.step !== null && header.total > 0;
      const share = known ? Math.min(1, header.step / header.total) : header.state === "completed" ? 1 : 0;
      done.style.width = `${100 * share}%`;
      bar.setAttribute("aria-valuemax", String(known ? header.total : 1));
      bar.setAttribute("aria-valuenow", String(known ? header.step : share));
      bar.setAttribute("aria-valuetext", known ? `step ${header.step} of ${header.total}` : header.state);
      tick();
    },
    alarm(problem) {
      const lines = [shown?.over ? shown.reason : null, shown?.notice, problem].filter(Boolean);
      setText(alarm, lines.join("\n"));
      alarm.hidden = !lines.length;
    },
    pause() {
      if (shown) shown = { ...shown, live: false };
    },
    destroy() {
      clearInterval(clock);
    },
  };
}

function render({ model, el }) {
  const shared = sharedLibrary();
  const send = (content) => model.send(content);
  const actions = createActions(send);
  const header = createHeader(actions);
  const picker = createPicker(send);
  const grid = element("div", "verl-lab-grid");
  const root = element("section", "verl-lab-panel", "", { "aria-label": "Training run", "data-lm-suppress-shortcuts": "true" });
  root.append(header.root, picker.root, grid);
  el.append(root);
  const charts = createCharts(grid);
  charts.update(null);

  const show = (message, buffers) => {
    const drawn = message.charts.map((chart, place) => ({
      ...chart,
      steps: typed(buffers[2 * place], chart.types[0]),
      values: typed(buffers[2 * place + 1], chart.types[1]),
    }));
    root.classList.add("verl-lab-live");
    header.update(message.header);
    header.alarm(message.problem);
    actions.update(message.header);
    picker.update(message.chips, message.names);
    charts.update(message.names.length ? drawn : null);
  };
  const heard = (message, buffers) => {
    if (message.type === "snapshot") show(message, buffers);
    if (message.type === "library" && !shared.loading) {
      shared.loading = loadLibrary(shared, buffers[0]).catch((error) => {
        shared.loading = null;
        header.alarm(`The charts cannot be drawn: ${error.message}`);
      });
    }
    if (message.type === "problem") {
      root.classList.add("verl-lab-live");
      header.alarm(message.text);
      actions.update(null);
    }
  };
  const ask = () => {
    if (shared.plotly || performance.now() - shared.askedAt < ASK_AGAIN_MS) return;
    shared.askedAt = performance.now();
    send({ type: "library", page: shared.page });
  };
  const use = (plotly) => {
    clearInterval(asking);
    charts.use(plotly);
  };
  // A kernel that restarts takes the run's reader along: the clock must not go on without it. The
  // next snapshot, if there is one, sets everything right.
  const lost = () => {
    header.pause();
    header.alarm("The kernel that showed this run is gone; this is what it said last.");
  };
  model.on("msg:custom", heard);
  model.on("comm_live_update", lost);
  const asking = setInterval(ask, 1000);
  if (shared.plotly) use(shared.plotly);
  else shared.waiting.add(use);
  ask();
  send({ type: "ready" });

  return () => {
    model.off("msg:custom", heard);
    model.off("comm_live_update", lost);
    shared.waiting.delete(use);
    clearInterval(asking);
    header.destroy();
    charts.destroy();
  };
}

export default { render };
