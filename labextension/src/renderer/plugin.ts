import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { IRenderMimeRegistry } from "@jupyterlab/rendermime";
import { LiveOutput } from "./liveOutput";
import { PANEL_MIME } from "./output";

// Before the widget view, whose rank is -10.
const RANK = -20;

/** Draws the panels in outputs from the server, whatever has become of the kernel. */
export const rendererPlugin: JupyterFrontEndPlugin<void> = {
  id: "verl-lab:renderer",
  description: "Draws the panels in outputs from the server, whatever has become of the kernel.",
  autoStart: true,
  requires: [IRenderMimeRegistry],
  activate: (app: JupyterFrontEnd, registry: IRenderMimeRegistry) => {
    const createRenderer = () => new LiveOutput(app.serviceManager.serverSettings, registry);
    registry.addFactory({ safe: true, mimeTypes: [PANEL_MIME], createRenderer }, RANK);
  },
};
