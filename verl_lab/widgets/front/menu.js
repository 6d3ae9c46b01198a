// A chip that opens a box below it: closed by Escape, by a click elsewhere, and by its own chip.
import { button, element, setText } from "./dom.js";

/**
 * `onOpen(box)` may fill the box each time; `focus()` says what gets the keyboard.
 */
export function createMenu(label, { className = "", onOpen = () => {}, focus = (box) => box } = {}) {
  const root = element("div", "verl-lab-menu");
  const box = element("div", `verl-lab-box ${className}`, "", { tabindex: "-1", role: "group", "aria-label": label });
  const outside = (event) => !event.composedPath().includes(root) && open(false, false);
  const open = (value, refocus = true) => {
    if (box.hidden === !value) return;
    box.hidden = !value;
    chip.setAttribute("aria-expanded", String(value));
    document[value ? "addEventListener" : "removeEventListener"]("pointerdown", outside, true);
    if (value) {
      onOpen(box);
      keepInside();
    }
    if (refocus) (value ? focus(box) : chip).focus();
  };
  // A box as wide as the panel must not stick out of it at either side.
  const keepInside = () => {
    box.style.removeProperty("transform");
    const room = root.closest(".verl-lab-panel").getBoundingClientRect();
    const place = box.getBoundingClientRect();
    const by = Math.max(room.left - place.left, Math.min(0, room.right - place.right));
    if (by) box.style.transform = `translateX(${by}px)`;
  };
  const chip = button(label, () => open(box.hidden), { class: "verl-lab-chip", "aria-expanded": "false" });
  root.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !box.hidden) {
      event.stopPropagation();
      open(false);
    }
  });
  box.hidden = true;
  root.append(chip, box);
  return {
    root,
    box,
    chip,
    open,
    label: (text) => setText(chip, text),
    destroy: () => document.removeEventListener("pointerdown", outside, true),
  };
}
