// Chips for the charts at hand, and a list in groups to search for every other metric.
import { button, element, setText } from "./dom.js";
import { createMenu } from "./menu.js";

const LISTED_MOST = 300;

function groupOf(name) {
  return name.includes("/") ? name.slice(0, name.indexOf("/")) : "";
}

export function createPicker(send) {
  const root = element("div", "verl-lab-chips", "", { role: "group", "aria-label": "Charts shown" });
  const search = element("input", "", "", { type: "search", placeholder: "Find a metric", "aria-label": "Find a metric" });
  const found = element("div", "verl-lab-found");
  const menu = createMenu("More metrics", { className: "verl-lab-list", onOpen: () => fill(), focus: () => search });
  const chips = new Map();
  let names = [];
  let leftOut = 0;
  let shownMetrics = new Set();
  menu.box.append(search, found);
  root.append(menu.root);

  const press = (event) => {
    const { currentTarget } = event;
    send({ type: "show", metric: currentTarget.metric, shown: currentTarget.getAttribute("aria-pressed") !== "true" });
  };
  const row = (metric) => {
    const made = button(metric, press, { class: "verl-lab-name", "aria-pressed": String(shownMetrics.has(metric)) });
    made.metric = metric;
    return made;
  };
  const fill = () => {
    const words = search.value.toLowerCase().split(/\s+/);
    const matching = names.filter((name) => words.every((word) => name.toLowerCase().includes(word)));
    const groups = new Map();
    for (const name of matching.slice(0, LISTED_MOST)) {
      const group = groupOf(name);
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push(name);
    }
    const parts = [...groups].map(([group, members]) => {
      const part = element("div", "verl-lab-group", "", { role: "group", "aria-label": group || "no group" });
      part.append(element("span", "verl-lab-group-name", group || "no group"), ...members.map(row));
      return part;
    });
    found.replaceChildren(...parts);
    const say = (text) => found.append(element("span", "verl-lab-unit", text));
    if (!matching.length) say("No metric has that in its name.");
    if (matching.length > LISTED_MOST) say(`and ${matching.length - LISTED_MOST} more: type a part of the name`);
    if (leftOut) say(`and ${leftOut} more that are not listed: run.watch(metrics=[…]) shows them`);
  };
  search.addEventListener("input", fill);

  return {
    root,
    list(message) {
      ({ names, left_out: leftOut } = message);
      if (!menu.box.hidden) fill();
    },
    update(offered, count) {
      const metrics = new Set(offered.map((chip) => chip.metric));
      for (const [metric, chip] of chips) if (!metrics.has(metric)) chips.delete(metric) && chip.remove();
      offered.forEach(({ metric, label, shown }, place) => {
        if (!chips.has(metric)) {
          const made = button("", press, { class: "verl-lab-chip", title: metric });
          made.metric = metric;
          chips.set(metric, made);
        }
        const chip = chips.get(metric);
        if (root.children[place] !== chip) root.insertBefore(chip, root.children[place]);
        setText(chip, label);
        chip.setAttribute("aria-pressed", String(shown));
      });
      shownMetrics = new Set(offered.filter((chip) => chip.shown).map((chip) => chip.metric));
      for (const one of found.querySelectorAll(".verl-lab-name")) {
        one.setAttribute("aria-pressed", String(shownMetrics.has(one.metric)));
      }
      const rest = count - offered.length;
      menu.label(rest > 0 ? `+ ${rest} more` : "All metrics");
      menu.root.hidden = !count;
      if (!count) menu.open(false, false);
    },
    destroy: menu.destroy,
  };
}
