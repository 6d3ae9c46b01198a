// The live panel: takes what the kernel or the server says, hands it to its parts, and sends back what a person asks for.
import { createCharts, withArrays } from "./charts.js";
import { element, save, speakFor } from "./dom.js";
import { createBanner, createFindings } from "./findings.js";
import { createActions, createHeader } from "./header.js";
import { createHealth } from "./health.js";
import { wantLibrary } from "./library.js";
import { createPicker } from "./picker.js";
import { createPlayer } from "./player.js";
import { createSamples } from "./samples.js";
import { createConfiguration, createLog } from "./tables.js";
import { createTabs } from "./tabs.js";
import { createLegend, createToolbar } from "./toolbar.js";

function render({ model, el }) {
  const { view, send } = speakFor(model);
  const root = element("section", "verl-lab-panel", "", { "aria-label": "Training run", "data-lm-suppress-shortcuts": "true" });
  const health = createHealth();
  const actions = createActions(send);
  const header = createHeader(health, actions);
  const player = createPlayer(send);
  const banner = createBanner(send, () => tabs.choose("findings"));
  const picker = createPicker(send);
  const toolbar = createToolbar(send, { overlays: true });
  const legend = createLegend(send);
  const grid = element("div", "verl-lab-grid");
  const drawn = element("div", "");
  const findings = createFindings(send);
  const samples = createSamples(send);
  const configuration = createConfiguration(send);
  const log = createLog(send);
  drawn.append(picker.root, legend.root, grid);
  const tabs = createTabs([
    { id: "charts", label: "Charts", root: drawn, tools: toolbar.root },
    { id: "samples", label: "Samples", root: samples.root, shown: samples.shown },
    { id: "findings", label: "Findings", root: findings.root },
    { id: "configuration", label: "Configuration", root: configuration.root, shown: configuration.shown },
    { id: "log", label: "Log", root: log.root, shown: log.shown },
  ]);
  root.append(header.root, player.root, banner.root, tabs.root);
  el.append(root);
  const charts = createCharts(grid, (span) => send({ type: "view", span }));
  charts.update(null);
  legend.root.hidden = true;

  const show = (message, buffers) => {
    root.classList.add("verl-lab-live");
    header.update(message.header);
    header.alarm(message.problem);
    health.update(message.health);
    actions.update(message.header);
    player.update(message.header.playback);
    banner.update(message.banner, message.active);
    tabs.label("findings", message.active ? `Findings ${message.active}` : "Findings");
    log.live(message.header.live);
    picker.update(message.chips, message.count);
    toolbar.update(message);
    legend.update(message);
    charts.update(message.count ? withArrays(message, buffers) : null, message);
  };
  const mine = {
    samples: samples.update,
    sample: samples.whole,
    config: configuration.update,
    log: log.update,
    others: toolbar.list,
    download: (message, buffers) => save(message.name, buffers[0]),
  };
  const heard = (message, buffers) => {
    if (message.type === "snapshot") show(message, buffers);
    else if (message.type === "library") library.heard(buffers);
    else if (message.type === "names") picker.list(message);
    else if (message.type === "findings") findings.update(message);
    else if (message.type === "problem") {
      root.classList.add("verl-lab-live");
      header.alarm(message.text);
      actions.update(null);
    } else if (message.to === view) mine[message.type]?.(message, buffers);
  };
  // A kernel that restarts takes the run's reader along: the clock must not go on without it. The
  // next snapshot, if there is one, sets everything right. What is no kernel says what is lost.
  const lost = (said) => {
    header.pause();
    header.alarm(typeof said === "string" ? said : "The kernel that showed this run is gone; this is what it said last.");
  };
  model.on("msg:custom", heard);
  model.on("comm_live_update", lost);
  const library = wantLibrary(send, charts.use, header.alarm, model.library);
  send({ type: "ready" });

  return () => {
    model.off("msg:custom", heard);
    model.off("comm_live_update", lost);
    for (const part of [library, header, charts, health, picker, toolbar, player, tabs]) part.destroy();
  };
}

export default { render };
