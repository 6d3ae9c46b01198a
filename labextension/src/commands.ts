import type { JupyterFrontEnd } from "@jupyterlab/application";
import { Dialog, Notification, showDialog } from "@jupyterlab/apputils";
import type { CommandRegistry } from "@lumino/commands";
import type { ReadonlyPartialJSONObject } from "@lumino/coreutils";
import { RefusedError } from "./api/client";
import type { RunRow } from "./api/types";
import { allowed } from "./cells/actions";
import type { Session, TabId } from "./panel/context";
import { icon } from "./ui/icon";
import { asError } from "./ui/request";

export const CATEGORY = "verl-lab";

interface Places {
  show: (tab?: TabId) => void;
  open: (run: string) => void;
}

/** Those that the palette lists. */
export const COMMANDS = [
  "verl-lab:show",
  "verl-lab:demo",
  "verl-lab:launch",
  "verl-lab:hosts",
  "verl-lab:open",
  "verl-lab:watch",
  "verl-lab:compare",
  "verl-lab:diff",
  "verl-lab:stop",
  "verl-lab:stop-now",
  "verl-lab:resume",
  "verl-lab:report",
];

/** Add what can be done with runs: with those of `args.runs`, those under the mouse, or those chosen in the list. */
export function addCommands(app: JupyterFrontEnd, session: Session, places: Places): void {
  const { actions, live, selection, trans } = session;
  const chosen = (args: ReadonlyPartialJSONObject): RunRow[] => {
    const hit = app.contextMenuHitTest((node) => node.dataset.run !== undefined)?.dataset.run;
    const named = Array.isArray(args.runs) ? (args.runs as string[]) : null;
    const under = hit && !selection.value.has(hit) ? [hit] : [...selection.value];
    return (named ?? under).flatMap((id) => live.rows.value.get(id) ?? []);
  };
  const add = (
    name: string,
    label: string,
    may: keyof ReturnType<typeof allowed>,
    does: (runs: [string, ...string[]]) => unknown,
    more: Partial<CommandRegistry.ICommandOptions> = {},
  ) => {
    // A run may be opened that is not listed: from a data set, or when the page is loaded again.
    const can = (args: ReadonlyPartialJSONObject) =>
      allowed(chosen(args))[may] || (may === "open" && Array.isArray(args.runs));
    app.commands.addCommand(`verl-lab:${name}`, {
      label,
      isEnabled: can,
      isVisible: can,
      execute: async (args) => {
        const runs = chosen(args).map((row) => row.id);
        const [first, ...rest] = runs.length ? runs : ((args.runs as string[] | undefined) ?? []);
        if (first === undefined) {
          return;
        }
        try {
          await does([first, ...rest]);
        } catch (error) {
          tell(asError(error));
        }
      },
      ...more,
    });
  };

  app.commands.addCommand("verl-lab:show", {
    label: trans.__("Training runs"),
    caption: trans.__("Show verl-lab's side panel"),
    icon,
    execute: () => places.show("runs"),
  });
  app.commands.addCommand("verl-lab:demo", {
    label: trans.__("Try the demo of verl-lab"),
    caption: trans.__("Train a tiny model by reinforcement on this machine, from cells of a notebook"),
    icon,
    execute: async () => {
      try {
        await actions.demo();
      } catch (error) {
        tell(asError(error));
      }
    },
  });
  app.commands.addCommand("verl-lab:launch", {
    label: trans.__("Launch a recipe…"),
    execute: () => places.show("recipes"),
  });
  app.commands.addCommand("verl-lab:hosts", { label: trans.__("Hosts…"), execute: () => places.show("hosts") });
  add("open", trans.__("Open the run"), "open", ([run]) => places.open(run), { icon });
  add("watch", trans.__("Watch in the notebook"), "watch", ([run]) => actions.watch(run));
  add("compare", trans.__("Compare the chosen runs"), "compare", (runs) => actions.compare(runs));
  add("diff", trans.__("Differences of two runs"), "diff", ([a, b]) => b && actions.diff(a, b));
  add("stop", trans.__("Stop the run (saves a checkpoint)"), "stop", ([run]) => actions.stop(run, false));
  add("stop-now", trans.__("Stop the run now, without a checkpoint…"), "stop", async ([run]) => {
    const answer = await showDialog({
      title: trans.__("Stop now?"),
      body: trans.__("What it learned since its last checkpoint is lost."),
      buttons: [
        Dialog.cancelButton({ label: trans.__("Keep running") }),
        Dialog.warnButton({ label: trans.__("Stop now") }),
      ],
    });
    if (answer.button.accept) await actions.stop(run, true);
  });
  add("resume", trans.__("Resume the run"), "resume", ([run]) => actions.resume(run));
  add("report", trans.__("Make a report"), "report", (runs) => actions.report(runs));
  for (const [rank, command] of [
    "open",
    "watch",
    "compare",
    "diff",
    "stop",
    "stop-now",
    "resume",
    "report",
  ].entries()) {
    app.contextMenu.addItem({ command: `verl-lab:${command}`, selector: ".vl-run", rank });
  }
}

function tell(error: Error): void {
  const hint = error instanceof RefusedError && error.hint ? ` ${error.hint}` : "";
  Notification.error(`${error.message}${hint}`, { autoClose: 10_000 });
}
