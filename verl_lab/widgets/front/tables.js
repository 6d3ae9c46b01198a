// The configuration as rows to search, and the log's end as it grows.
import { element, setText } from "./dom.js";

const POLL_MS = 2000;
const ROWS_MOST = 1500;
const NEAR_END_PX = 24;

export function createConfiguration(send) {
  const root = element("div", "verl-lab-configuration");
  const search = element("input", "", "", { type: "search", placeholder: "Find a setting", "aria-label": "Find a setting" });
  const table = element("table", "");
  const body = element("tbody", "");
  const note = element("p", "verl-lab-empty", "Reading the configuration…");
  let rows = null;
  let leftOut = 0;
  table.append(body);
  root.append(search, table, note);
  const fill = () => {
    const words = search.value.toLowerCase().split(/\s+/);
    const matching = rows.filter((row) => words.every((word) => row.join(" ").toLowerCase().includes(word)));
    body.replaceChildren(...matching.slice(0, ROWS_MOST).map(([key, value]) => {
      const row = element("tr", "");
      row.append(element("th", "", key, { scope: "row" }), element("td", "", value));
      return row;
    }));
    const hidden = Math.max(0, matching.length - ROWS_MOST) + leftOut;
    const nothing = rows.length ? "No setting has that in it." : "The configuration of this run is not known.";
    setText(note, matching.length ? (hidden ? `and ${hidden} more; run.config gives them all` : "") : nothing);
  };
  search.addEventListener("input", fill);
  return {
    root,
    shown: (isShown) => isShown && rows === null && send({ type: "config" }),
    update(message) {
      ({ rows, left_out: leftOut } = message);
      search.hidden = !rows.length;
      fill();
    },
  };
}

/** Asks again while it is looked at and the run goes on; stays at the end unless someone scrolls up. */
export function createLog(send) {
  const root = element("div", "verl-lab-log");
  const text = element("pre", "", "", { role: "log", tabindex: "0", "aria-label": "Log" });
  const note = element("p", "verl-lab-unit", "Reading the log…");
  let polling = 0;
  let live = true;
  let waiting = false;
  const ask = () => {
    if (waiting || document.hidden) return;
    waiting = true;
    send({ type: "log" });
  };
  root.append(note, text);
  return {
    root,
    shown(isShown) {
      clearInterval(polling);
      waiting = false;
      if (!isShown) return;
      ask();
      polling = setInterval(() => live && ask(), POLL_MS);
    },
    live: (value) => (live = value),
    update(message) {
      waiting = false;
      const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < NEAR_END_PX;
      const first = !text.textContent;
      setText(text, message.text);
      setText(note, message.text ? "The end of what training printed; %verl_logs prints more." : "Training has printed nothing yet.");
      if (atEnd || first) text.scrollTop = text.scrollHeight;
    },
  };
}
