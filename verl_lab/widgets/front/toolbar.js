// How the charts are drawn: the part shown, smoothing, axes, what is laid over, and saving.
import { button, element, setText, short } from "./dom.js";
import { createMenu } from "./menu.js";

const LETTERS_OF_LINES = "ABCDEFGH";

function field(label, input) {
  const made = element("label", "verl-lab-field");
  made.append(element("span", "", label), input);
  return made;
}

function choice(label, input) {
  const made = element("label", "verl-lab-choice");
  made.append(input, element("span", "", label));
  return made;
}

/** Without `overlays` there is nothing to lay over, as in a comparison. */
export function createToolbar(send, { overlays }) {
  const root = element("div", "verl-lab-tools", "", { role: "group", "aria-label": "How the charts are drawn" });
  const span = createSpan(send);
  const smooth = createSmooth(send);
  const axes = createAxes(send);
  const over = overlays ? createOverlays(send) : null;
  const saving = createMenu("Save");
  for (const [what, label] of [["data", "Data (CSV)"], ["picture", "Picture (PNG)"]]) {
    saving.box.append(button(label, () => {
      send({ type: "download", what });
      saving.open(false);
    }, { class: "verl-lab-name" }));
  }
  const parts = [span, smooth, axes, ...(over ? [over] : []), saving];
  root.append(...parts.flatMap((part) => part.roots ?? [part.root]));
  return {
    root,
    update(message) {
      span.update(message);
      smooth.update(message.view);
      axes.update(message);
      over?.update(message.view);
    },
    list: (message) => over?.list(message.others),
    destroy: () => parts.forEach((part) => part.destroy()),
  };
}

/** Which part of the run is shown: all of it as it grows, or a part that stands still. */
function createSpan(send) {
  const from = element("input", "", "", { type: "number", step: "any", "aria-label": "From" });
  const to = element("input", "", "", { type: "number", step: "any", "aria-label": "To" });
  let axis = { scale: 1, extent: [0, 1] };
  const menu = createMenu("Steps", {
    focus: () => from,
    onOpen: () => axis.extent.forEach((place, k) => ([from, to][k].value = short(place))),
  });
  const follow = () => send({ type: "view", span: null });
  const live = button("Live", follow, { class: "verl-lab-chip verl-lab-resume", title: "Show the whole run, and go on with it" });
  const form = element("div", "verl-lab-fields");
  const submit = () => {
    const wanted = [from, to].map((input) => Number.parseFloat(input.value) * axis.scale);
    if (!wanted.every(Number.isFinite)) return;
    send({ type: "view", span: wanted });
    menu.open(false);
  };
  form.append(field("From", from), field("to", to), button("Show", submit));
  // JupyterLab keeps Enter from submitting a form.
  for (const input of [from, to]) input.addEventListener("keydown", (event) => event.key === "Enter" && submit());
  menu.box.append(form, element("p", "verl-lab-unit", "Or drag over a chart; a double click goes back."));
  return {
    roots: [menu.root, live],
    destroy: menu.destroy,
    update(message) {
      axis = message.axis;
      const paused = message.view.span !== null;
      const [first, last] = axis.extent.map(short);
      const part = axis.kind === "step" ? `Steps ${first}–${last}` : `${first}–${last}${axis.suffix}`;
      const moving = message.header ? message.header.live : message.live;
      menu.label(message.count ? `${part}${paused ? " · paused" : moving ? " · live" : ""}` : "Steps");
      live.hidden = !paused;
      setText(live, moving ? "Live" : "All");
    },
  };
}

function createSmooth(send) {
  const slider = element("input", "", "", { type: "range", min: "0", max: "0.99", step: "0.01", "aria-label": "Smoothing" });
  const value = element("output", "", "0");
  const menu = createMenu("Smooth 0", { focus: () => slider });
  const row = element("div", "verl-lab-fields");
  row.append(slider, value);
  menu.box.append(row, element("p", "verl-lab-unit", "Weight of the past in a moving average; the values stay behind it."));
  slider.addEventListener("input", () => {
    setText(value, slider.value);
    send({ type: "view", smooth: Number(slider.value) });
  });
  return {
    root: menu.root,
    destroy: menu.destroy,
    update(view) {
      menu.label(`Smooth ${view.smooth}`);
      if (document.activeElement === slider) return;
      slider.value = String(view.smooth);
      setText(value, slider.value);
    },
  };
}

function createAxes(send) {
  const menu = createMenu("Axes", { focus: () => steps });
  const group = `verl-lab-axis-${crypto.getRandomValues(new Uint32Array(1))[0]}`;
  const steps = element("input", "", "", { type: "radio", name: group });
  const time = element("input", "", "", { type: "radio", name: group });
  const log = element("input", "", "", { type: "checkbox" });
  steps.addEventListener("change", () => send({ type: "view", axis: "step" }));
  time.addEventListener("change", () => send({ type: "view", axis: "time" }));
  log.addEventListener("change", () => send({ type: "view", log: log.checked }));
  const note = element("p", "verl-lab-unit", "The log does not say when its steps were.");
  menu.box.append(choice("Steps", steps), choice("Time since the start", time), choice("Logarithmic values", log), note);
  return {
    root: menu.root,
    destroy: menu.destroy,
    update({ view, lines }) {
      steps.checked = view.axis === "step";
      time.checked = view.axis === "time";
      log.checked = view.log;
      note.hidden = lines[0]?.drawn !== false;
      menu.label(`Axes${view.axis === "time" ? " · time" : ""}${view.log ? " · log" : ""}`);
    },
  };
}

function createOverlays(send) {
  const list = element("div", "verl-lab-found");
  const menu = createMenu("Overlay", {
    className: "verl-lab-list",
    focus: (box) => box,
    onOpen: () => {
      if (!list.childElementCount) list.append(element("span", "verl-lab-unit", "Looking for runs…"));
      send({ type: "others" });
    },
  });
  menu.box.append(list);
  let over = [];
  const press = (event) => {
    const { currentTarget } = event;
    send({ type: "overlay", id: currentTarget.other, shown: currentTarget.getAttribute("aria-pressed") !== "true" });
  };
  return {
    root: menu.root,
    destroy: menu.destroy,
    list(others) {
      const rows = others.map(([id, name]) => {
        const made = button(name, press, { class: "verl-lab-name", title: id, "aria-pressed": String(over.includes(id)) });
        made.other = id;
        return made;
      });
      list.replaceChildren(...rows);
      if (!rows.length) list.append(element("span", "verl-lab-unit", "There are no other runs and attempts."));
    },
    update(view) {
      over = view.over;
      for (const row of list.querySelectorAll("button")) row.setAttribute("aria-pressed", String(over.includes(row.other)));
      menu.label(over.length ? `Overlay ${over.length}` : "Overlay");
    },
  };
}

/** Which colour, dash and letter is which run; nothing where one line is drawn. */
export function createLegend(send) {
  const root = element("div", "verl-lab-legend", "", { role: "list", "aria-label": "Lines" });
  let told = "";
  return {
    root,
    update({ lines, view }) {
      root.hidden = lines.length < 2;
      if (told === JSON.stringify([lines, view.over])) return;
      told = JSON.stringify([lines, view.over]);
      root.replaceChildren(...lines.map(({ name, drawn }, k) => {
        const entry = element("span", "verl-lab-line", "", { role: "listitem", "data-line": String(k) });
        entry.append(element("i", ""), element("b", "", LETTERS_OF_LINES[k % 8]), element("span", "", name));
        if (!drawn) entry.append(element("span", "verl-lab-unit", "its log has no times"));
        const id = view.over[k - 1];
        if (send && k && id !== undefined) {
          const remove = button("×", () => send({ type: "overlay", id, shown: false }), { class: "verl-lab-link" });
          remove.setAttribute("aria-label", `Take away ${LETTERS_OF_LINES[k % 8]}`);
          entry.append(remove);
        }
        return entry;
      }));
    },
  };
}
