// The line that names the run, its state and progress, and what can be done with it.
import { button, duration, element, setText } from "./dom.js";

/** One line on where the run stands, `since` seconds after the kernel said so. */
function standing(header, since) {
  const parts = [];
  const gone = header.elapsed_s === null ? null : duration(header.elapsed_s + since);
  const working = header.live && header.phase !== null && header.phase !== "training" ? header.phase : null;
  if (header.step !== null) parts.push(`step ${header.step}${header.total === null ? "" : ` of ${header.total}`}`);
  if (working !== null) parts.push(header.state === "starting" && gone ? `${working}, ${gone}` : working);
  if (gone !== null && !(working !== null && header.state === "starting")) {
    const left = header.live && header.remaining_s !== null;
    parts.push(header.live ? `${gone} gone` + (left ? `, ${duration(header.remaining_s - since)} to go` : "") : gone);
  }
  parts.push(header.host);
  if (header.recipe !== null) parts.push(`recipe ${header.recipe}`);
  return parts.join(" · ");
}

/** Stop and resume; stopping asks first, and once it is under way can be hastened. Sync and diagnose. */
export function createActions(send) {
  const root = element("div", "verl-lab-actions");
  const question = element("span", "verl-lab-question", "Stop training? It saves a checkpoint first.");
  const stop = button("Stop", () => (header.state === "stopping" ? act("stop", stop) : ask(true)));
  const yes = button("Stop the run", () => act("stop", stop), { class: "verl-lab-button verl-lab-grave" });
  const no = button("Keep running", () => ask(false));
  const resume = button("Resume", () => act("resume", resume));
  const sync = button("Sync", () => act("sync", sync), { title: "Read everything the run has written up to now" });
  const diagnose = button("Diagnose", () => act("diagnose", diagnose), { title: "Judge the run anew, from its beginning" });
  const pressable = [stop, resume, sync, diagnose];
  root.append(question, yes, no, stop, resume, diagnose, sync);
  // Nothing can be done with a run of which nothing is known yet.
  root.hidden = true;
  let header = { playback: null };
  let asking = false;
  const show = () => {
    const sure = asking && header.can_stop && header.state !== "stopping";
    for (const node of [question, yes, no]) node.hidden = !sure;
    stop.hidden = sure || !header.can_stop;
    resume.hidden = !header.can_resume;
    sync.hidden = diagnose.hidden = sure || header.playback !== null;
    setText(stop, header.state === "stopping" ? "Stop now" : "Stop");
  };
  const ask = (value) => {
    asking = value;
    show();
    (value ? no : stop).focus();
  };
  const act = (type, pressed) => {
    asking = false;
    show();
    pressed.disabled = true;
    send({ type });
  };
  return {
    root,
    update(next) {
      root.hidden = false;
      if (next) header = next;
      for (const one of pressable) one.disabled = false;
      show();
    },
  };
}

export function createHeader(health, actions) {
  const root = element("header", "verl-lab-header");
  const words = element("div", "verl-lab-words");
  const title = element("div", "verl-lab-title");
  const name = element("b", "", "Waiting for the run…");
  const state = element("span", "verl-lab-state", "", { role: "status" });
  const meta = element("div", "verl-lab-meta", "\u00a0");
  const bar = element("div", "verl-lab-bar", "", { role: "progressbar", "aria-label": "Steps done", "aria-valuemin": "0" });
  const done = element("i", "");
  const alarm = element("div", "verl-lab-alarm", "", { role: "alert" });
  title.append(name, state);
  words.append(title, meta);
  bar.append(done);
  root.append(words, health.root, actions.root, bar, alarm);
  alarm.hidden = true;
  let shown = null;
  let receivedAt = 0;

  const tick = () => {
    const since = shown.live ? (performance.now() - receivedAt) / 1000 : 0;
    setText(meta, standing(shown, since));
    meta.title = meta.textContent;
  };
  const clock = setInterval(() => shown?.live && tick(), 1000);
  return {
    root,
    update(header) {
      shown = header;
      receivedAt = performance.now();
      setText(name, header.name);
      name.title = header.run_id;
      setText(state, header.playback === null ? header.state : "replay");
      root.dataset.state = header.playback === null ? header.state : "replay";
      const known = header.step !== null && header.total > 0;
      const share = known ? Math.min(1, header.step / header.total) : header.state === "completed" ? 1 : 0;
      done.style.width = `${100 * share}%`;
      bar.setAttribute("aria-valuemax", String(known ? header.total : 1));
      bar.setAttribute("aria-valuenow", String(known ? header.step : share));
      bar.setAttribute("aria-valuetext", known ? `step ${header.step} of ${header.total}` : header.state);
      tick();
    },
    alarm(problem) {
      const lines = [shown?.over ? shown.reason : null, shown?.notice, problem].filter(Boolean);
      setText(alarm, lines.join("\n"));
      alarm.hidden = !lines.length;
    },
    pause() {
      if (shown) shown = { ...shown, live: false };
    },
    destroy() {
      clearInterval(clock);
    },
  };
}
