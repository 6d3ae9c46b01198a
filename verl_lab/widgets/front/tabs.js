// Tabs: one panel at a time, arrow keys between them.
import { button, element, setText } from "./dom.js";

/**
 * `parts` is a list of `{id, label, root, tools, shown(isShown)}`; `shown` is told when its tab is opened or
 * left, `tools` stand beside the tabs while it is open.
 */
export function createTabs(parts) {
  const root = element("div", "verl-lab-tabbed");
  const bar = element("div", "verl-lab-tabs", "", { role: "tablist" });
  const unique = crypto.getRandomValues(new Uint32Array(1))[0];
  let open = parts[0];
  const tabs = new Map();
  const choose = (part, focus = false) => {
    const before = open;
    open = part;
    for (const [one, tab] of tabs) {
      tab.setAttribute("aria-selected", String(one === part));
      tab.tabIndex = one === part ? 0 : -1;
      one.panel.hidden = one !== part;
      if (one.tools) one.tools.hidden = one !== part;
    }
    if (before !== part) before.shown?.(false);
    part.shown?.(true);
    if (focus) tabs.get(part).focus();
  };
  for (const part of parts) {
    const ids = [`verl-lab-tab-${unique}-${part.id}`, `verl-lab-pane-${unique}-${part.id}`];
    const tab = button(part.label, () => choose(part), { class: "verl-lab-tab", role: "tab", id: ids[0], "aria-controls": ids[1] });
    part.panel = element("div", "verl-lab-pane", "", { role: "tabpanel", id: ids[1], "aria-labelledby": ids[0] });
    part.panel.append(part.root);
    tabs.set(part, tab);
    bar.append(tab);
  }
  bar.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    choose(parts[(parts.indexOf(open) + by + parts.length) % parts.length], true);
  });
  const top = element("div", "verl-lab-tab-row");
  top.append(bar, ...parts.flatMap((part) => part.tools ?? []));
  root.append(top, ...parts.map((part) => part.panel));
  choose(open);
  return {
    root,
    label: (id, text) => setText(tabs.get(parts.find((part) => part.id === id)), text),
    choose: (id) => choose(parts.find((part) => part.id === id), true),
    destroy: () => open.shown?.(false),
  };
}
