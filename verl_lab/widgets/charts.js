// Draws the charts of one run with Plotly. Knows nothing of widgets or kernels, and gives Plotly no
// text from outside: Plotly takes some of HTML in names, so names are written beside it as text.

const PLOT_HEIGHT_PX = 150;
const FEW_POINTS = 12;
const MARKS = { 0: ["x-thin-open", 0.05], 1: ["triangle-up", 0.95], "-1": ["triangle-down", 0.05] };
const CONFIG = { displayModeBar: false, doubleClick: "reset", showTips: false, showAxisDragHandles: false };

/** Make an element with a class, text and attributes. */
export function element(tag, className, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** Set text only where it differs, so that a selection or a screen reader is not disturbed. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Charts in a grid, one for each metric, updated in place.
 *
 * `update(charts)` takes `{metric, label, unit, last, odd, count, steps, values, marks}` each, with
 * typed arrays for `steps` and `values`; `null` shows empty frames. `use(Plotly)` begins to draw.
 */
export function createCharts(grid) {
  const frames = new Map();
  let plotly = null;
  let scheduled = 0;

  const draw = () => {
    scheduled = 0;
    if (!plotly || !grid.offsetWidth) return;
    for (const frame of frames.values()) {
      if (!frame.stale || !frame.chart) continue;
      frame.stale = false;
      plotly.react(frame.plot, traces(frame.chart), layout(frame.chart, frame.plot.clientWidth), CONFIG);
    }
  };
  const schedule = () => (scheduled ||= requestAnimationFrame(draw));
  const resized = new ResizeObserver(() => {
    for (const frame of frames.values()) frame.stale = true;
    schedule();
  });
  resized.observe(grid);

  const remove = (metric) => {
    const frame = frames.get(metric);
    if (plotly && frame.plot.data) plotly.purge(frame.plot);
    frame.root.remove();
    frames.delete(metric);
  };

  return {
    update(charts) {
      const wanted = charts ?? Array.from({ length: 6 }, (_, place) => ({ metric: place, label: "", unit: "" }));
      const metrics = new Set(wanted.map((chart) => chart.metric));
      for (const metric of [...frames.keys()]) if (!metrics.has(metric)) remove(metric);
      wanted.forEach((chart, place) => {
        if (!frames.has(chart.metric)) frames.set(chart.metric, createFrame());
        const frame = frames.get(chart.metric);
        if (grid.children[place] !== frame.root) grid.insertBefore(frame.root, grid.children[place] ?? null);
        setText(frame.label, chart.label);
        setText(frame.unit, chart.unit);
        setText(frame.odd, chart.odd ?? "");
        setText(frame.last, chart.count ? chart.last : "");
        frame.root.title = chart.label === chart.metric ? "" : String(chart.metric);
        if (!charts || sameData(frame.chart, chart)) return;
        frame.plot.setAttribute("aria-label", `${chart.label}: ${chart.count} values, the last is ${chart.last}`);
        frame.chart = chart;
        frame.stale = true;
      });
      schedule();
    },
    use(library) {
      plotly = library;
      schedule();
    },
    destroy() {
      cancelAnimationFrame(scheduled);
      resized.disconnect();
      for (const metric of [...frames.keys()]) remove(metric);
    },
  };
}

function createFrame() {
  const root = element("figure", "verl-lab-chart");
  const caption = element("figcaption", "");
  const label = element("b", "");
  const unit = element("span", "verl-lab-unit");
  const odd = element("span", "verl-lab-odd");
  const last = element("em", "");
  const plot = element("div", "verl-lab-plot", "", { role: "img" });
  plot.style.height = `${PLOT_HEIGHT_PX}px`;
  caption.append(label, unit, odd, last);
  root.append(caption, plot);
  return { root, label, unit, odd, last, plot, chart: null, stale: false };
}

function sameData(old, chart) {
  return (
    old !== null &&
    old.last === chart.last &&
    old.count === chart.count &&
    sameBytes(old.steps, chart.steps) &&
    sameBytes(old.values, chart.values)
  );
}

function sameBytes(one, other) {
  if (one.byteLength !== other.byteLength) return false;
  const a = new Uint8Array(one.buffer);
  const b = new Uint8Array(other.buffer);
  return a.every((byte, place) => byte === b[place]);
}

function traces(chart) {
  const { steps, values } = chart;
  const alone = (place) => Number.isNaN(values[place - 1] ?? NaN) && Number.isNaN(values[place + 1] ?? NaN);
  const few = steps.length <= FEW_POINTS;
  // A value between two gaps has no line: it gets a dot.
  const sizes = few ? 5 : Array.from(values, (_, place) => (alone(place) ? 5 : 0));
  const dotted = few || sizes.some((size) => size > 0);
  const [markSteps, markKinds] = chart.marks;
  return [
    {
      type: "scatter",
      mode: dotted ? "lines+markers" : "lines",
      x: steps,
      y: values,
      cliponaxis: !few,
      line: { width: 1.6, simplify: false },
      marker: { size: dotted ? sizes : 0, opacity: 1, line: { width: 0 } },
      hovertemplate: "step %{x:,d}<br><b>%{y:.7~g}</b><extra></extra>",
    },
    {
      type: "scatter",
      mode: "markers",
      x: markSteps,
      y: markKinds.map((kind) => MARKS[kind][1]),
      yaxis: "y2",
      marker: { size: 7, symbol: markKinds.map((kind) => MARKS[kind][0]), line: { width: 1.5 } },
      text: markKinds.map((kind) => ({ 0: "NaN", 1: "+∞", "-1": "−∞" })[kind]),
      hovertemplate: "step %{x:,d}<br><b>%{text}</b><extra></extra>",
    },
  ];
}

function layout(chart, width) {
  const { steps } = chart;
  const spread = steps.length ? steps[steps.length - 1] - steps[0] : 0;
  return {
    width,
    height: PLOT_HEIGHT_PX,
    margin: { l: 42, r: 8, t: 8, b: 22 },
    showlegend: false,
    hovermode: "x",
    dragmode: "zoom",
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { size: 11 },
    uirevision: chart.metric,
    xaxis: {
      showgrid: false,
      zeroline: false,
      nticks: Math.max(2, Math.min(6, Math.floor(width / 60))),
      tickangle: 0,
      tickformat: ",d",
      hoverformat: ",d",
      ...(spread < 6 ? { dtick: 1 } : {}),
      ...(spread === 0 && steps.length ? { range: [steps[0] - 1, steps[0] + 1] } : {}),
    },
    yaxis: { zeroline: false, nticks: 5, fixedrange: true, exponentformat: "e", minexponent: 4, ...flatRange(chart) },
    yaxis2: { overlaying: "y", range: [0, 1], visible: false, fixedrange: true },
  };
}

/** A flat line gets an axis of its own size: Plotly's would span two, whatever the value. */
function flatRange({ values }) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low !== high) return low < high ? {} : { range: [0, 1] };
  return { range: [Math.min(0, 2 * low), Math.max(0, 2 * low) || (low ? 0 : 1)] };
}
