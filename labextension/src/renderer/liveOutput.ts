import type { IRenderMime, IRenderMimeRegistry } from "@jupyterlab/rendermime";
import type { ServerConnection } from "@jupyterlab/services";
import type { IDisposable } from "@lumino/disposable";
import { Panel, type Widget } from "@lumino/widgets";
import { mountPanel } from "./mount";
import { PANEL_MIME, readOutput } from "./output";

const WIDGET_MIME = "application/vnd.jupyter.widget-view+json";
const LOOK_AGAIN_MS = 200;

/** An output that lives from the server; where the server cannot show it, what else the output holds. */
export class LiveOutput extends Panel implements IRenderMime.IRenderer {
  private live: IDisposable | null = null;
  private shown = "";
  private turn = 0;

  constructor(
    private readonly settings: ServerConnection.ISettings,
    private readonly registry: IRenderMimeRegistry,
  ) {
    super();
    this.addClass("verl-lab-output");
  }

  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    const output = readOutput(model.data[PANEL_MIME]);
    const told = JSON.stringify(output);
    if (output !== null && told === this.shown) {
      return;
    }
    this.clear();
    this.shown = told;
    if (output === null) {
      await this.renderRest(model);
      return;
    }
    const place = document.createElement("div");
    this.node.append(place);
    this.live = mountPanel(place, output, this.settings, () => {
      this.clear();
      void this.renderRest(model);
    });
  }

  override dispose(): void {
    this.clear();
    super.dispose();
  }

  private clear(): void {
    this.turn += 1;
    this.live?.dispose();
    this.live = null;
    for (const widget of [...this.widgets]) {
      widget.dispose();
    }
    this.node.replaceChildren();
    delete this.node.dataset.mimeType;
  }

  /** Show what JupyterLab would show without us. */
  private async renderRest(model: IRenderMime.IMimeModel): Promise<void> {
    const { turn } = this;
    // Whoever makes a renderer puts it into its place after that.
    await Promise.resolve();
    const { [PANEL_MIME]: _, ...rest } = model.data;
    const registry = this.registryHere();
    const type = registry.preferredMimeType(rest, model.trusted ? "any" : "ensure");
    // A notebook gets its own factory of widgets with its kernel; what the common one makes inside of another
    // renderer waits for good.
    while (type === WIDGET_MIME && registry !== this.registry && isSame(type, registry, this.registry)) {
      await new Promise((done) => setTimeout(done, LOOK_AGAIN_MS));
      if (turn !== this.turn) {
        return;
      }
    }
    if (type === undefined || turn !== this.turn) {
      return;
    }
    if (type !== WIDGET_MIME) {
      // The picture below hides an output that is a widget without a kernel: it knows one by the lack of this.
      this.node.dataset.mimeType = type;
    }
    const renderer = registry.createRenderer(type);
    this.addWidget(renderer);
    await renderer.renderModel(model);
  }

  /** The notebook's own registry, since only that one knows the widgets of its kernel. */
  private registryHere(): IRenderMimeRegistry {
    for (let above: Widget | null = this.parent; above !== null; above = above.parent) {
      if ("rendermime" in above) {
        return above.rendermime as IRenderMimeRegistry;
      }
    }
    return this.registry;
  }
}

function isSame(type: string, one: IRenderMimeRegistry, other: IRenderMimeRegistry): boolean {
  return one.getFactory(type) === other.getFactory(type);
}
