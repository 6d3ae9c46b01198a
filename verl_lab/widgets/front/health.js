// The health score: one number, a ring, and what it is made of when it is pressed.
import { drawing, element, setText, severityWord } from "./dom.js";
import { createMenu } from "./menu.js";

const RADIUS = 18;
const AROUND = 2 * Math.PI * RADIUS;

export function createHealth() {
  const menu = createMenu("Health", { className: "verl-lab-breakdown" });
  const { chip } = menu;
  const ring = drawing("svg", { viewBox: "0 0 44 44", width: "44", height: "44", "aria-hidden": "true" });
  const circle = (name) => drawing("circle", { class: name, cx: 22, cy: 22, r: RADIUS, fill: "none", "stroke-width": 5 });
  const full = circle("verl-lab-ring-ground");
  const part = circle("verl-lab-ring");
  const number = element("b", "", "–");
  const word = element("span", "", "health");
  const words = element("span", "verl-lab-score");
  part.setAttribute("transform", "rotate(-90 22 22)");
  ring.append(full, part);
  words.append(number, word);
  chip.className = "verl-lab-health";
  chip.replaceChildren(ring, words);
  menu.root.classList.add("verl-lab-health-menu");

  const rows = (health) => {
    if (health.score === null) return [element("p", "", `No score: ${health.reason}`)];
    const start = element("li", "verl-lab-entry");
    start.append(element("span", "", "A run with nothing to find fault with"), element("em", "", "100"));
    const entries = health.breakdown.map((entry) => {
      const row = element("li", "verl-lab-entry", "", { "data-severity": entry.severity });
      const told = element("span", "");
      told.append(
        element("b", "verl-lab-severity", severityWord(entry.severity)),
        element("span", "", ` ${entry.title}`),
        element("span", "verl-lab-why", entry.why),
      );
      row.append(told, element("em", "", `−${entry.weight}`));
      return row;
    });
    const list = element("ul", "");
    const sum = element("li", "verl-lab-entry verl-lab-sum");
    sum.append(element("span", "", "Health"), element("em", "", String(health.score)));
    list.append(start, ...entries);
    if (health.left_out) list.append(element("li", "verl-lab-unit", `and ${health.left_out} more that weigh less`));
    list.append(sum);
    return [list];
  };

  let told = "";
  return {
    root: menu.root,
    update(health) {
      menu.root.hidden = health === null;
      if (health === null || told === JSON.stringify(health)) return;
      told = JSON.stringify(health);
      const { score } = health;
      setText(number, score === null ? "–" : String(score));
      setText(word, score === null ? "no score" : "health");
      chip.dataset.severity = health.worst ?? (score === null ? "unknown" : "none");
      part.style.strokeDasharray = `${(AROUND * (score ?? 0)) / 100} ${AROUND}`;
      chip.title = score === null ? health.reason : "What the score is made of";
      chip.setAttribute("aria-label", score === null ? `No health score: ${health.reason}` : `Health ${score} of 100`);
      menu.box.replaceChildren(...rows(health));
    },
    destroy: menu.destroy,
  };
}
