// What is wrong with the run: the worst of it as a sentence, and all of it as a list.
import { button, copyButton, element, setText, severityWord } from "./dom.js";

function steps(finding) {
  const range = finding.first === finding.last ? `step ${finding.first}` : `steps ${finding.first}–${finding.last}`;
  return finding.cleared === null ? range : `${range}, over since step ${finding.cleared}`;
}

function source(finding) {
  const own = finding.heuristic && !finding.source.includes("heuristic") ? ["a heuristic of verl-lab's own"] : [];
  const parts = [finding.source, ...own].filter(Boolean);
  return parts.length ? `Source: ${parts.join("; ")}` : "";
}

function remedies(finding) {
  return finding.settings.map((setting) => `--set ${setting}`);
}

function sentence(text) {
  return !text || /[.!?…]$/.test(text) ? text : `${text}.`;
}

/** The worst open finding: severity, what, evidence, cause, source, and a remedy to copy. */
export function createBanner(send, showAll) {
  const root = element("div", "verl-lab-banner", "", { role: "alert" });
  const words = element("div", "verl-lab-banner-words");
  const told = element("p", "");
  const name = element("b", "verl-lab-severity");
  const evidence = element("span", "");
  const cause = element("span", "");
  const from = element("span", "verl-lab-source");
  const remedy = element("p", "verl-lab-remedy");
  const lead = element("span", "");
  const code = element("code", "");
  const buttons = element("div", "verl-lab-banner-buttons");
  const copy = copyButton(() => remedies(shown).join(" "), "Copy", { title: "Copy the settings" });
  const all = button("", showAll, { class: "verl-lab-link" });
  let shown = null;
  const dismiss = button("Dismiss", () => send({ type: "acknowledge", key: shown.key }), {
    title: "I know; it stays in the list of findings",
  });
  told.append(name, evidence, cause, from);
  remedy.append(lead, code, all);
  words.append(told, remedy);
  buttons.append(copy, dismiss);
  root.append(words, buttons);
  root.hidden = true;
  return {
    root,
    update(finding, active) {
      root.hidden = finding === null;
      if (finding === null) return;
      shown = finding;
      root.dataset.severity = finding.severity;
      setText(name, `${severityWord(finding.severity)} · ${finding.title}`);
      setText(evidence, ` at step ${finding.first}: ${sentence(finding.evidence)} `);
      setText(cause, `${sentence(finding.cause)} `);
      setText(from, source(finding));
      setText(lead, finding.settings.length ? "Try " : sentence(finding.suggestion));
      setText(code, remedies(finding).join(" "));
      copy.hidden = !finding.settings.length;
      all.hidden = active < 2;
      setText(all, `${active - 1} more ${active === 2 ? "finding" : "findings"}`);
    },
  };
}

/** Every finding, and below them the rules that say nothing about this run. */
export function createFindings(send) {
  const root = element("div", "verl-lab-findings");
  const list = element("ul", "");
  const none = element("p", "verl-lab-empty", "Nothing found.");
  const more = element("p", "verl-lab-unit");
  const mute = element("details", "");
  const muted = element("dl", "");
  const summary = element("summary", "");
  mute.append(summary, muted);
  root.append(list, none, more, mute);

  const item = (finding) => {
    const made = element("li", "verl-lab-finding", "", { "data-severity": finding.severity });
    const head = element("p", "verl-lab-finding-head");
    if (finding.cleared !== null) made.dataset.cleared = "";
    head.append(
      element("b", "verl-lab-severity", `${severityWord(finding.severity)} · ${finding.title}`),
      element("span", "verl-lab-when", steps(finding)),
      element("code", "verl-lab-where", finding.metric),
    );
    made.append(head, element("p", "", sentence(finding.evidence)), element("p", "", sentence(finding.cause)));
    if (finding.suggestion) made.append(element("p", "", `What to do: ${sentence(finding.suggestion)}`));
    if (finding.settings.length) {
      const remedy = element("p", "verl-lab-remedy");
      remedy.append(element("code", "", remedies(finding).join(" ")), copyButton(() => remedies(finding).join(" ")));
      made.append(remedy);
    }
    const foot = element("p", "verl-lab-source", [finding.rule, source(finding)].filter(Boolean).join(" · "));
    if (finding.cleared === null && !finding.acknowledged && finding.severity !== "info") {
      foot.append(" ", button("Dismiss", () => send({ type: "acknowledge", key: finding.key }), { class: "verl-lab-link" }));
    } else if (finding.acknowledged) foot.append(" · dismissed");
    made.append(foot);
    return made;
  };
  return {
    root,
    update({ findings, left_out, not_applicable }) {
      list.replaceChildren(...findings.map(item));
      none.hidden = findings.length > 0;
      more.hidden = !left_out;
      setText(more, `and ${left_out} more; run.findings() gives them all`);
      mute.hidden = !not_applicable.length;
      setText(summary, `${not_applicable.length} rules say nothing about this run`);
      muted.replaceChildren(
        ...not_applicable.flatMap(([rule, reason]) => [element("dt", "", rule), element("dd", "", reason)]),
      );
    },
  };
}
