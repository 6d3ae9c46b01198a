// What every part of the front end is made of. All text comes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";
const SAID_MS = 1500;
const FOCUSED = new Set(["button", "input", "select", "summary"]);
const SEVERITY_WORDS = { info: "Info", warning: "Warning", error: "Error", critical: "Critical" };

/** Name this view of a model, and say things in its name; a kernel that is gone is told of elsewhere, and hears nothing. */
export function speakFor(model) {
  const view = crypto.getRandomValues(new Uint32Array(2)).join("-");
  const send = (content) => {
    try {
      model.send({ ...content, to: view });
    } catch (error) {
      console.debug("verl-lab: not sent.", error);
    }
  };
  return { view, send };
}

/** Make an element with a class, text and attributes. */
export function element(tag, className, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  // Arrow keys and letters are for what has the focus, not JupyterLab's shortcuts: it asks the element itself.
  if (FOCUSED.has(tag) || "tabindex" in attributes) made.setAttribute("data-lm-suppress-shortcuts", "true");
  return made;
}

/** Make an SVG element with attributes. */
export function drawing(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** Set text only where it differs, so that a selection or a screen reader is not disturbed. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function button(text, onClick, attributes = {}) {
  const made = element("button", "verl-lab-button", text, { type: "button", ...attributes });
  made.addEventListener("click", onClick);
  return made;
}

/** A button that copies what `text()` gives, and says that it did. */
export function copyButton(text, label = "Copy", attributes = {}) {
  const made = button(label, async () => {
    setText(made, (await copied(text())) ? "Copied" : "Not allowed");
    setTimeout(() => setText(made, label), SAID_MS);
  }, attributes);
  return made;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without https or the permission there is no clipboard API; the old way still works.
    const area = element("textarea", "verl-lab-offscreen");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/** Give a file to the browser to save. */
export function save(name, bytes) {
  const url = URL.createObjectURL(new Blob([bytes]));
  const link = element("a", "", "", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

export function severityWord(severity) {
  return SEVERITY_WORDS[severity] ?? "Finding";
}

export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (n) => String(n).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} m`;
  return `${Math.floor(whole / 86400)} d ${two(Math.floor((whole % 86400) / 3600))} h`;
}

/** A number on an axis, in few digits. */
export function short(value) {
  return String(Number(value.toPrecision(4)));
}
