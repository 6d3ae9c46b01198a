// One chart in Plotly's terms. Plotly takes some of HTML in texts, so it is given none from outside.
import { severityWord } from "./dom.js";

export const PLOT_HEIGHT_PX = 150;
const FEW_POINTS = 12;
const MARKS = { 0: ["x-thin-open", 0.05], 1: ["triangle-up", 0.95], "-1": ["triangle-down", 0.05] };
const DASHES = ["solid", "8px,3px", "2px,3px", "8px,3px,2px,3px", "14px,4px", "1px,4px", "12px,3px,3px,3px,3px,3px"];
const LETTERS = "ABCDEFGH";

/** Everything that is drawn in a chart, what matters most last. */
export function traces(chart, axis, lines) {
  const several = lines.length > 1;
  const at = axis.kind === "step" ? "step %{x:,d}" : `%{x:.4~g}${axis.suffix}`;
  const drawn = chart.traces.map((trace) => {
    const letter = several ? `${LETTERS[trace.line % 8]} ` : "";
    return {
      ...curve(trace),
      uid: `vl${trace.line}${trace.raw ? "raw" : ""}`,
      ...(trace.raw
        ? { hoverinfo: "skip" }
        : { hovertemplate: `${trace.line ? "" : `${at}<br>`}<b>${letter}%{y:.7~g}</b><extra></extra>` }),
    };
  });
  return [...drawn.reverse(), ...limits(chart, axis), ...flags(chart), marks(chart)];
}

function curve({ places, values, line }) {
  const alone = (place) => Number.isNaN(values[place - 1] ?? NaN) && Number.isNaN(values[place + 1] ?? NaN);
  const few = places.length <= FEW_POINTS;
  // A value between two gaps has no line: it gets a dot.
  const sizes = few ? 5 : Array.from(values, (_, place) => (alone(place) ? 5 : 0));
  const dotted = few || sizes.some((size) => size > 0);
  return {
    type: "scatter",
    mode: dotted ? "lines+markers" : "lines",
    x: places,
    y: values,
    cliponaxis: !few,
    line: { width: 1.6, simplify: false, dash: DASHES[line % DASHES.length] },
    marker: { size: dotted ? sizes : 0, opacity: 1, line: { width: 0 } },
  };
}

function limits(chart, axis) {
  return chart.limits.map(({ y, severity }) => ({
    type: "scatter",
    mode: "lines",
    x: axis.extent,
    y: [y, y],
    uid: `vllimit${severity}`,
    hoverinfo: "skip",
    line: { width: 1.2, dash: "4px,3px" },
  }));
}

function flags(chart) {
  const severities = [...new Set(chart.flags.map((flag) => flag.severity))];
  return severities.map((severity) => {
    const own = chart.flags.filter((flag) => flag.severity === severity);
    return {
      type: "scatter",
      mode: "markers",
      x: own.map((flag) => flag.x),
      y: own.map((flag) => flag.y),
      uid: `vlflag${severity}`,
      cliponaxis: false,
      marker: { size: 8, opacity: 1, line: { width: 0 } },
      hovertemplate: `<b>${severityWord(severity)}</b><extra></extra>`,
    };
  });
}

function marks(chart) {
  const [places, kinds] = chart.marks;
  return {
    type: "scatter",
    mode: "markers",
    x: places,
    y: kinds.map((kind) => MARKS[kind][1]),
    yaxis: "y2",
    uid: "vlmarks",
    marker: { size: 7, symbol: kinds.map((kind) => MARKS[kind][0]), line: { width: 1.5 } },
    text: kinds.map((kind) => ({ 0: "NaN", 1: "+∞", "-1": "−∞" })[kind]),
    hovertemplate: "<b>%{text}</b><extra></extra>",
  };
}

export function layout(chart, axis, view, width) {
  const [first, last] = axis.extent;
  const spread = last - first;
  const steps = axis.kind === "step";
  const flat = flatRange(chart);
  return {
    width,
    height: PLOT_HEIGHT_PX,
    margin: { l: 42, r: 10, t: 8, b: 22 },
    showlegend: false,
    hovermode: "x",
    dragmode: "zoom",
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { size: 11 },
    uirevision: [chart.metric, axis.kind, view.span, view.log].join(" "),
    xaxis: {
      showgrid: false,
      zeroline: false,
      nticks: Math.max(2, Math.min(6, Math.floor(width / 60))),
      tickangle: 0,
      tickformat: steps ? ",d" : ".4~g",
      hoverformat: steps ? ",d" : ".4~g",
      ticksuffix: axis.suffix,
      range: spread > 0 ? [first, last] : [first - 1, first + 1],
      ...(steps && spread < 6 ? { dtick: 1 } : {}),
    },
    yaxis: {
      type: view.log ? "log" : "linear",
      zeroline: false,
      nticks: 5,
      fixedrange: true,
      exponentformat: "e",
      minexponent: 4,
      ...(view.log ? logTicks(chart) : chart.bounds ? { range: chart.bounds } : flat),
    },
    yaxis2: { overlaying: "y", range: [0, 1], visible: false, fixedrange: true },
  };
}

/** The least and the greatest of what is drawn, of `wanted` values only. */
function range(chart, wanted = () => true) {
  let low = Infinity;
  let high = -Infinity;
  const take = (value) => {
    if (!wanted(value)) return;
    if (value < low) low = value;
    if (value > high) high = value;
  };
  for (const { values } of chart.traces) values.forEach(take);
  for (const { y } of chart.limits) take(y);
  return [low, high];
}

/** A flat line gets an axis of its own size: Plotly's would span two, whatever the value. */
function flatRange(chart) {
  const [low, high] = range(chart);
  if (low < high) return {};
  if (low > high) return { range: [0, 1] };
  return { range: [Math.min(0, 2 * low), Math.max(0, 2 * low) || (low ? 0 : 1)] };
}

/** Three to five ticks: powers of ten over several decades, round numbers within one. */
function logTicks(chart) {
  const [low, high] = range(chart, (value) => value > 0);
  if (!(low < high)) return {};
  const decades = Math.log10(high / low);
  if (decades > 2) return { dtick: Math.max(1, Math.round(decades / 4)) };
  const ticks = [];
  const rough = decades > 1 ? [1, 3] : [1, 1.5, 2, 3, 5, 7];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    ticks.push(...rough.map((factor) => Number((factor * 10 ** power).toPrecision(3))));
  }
  const inside = ticks.filter((tick) => tick >= low && tick <= high);
  if (inside.length > 1) return { tickmode: "array", tickvals: inside };
  const between = [0, 1, 2].map((third) => Number((low + (third * (high - low)) / 2).toPrecision(3)));
  return { tickmode: "array", tickvals: between };
}
