// The bar that moves a replay.
import { button, element, setText } from "./dom.js";

const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 5, 10, 25, 50, 100];
const SEEK_EVERY_MS = 120;

export function createPlayer(send) {
  const root = element("div", "verl-lab-player", "", { role: "group", "aria-label": "Replay" });
  const back = button("‹", () => send({ type: "advance", by: -1 }), { "aria-label": "One step back" });
  const play = button("Play", () => send({ type: playback.is_playing ? "pause" : "play" }));
  const forth = button("›", () => send({ type: "advance", by: 1 }), { "aria-label": "One step on" });
  const slider = element("input", "", "", { type: "range", "aria-label": "Step", step: "1" });
  const where = element("span", "verl-lab-where");
  const speed = element("select", "", "", { "aria-label": "Speed" });
  for (const one of SPEEDS) speed.append(element("option", "", `${one}×`, { value: String(one) }));
  const other = element("option", "");
  speed.addEventListener("change", () => send({ type: "speed", speed: Number(speed.value) }));
  let playback = {};
  let seeking = 0;
  let held = false;
  const seek = () => {
    seeking = 0;
    send({ type: "seek", step: Number(slider.value) });
  };
  slider.addEventListener("input", () => {
    setText(where, `step ${slider.value} of ${playback.last}`);
    seeking ||= setTimeout(seek, SEEK_EVERY_MS);
  });
  slider.addEventListener("pointerdown", () => (held = true));
  slider.addEventListener("pointerup", () => (held = false));
  slider.addEventListener("pointercancel", () => (held = false));
  root.append(back, play, forth, slider, where, speed);
  root.hidden = true;
  return {
    root,
    update(next) {
      root.hidden = next === null;
      if (next === null) return;
      playback = next;
      setText(play, next.is_playing ? "Pause" : "Play");
      slider.min = String(next.first);
      slider.max = String(next.last);
      if (!held && !seeking) {
        slider.value = String(next.position);
        setText(where, `step ${next.position} of ${next.last}`);
      }
      slider.setAttribute("aria-valuetext", where.textContent);
      if (!SPEEDS.includes(next.speed)) {
        other.value = String(next.speed);
        setText(other, `${next.speed}×`);
        speed.append(other);
      }
      if (document.activeElement !== speed) speed.value = String(next.speed);
      speed.title = next.is_timed ? "Times as fast as the run was" : "The log has no times: a step takes a second at 1×";
      back.disabled = next.position <= next.first;
      forth.disabled = next.position >= next.last;
    },
    destroy: () => clearTimeout(seeking),
  };
}
