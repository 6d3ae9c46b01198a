import type { JupyterFrontEnd } from "@jupyterlab/application";
import { type INotebookTracker, type Notebook, NotebookActions, type NotebookPanel } from "@jupyterlab/notebook";

const LOAD = "%load_ext verl_lab";
const ASKED_MS = 1500;

/** Put cells into the notebook in front, or into one made for them, and run them; one that fails keeps back the rest. */
export async function runCells(app: JupyterFrontEnd, tracker: INotebookTracker, ...texts: string[]): Promise<void> {
  const panel = tracker.currentWidget ?? (await makeNotebook(app));
  await panel.context.ready;
  app.shell.activateById(panel.id);
  const loads = hasLoad(panel.content);
  if (!loads || (await isMissing(panel))) {
    texts.unshift(LOAD);
  }
  for (const text of texts) {
    write(panel.content, text);
    // Not waited for: the kernel may be busy for hours, and what fails is told in the cell.
    void NotebookActions.run(panel.content, panel.sessionContext);
  }
}

async function makeNotebook(app: JupyterFrontEnd): Promise<NotebookPanel> {
  const { kernelspecs } = app.serviceManager;
  await kernelspecs.ready;
  const kernelName = kernelspecs.specs?.default ?? "python3";
  const panel = (await app.commands.execute("notebook:create-new", { kernelName, activate: true })) as NotebookPanel;
  await panel.context.ready;
  await panel.sessionContext.ready;
  return panel;
}

function hasLoad(notebook: Notebook): boolean {
  return notebook.widgets.some((cell) => /^\s*%(load|reload)_ext verl_lab\b/m.test(cell.model.sharedModel.getSource()));
}

/** Whether the kernel, which may have been started again, lacks the magics; one that is busy is believed to have them. */
async function isMissing(panel: NotebookPanel): Promise<boolean> {
  const kernel = panel.sessionContext.session?.kernel;
  if (!kernel || kernel.status === "busy") {
    return false;
  }
  const expression = "'verl_train' in get_ipython().magics_manager.magics['line']";
  const future = kernel.requestExecute({
    code: "",
    silent: true,
    store_history: false,
    user_expressions: { loaded: expression },
  });
  const late = new Promise<null>((done) => setTimeout(() => done(null), ASKED_MS));
  const reply = await Promise.race([future.done, late]);
  const found = reply?.content.status === "ok" ? reply.content.user_expressions.loaded : undefined;
  return (found as { data?: Record<string, string> } | undefined)?.data?.["text/plain"] === "False";
}

/** Write a cell below the active one, or into that where it is empty, and make it the active one. */
function write(notebook: Notebook, text: string): void {
  const { activeCell } = notebook;
  const empty = activeCell?.model.type === "code" && activeCell.model.sharedModel.getSource().trim() === "";
  if (!empty) {
    NotebookActions.insertBelow(notebook);
  }
  notebook.deselectAll();
  notebook.activeCell?.model.sharedModel.setSource(text);
  notebook.mode = "command";
}
