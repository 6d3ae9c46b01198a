import type { ILayoutRestorer, JupyterFrontEnd } from "@jupyterlab/application";
import { MainAreaWidget, WidgetTracker } from "@jupyterlab/apputils";
import type { ServerConnection } from "@jupyterlab/services";
import type { IDisposable } from "@lumino/disposable";
import type { Message } from "@lumino/messaging";
import { Widget } from "@lumino/widgets";
import type { Session } from "../panel/context";
import { mountPanel } from "../renderer/mount";
import { icon } from "../ui/icon";

/** The full panel of one run. */
class RunView extends Widget {
  private live: IDisposable | null = null;

  constructor(
    readonly run: string,
    private readonly settings: ServerConnection.ISettings,
  ) {
    super();
    this.addClass("vl-document");
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this.live ??= mountPanel(this.node, { view: "run", runs: [this.run], metrics: [] }, this.settings);
  }

  override dispose(): void {
    this.live?.dispose();
    super.dispose();
  }
}

/** The runs that are open in the main area, one tab each; they are there again after a reload. */
export class RunDocuments {
  private readonly tracker = new WidgetTracker<MainAreaWidget<RunView>>({ namespace: "verl-lab-runs" });

  constructor(
    private readonly app: JupyterFrontEnd,
    private readonly session: Session,
    restorer: ILayoutRestorer | null,
  ) {
    void restorer?.restore(this.tracker, {
      command: "verl-lab:open",
      args: ({ content }) => ({ runs: [content.run] }),
      name: ({ content }) => content.run,
    });
    session.live.rows.changed.connect(() => {
      this.tracker.forEach((widget) => {
        this.name(widget);
      });
    });
  }

  open(run: string): void {
    const { app, tracker } = this;
    let widget = tracker.find(({ content }) => content.run === run);
    if (!widget) {
      const content = new RunView(run, app.serviceManager.serverSettings);
      widget = new MainAreaWidget({ content });
      widget.id = `verl-lab-run-${run}`;
      widget.toolbar.hide();
      widget.title.icon = icon;
      widget.title.closable = true;
      this.name(widget);
      void tracker.add(widget);
      app.shell.add(widget, "main", { type: "verl-lab" });
    }
    app.shell.activateById(widget.id);
  }

  private name({ content, title }: MainAreaWidget<RunView>): void {
    title.label = this.session.live.rows.value.get(content.run)?.name ?? content.run;
    title.caption = content.run;
  }
}
