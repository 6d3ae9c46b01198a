import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette, ReactWidget } from "@jupyterlab/apputils";
import { ILauncher } from "@jupyterlab/launcher";
import { INotebookTracker } from "@jupyterlab/notebook";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import { IStatusBar } from "@jupyterlab/statusbar";
import { ITranslator, nullTranslator } from "@jupyterlab/translation";
import * as React from "react";
import { Client } from "./api/client";
import { LiveRuns } from "./api/live";
import { Actions } from "./cells/actions";
import { runCells } from "./cells/insert";
import { addCommands, CATEGORY, COMMANDS } from "./commands";
import { tellFindings } from "./notifications";
import type { Session, TabId } from "./panel/context";
import { Panel } from "./panel/Panel";
import { RunDocuments } from "./run/documents";
import { Settings } from "./settings";
import { StatusItem } from "./status/StatusItem";
import { icon } from "./ui/icon";
import { Store } from "./ui/store";

const ID = "verl-lab:panel";

/** The side panel, and all that opens from it. */
export const panelPlugin: JupyterFrontEndPlugin<void> = {
  id: ID,
  description: "A side panel of training runs, recipes, hosts and data.",
  autoStart: true,
  requires: [INotebookTracker],
  optional: [ITranslator, ISettingRegistry, ICommandPalette, ILauncher, IStatusBar, ILayoutRestorer],
  activate,
};

function activate(
  app: JupyterFrontEnd,
  notebooks: INotebookTracker,
  translator: ITranslator | null,
  registry: ISettingRegistry | null,
  palette: ICommandPalette | null,
  launcher: ILauncher | null,
  statusBar: IStatusBar | null,
  restorer: ILayoutRestorer | null,
): void {
  const trans = (translator ?? nullTranslator).load("verl_lab");
  const settings = new Settings();
  void settings.follow(registry, ID);
  const client = new Client(app.serviceManager.serverSettings);
  const live = new LiveRuns(client);
  const session: Session = {
    client,
    live,
    actions: new Actions(
      client,
      () => settings.actions,
      (...texts) => runCells(app, notebooks, ...texts),
    ),
    commands: app.commands,
    trans,
    tab: new Store<TabId>("runs"),
    selection: new Store<ReadonlySet<string>>(new Set()),
  };

  const panel = ReactWidget.create(React.createElement(Panel, { session }));
  panel.id = "verl-lab-panel";
  panel.addClass("vl-panel");
  panel.title.icon = icon;
  panel.title.caption = trans.__("verl-lab: training runs");
  panel.node.setAttribute("role", "region");
  panel.node.setAttribute("aria-label", trans.__("verl-lab: training runs"));
  app.shell.add(panel, "left", { rank: 550, type: "verl-lab" });
  restorer?.add(panel, panel.id);

  const documents = new RunDocuments(app, session, restorer);
  addCommands(app, session, {
    show: (tab) => {
      if (tab) session.tab.set(tab);
      app.shell.activateById(panel.id);
    },
    open: (run) => documents.open(run),
  });
  for (const command of COMMANDS) {
    palette?.addItem({ command, category: CATEGORY });
  }
  launcher?.add({ command: "verl-lab:show", category: trans.__("Other"), rank: 5 });
  launcher?.add({ command: "verl-lab:demo", category: trans.__("Other"), rank: 6 });
  if (statusBar) {
    const item = ReactWidget.create(React.createElement(StatusItem, { session }));
    statusBar.registerStatusItem("verl-lab:status", { item, align: "left", rank: 8 });
  }
  tellFindings(session, settings);
}
