// The charts of a panel in a grid, drawn in place; a pointer in one is shown in all.
import { element, setText } from "./dom.js";
import { PLOT_HEIGHT_PX, layout, traces } from "./plots.js";

const CONFIG = { displayModeBar: false, doubleClick: false, showTips: false, showAxisDragHandles: false };
const EMPTY_CHARTS = 6;

/** A message's buffers as arrays beside the traces they belong to. */
export function withArrays(message, buffers) {
  let next = 0;
  const array = (type) => {
    const view = buffers[next++];
    const bytes = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
    return type === "f8" ? new Float64Array(bytes) : new Float32Array(bytes);
  };
  const read = (trace) => ({ ...trace, places: array(trace.types[0]), values: array(trace.types[1]) });
  return message.charts.map((chart) => ({ ...chart, traces: chart.traces.map(read) }));
}

/**
 * `update(charts, message)` takes charts with their arrays and the message's `axis`, `lines` and
 * `view`; without charts it shows empty frames. `use(Plotly)` begins to draw. `select(span)` is called
 * with a range of the axis that was dragged over, with null after a double click.
 */
export function createCharts(grid, select) {
  const frames = new Map();
  let plotly = null;
  let scheduled = 0;
  let shared = null;
  let hovering = false;

  const draw = () => {
    scheduled = 0;
    if (!plotly || !grid.offsetWidth) return;
    for (const frame of frames.values()) {
      if (!frame.stale || !frame.chart) continue;
      frame.stale = false;
      const fresh = !frame.plot.data;
      const width = frame.plot.clientWidth;
      plotly.react(frame.plot, traces(frame.chart, shared.axis, shared.lines), layout(frame.chart, shared.axis, shared.view, width), CONFIG);
      if (fresh) listen(frame);
    }
  };
  const schedule = () => (scheduled ||= requestAnimationFrame(draw));
  const resized = new ResizeObserver(() => {
    for (const frame of frames.values()) frame.stale = true;
    schedule();
  });
  resized.observe(grid);

  const others = (frame, act) => {
    if (hovering) return;
    hovering = true;
    for (const other of frames.values()) if (other !== frame && other.plot.data) act(other.plot);
    hovering = false;
  };
  const listen = (frame) => {
    frame.plot.on("plotly_hover", ({ points }) => {
      const x = points[0].x;
      others(frame, (plot) => plotly.Fx.hover(plot, { xval: x }, "xy", true));
    });
    frame.plot.on("plotly_unhover", () => others(frame, (plot) => plotly.Fx.unhover(plot, {}, "xy")));
    frame.plot.on("plotly_doubleclick", () => select(null));
    frame.plot.on("plotly_relayout", (change) => {
      const span = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
      if (span.every(Number.isFinite)) select(span.map((place) => place * shared.axis.scale));
    });
  };
  const remove = (metric) => {
    const frame = frames.get(metric);
    if (plotly && frame.plot.data) plotly.purge(frame.plot);
    frame.root.remove();
    frames.delete(metric);
  };

  return {
    update(charts, message) {
      const wanted = charts ?? Array.from({ length: EMPTY_CHARTS }, (_, place) => ({ metric: place, label: "", unit: "" }));
      const metrics = new Set(wanted.map((chart) => chart.metric));
      for (const metric of [...frames.keys()]) if (!metrics.has(metric)) remove(metric);
      shared = message;
      const common = charts ? JSON.stringify([message.axis, message.lines, message.view]) : "";
      wanted.forEach((chart, place) => {
        if (!frames.has(chart.metric)) frames.set(chart.metric, createFrame());
        const frame = frames.get(chart.metric);
        if (grid.children[place] !== frame.root) grid.insertBefore(frame.root, grid.children[place] ?? null);
        setText(frame.label, chart.label);
        setText(frame.unit, chart.unit);
        setText(frame.odd, chart.odd ?? "");
        setText(frame.last, chart.count ? `${message.lines.length > 1 ? "A " : ""}${chart.last}` : "");
        frame.root.title = chart.label === chart.metric ? "" : String(chart.metric);
        if (!charts || (frame.common === common && sameData(frame.chart, chart))) return;
        frame.plot.setAttribute("aria-label", `${chart.label}: ${chart.count} values, the last is ${chart.last}`);
        frame.chart = chart;
        frame.common = common;
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
  return { root, label, unit, odd, last, plot, chart: null, common: "", stale: false };
}

function sameData(old, chart) {
  const said = ({ last, count, flags, limits, traces }) => JSON.stringify([last, count, flags, limits, traces.length]);
  return (
    old !== null &&
    said(old) === said(chart) &&
    chart.traces.every((trace, place) => {
      const before = old.traces[place];
      return sameBytes(before.places, trace.places) && sameBytes(before.values, trace.values);
    })
  );
}

function sameBytes(one, other) {
  if (one.byteLength !== other.byteLength) return false;
  const a = new Uint8Array(one.buffer);
  const b = new Uint8Array(other.buffer);
  return a.every((byte, place) => byte === b[place]);
}
