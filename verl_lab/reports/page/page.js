// Draws a report's charts, as a panel draws them, from what lies in the page.

const LETTERS_OF_LINES = "ABCDEFGH";

function bytesOf(text) {
  const raw = atob(text);
  return Uint8Array.from(raw, (character) => character.charCodeAt(0));
}

function createLegend(lines) {
  const legend = element("div", "verl-lab-legend");
  lines.forEach(({ name, drawn }, k) => {
    const line = element("span", "verl-lab-line", "", { "data-line": String(k) });
    line.append(element("i", ""), element("b", "", LETTERS_OF_LINES[k % 8]), element("span", "", drawn ? name : `${name} (its log has no times)`));
    legend.append(line);
  });
  return legend;
}

/** Charts in place of their picture, which stays for print; a range that is dragged over is shown in all of them. */
function createReportCharts(place) {
  const message = JSON.parse(place.querySelector("script").textContent);
  const charts = withArrays(message, message.buffers.map(bytesOf));
  const root = element("div", "verl-lab-panel");
  const grid = element("div", "verl-lab-grid");
  const whole = message.axis.extent;
  const show = (extent) => {
    const axis = { ...message.axis, extent };
    shown.update(charts, { ...message, axis, view: { ...message.view, span: extent === whole ? null : extent } });
  };
  const shown = createCharts(grid, (span) => show(span ? span.map((end) => end / message.axis.scale) : whole));
  if (message.lines.length > 1) root.append(createLegend(message.lines));
  root.append(grid, element("p", "verl-lab-report-hint", "Drag over a chart to look closer; a double click shows all again."));
  return {
    use(plotly) {
      place.append(root);
      place.classList.add("verl-lab-report-alive");
      show(whole);
      shown.use(plotly);
    },
  };
}

const places = [...document.querySelectorAll(".verl-lab-report-charts")].map(createReportCharts);
const library = wantLibrary(
  () => queueMicrotask(() => library.heard([bytesOf(document.getElementById("verl-lab-library").textContent)])),
  (plotly) => {
    for (const place of places) place.use(plotly);
  },
  (problem) => console.error(problem),
);
