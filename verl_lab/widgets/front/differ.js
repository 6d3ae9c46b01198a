// What differs between two configurations, as a tree of dotted keys.
import { copyButton, element, setText, speakFor } from "./dom.js";

const SIGNS = { added: "+", removed: "−", changed: "~", same: "" };
const WORDS = { added: "only in B", removed: "only in A", changed: "changed", same: "the same" };
const FOLDS = [
  ["noise", "names, seeds, places"],
  ["follows", "derived settings"],
  ["moved", "moved defaults"],
];
const ROWS_MOST = 2000;

function partsOf(key) {
  return key.match(/\[[^\]]*\]|[^.]+/g) ?? [key];
}

/** Rows as a tree: a branch that holds a single branch, or a single leaf, is joined with it. */
function treeOf(rows) {
  const top = { name: "", path: "", branches: new Map(), leaves: [] };
  for (const row of rows) {
    const parts = partsOf(row.key);
    let at = top;
    for (const part of parts.slice(0, -1)) {
      const path = at.path ? `${at.path}.${part}` : part;
      if (!at.branches.has(part)) at.branches.set(part, { name: part, path, branches: new Map(), leaves: [] });
      at = at.branches.get(part);
    }
    at.leaves.push({ name: parts.at(-1), row });
  }
  const joined = (branch) => {
    let at = branch;
    while (at.path && !at.leaves.length && at.branches.size === 1) {
      const [only] = at.branches.values();
      at = { ...only, name: `${at.name}.${only.name}` };
    }
    const inner = [...at.branches.values()].map(joined);
    const isAlone = ({ branches, leaves }) => !branches.length && leaves.length === 1;
    const lifted = inner.filter(isAlone).map(({ name, leaves: [leaf] }) => ({ ...leaf, name: `${name}.${leaf.name}` }));
    return { ...at, branches: inner.filter((one) => !isAlone(one)), leaves: [...lifted, ...at.leaves] };
  };
  const count = (branch) => {
    branch.count = branch.leaves.length + branch.branches.reduce((sum, one) => sum + count(one), 0);
    return branch.count;
  };
  const tree = joined(top);
  count(tree);
  return tree;
}

function createSwitch(label, isOn, changed) {
  const root = element("label", "verl-lab-choice");
  const box = element("input", "", "", { type: "checkbox" });
  box.checked = isOn;
  box.addEventListener("change", changed);
  root.append(box, element("span", "", label));
  return { root, box };
}

/** The visible lines of the tree; one of them has the focus, and keys move it. */
function createTree() {
  const root = element("div", "verl-lab-tree", "", { role: "tree", "aria-label": "Settings that differ" });
  const closed = new Set();
  let tree = null;
  let lines = [];
  let focused = "";

  const cell = (className, value, label) => {
    const made = element("span", `verl-lab-setting ${className}`, value ?? "");
    if (value !== null) made.setAttribute("aria-label", `${label}: ${value}`);
    return made;
  };
  const leafLine = ({ name, row }, level) => {
    const line = element("div", "verl-lab-leaf", "", { role: "treeitem", "aria-level": String(level), tabindex: "-1", title: row.key });
    line.dataset.kind = row.kind;
    const key = element("span", "verl-lab-key");
    key.append(element("i", "verl-lab-sign", SIGNS[row.kind], { "aria-label": WORDS[row.kind] }), element("span", "", name));
    key.style.setProperty("--vl-level", String(level - 1));
    line.append(key, cell("verl-lab-before", row.before, "A"), cell("verl-lab-after", row.after, "B"));
    line.key = row.key;
    return line;
  };
  const branchLine = (branch, level) => {
    const isOpen = !closed.has(branch.path);
    const line = element("div", "verl-lab-branch", "", { role: "treeitem", "aria-level": String(level), "aria-expanded": String(isOpen), tabindex: "-1" });
    const key = element("span", "verl-lab-key");
    key.append(element("i", "verl-lab-sign", isOpen ? "▾" : "▸", { "aria-hidden": "true" }), element("b", "", branch.name), element("span", "verl-lab-unit", String(branch.count)));
    key.style.setProperty("--vl-level", String(level - 1));
    line.append(key);
    line.key = branch.path;
    line.isBranch = true;
    return line;
  };
  const add = (branch, level) => {
    for (const one of branch.branches) {
      lines.push(branchLine(one, level));
      if (!closed.has(one.path)) add(one, level + 1);
    }
    for (const leaf of branch.leaves) lines.push(leafLine(leaf, level));
  };
  const focus = (line, isByHand = true) => {
    if (!line) return;
    for (const one of lines) one.tabIndex = one === line ? 0 : -1;
    focused = line.key;
    if (isByHand) line.focus();
  };
  const draw = () => {
    const held = root.contains(document.activeElement);
    lines = [];
    if (tree) add(tree, 1);
    const cut = lines.length - ROWS_MOST;
    if (cut > 0) lines = lines.slice(0, ROWS_MOST);
    root.replaceChildren(...lines);
    if (cut > 0) root.append(element("p", "verl-lab-unit", `and ${cut} more lines: search for a part of the name`));
    focus(lines.find((line) => line.key === focused) ?? lines[0], held);
  };
  const toggle = (line, isOpen) => {
    if (isOpen) closed.delete(line.key);
    else closed.add(line.key);
    focused = line.key;
    draw();
  };
  const level = (line) => Number(line.getAttribute("aria-level"));
  const above = (line) => lines.slice(0, lines.indexOf(line)).reverse().find((one) => level(one) < level(line));

  root.addEventListener("click", (event) => {
    const line = event.target.closest("[role=treeitem]");
    if (!line) return;
    if (line.isBranch) toggle(line, closed.has(line.key));
    else focus(line);
  });
  root.addEventListener("keydown", (event) => {
    const line = event.target.closest("[role=treeitem]");
    if (!line || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = lines.indexOf(line);
    const isOpen = line.isBranch && !closed.has(line.key);
    const act = {
      ArrowDown: () => focus(lines[at + 1]),
      ArrowUp: () => focus(lines[at - 1]),
      Home: () => focus(lines[0]),
      End: () => focus(lines.at(-1)),
      ArrowRight: () => line.isBranch && (isOpen ? focus(lines[at + 1]) : toggle(line, true)),
      ArrowLeft: () => (isOpen ? toggle(line, false) : focus(above(line))),
      Enter: () => line.isBranch && toggle(line, !isOpen),
      " ": () => line.isBranch && toggle(line, !isOpen),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  });
  return {
    root,
    update(rows) {
      tree = rows.length ? treeOf(rows) : null;
      draw();
    },
  };
}

function render({ model, el }) {
  const { view, send } = speakFor(model);
  const told = model.get("told");
  const differing = told.rows.map(([key, kind, before, after, fold, override]) => ({ key, kind, before, after, fold, override }));
  let same = null;
  let shown = [];
  const root = element("section", "verl-lab-panel verl-lab-live verl-lab-differ", "", { "aria-label": "Difference", "data-lm-suppress-shortcuts": "true" });
  const head = element("div", "verl-lab-sides");
  for (const [letter, sign, name] of [["A", "−", told.a], ["B", "+", told.b]]) {
    const side = element("p", "", "", { "data-side": letter });
    side.append(element("i", "verl-lab-sign", sign, { "aria-hidden": "true" }), element("b", "", letter), element("span", "", ` ${name}`));
    head.append(side);
  }
  const notes = element("p", "verl-lab-unit", told.notes.join(" "));
  const tools = element("div", "verl-lab-fields");
  const search = element("input", "", "", { type: "search", placeholder: "Find a setting or value", "aria-label": "Find a setting or value" });
  const status = element("span", "verl-lab-unit", "", { role: "status" });
  const tree = createTree();
  const empty = element("p", "verl-lab-empty");
  const fill = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const has = (row) => words.every((word) => `${row.key} ${row.before ?? ""} ${row.after ?? ""}`.toLowerCase().includes(word));
    const open = new Set(switches.filter(({ box }) => box.checked).map(({ fold }) => fold));
    const wanted = differing.filter((row) => !row.fold || open.has(row.fold));
    const all = only.box.checked ? wanted : [...wanted, ...(same ?? [])];
    shown = all.filter(has).sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
    tree.update(shown);
    const different = shown.filter(({ kind }) => kind !== "same").length;
    const waiting = !only.box.checked && same === null;
    setText(status, `${different} differ${only.box.checked ? "" : waiting ? ", reading the others…" : `, ${shown.length - different} do not`}`);
    const nothing = told.rows.length ? "Nothing else differs than what is folded away." : "There is no difference.";
    setText(empty, shown.length ? "" : words.length ? "No setting has that in it." : nothing);
    copy.disabled = !shown.some(({ override }) => override);
  };
  const only = createSwitch("only differences", true, () => {
    if (!only.box.checked && same === null) send({ type: "same" });
    fill();
  });
  const switches = FOLDS.flatMap(([fold, label]) => {
    const count = differing.filter((row) => row.fold === fold).length;
    return count ? [{ fold, ...createSwitch(`${label} (${count})`, false, fill) }] : [];
  });
  const overrides = () => shown.map(({ override }) => override).filter(Boolean).join("\n");
  const copy = copyButton(overrides, "Copy as overrides", { title: "What of this is shown, as key=value that leads from A to B" });
  search.addEventListener("input", fill);
  search.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") root.querySelector("[role=treeitem][tabindex='0']")?.focus();
    else if (event.key === "Escape" && search.value) search.value = "";
    else return;
    event.preventDefault();
    fill();
  });
  root.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target === search) return;
    event.preventDefault();
    search.focus();
  });
  const heard = (message) => {
    if (message.type !== "same" || message.to !== view) return;
    same = message.rows.map(([key, value]) => ({ key, kind: "same", before: value, after: value, fold: "", override: null }));
    fill();
  };
  tools.append(search, only.root, ...switches.map((one) => one.root), copy, status);
  root.append(head, ...(told.notes.length ? [notes] : []), tools, tree.root, empty);
  el.append(root);
  model.on("msg:custom", heard);
  fill();
  return () => model.off("msg:custom", heard);
}

export default { render };
