import { Notification } from "@jupyterlab/apputils";
import type { Finding, Severity } from "./api/types";
import type { Session } from "./panel/context";
import { rank } from "./runs/list";
import type { Settings } from "./settings";

const KINDS: Record<Severity, "error" | "warning" | "info"> = {
  critical: "error",
  error: "error",
  warning: "warning",
  info: "info",
};
const LONGEST_NAME = 60;
const WARNING_MS = 10_000;

interface Told {
  id: string;
  gravest: Finding;
  count: number;
}

/** Tell new findings, one notification a run, which says the gravest and has a button that opens the run. */
export function tellFindings(session: Session, settings: Settings): void {
  const { commands, live, trans } = session;
  const told = new Map<string, Told>();
  live.finding.connect((_, { run, name, finding }) => {
    if (!settings.notifications) {
      return;
    }
    const known = told.get(run);
    const before = known && Notification.manager.has(known.id) ? known : null;
    const gravest = before && rank(before.gravest.severity) > rank(finding.severity) ? before.gravest : finding;
    const count = (before?.count ?? 0) + 1;
    // JupyterLab shows the first 140 characters, as text.
    const short = name.length > LONGEST_NAME ? `${name.slice(0, LONGEST_NAME)}…` : name;
    const more = count > 1 ? ` (${trans.__("%1 findings", count)})` : "";
    const message = `${short}${more}: ${gravest.title}. ${gravest.message}`;
    const type = KINDS[gravest.severity];
    const callback = () => void commands.execute("verl-lab:open", { runs: [run] });
    const options = {
      // The notification centre keeps it either way.
      autoClose: type === "error" ? (false as const) : WARNING_MS,
      actions: [{ label: trans.__("Open"), callback }],
    };
    const id = before?.id ?? Notification.emit(message, type, options);
    if (before) {
      Notification.update({ id, message, type, ...options });
    }
    told.set(run, { id, gravest, count });
  });
}
