import * as React from "react";
import { useSession } from "../panel/context";
import { useStore } from "../ui/store";
import type { Line } from "./list";
import { RunItem } from "./RunItem";
import { choose, idOf } from "./selection";
import { visible } from "./window";

const ROW_PX = 52;
const GROUP_PX = 28;

interface Listed {
  lines: readonly Line[];
  closed: ReadonlySet<string>;
  toggle: (group: string) => void;
}

/** The list, of which only what is seen is drawn; arrows move, Enter opens, Space and Shift choose several. */
export function RunList({ lines, closed, toggle }: Listed): JSX.Element {
  const { commands, selection, trans } = useSession();
  const selected = useStore(selection);
  const box = React.useRef<HTMLDivElement>(null);
  const base = React.useId();
  const [scroll, setScroll] = React.useState({ top: 0, height: 800 });
  const [current, setCurrent] = React.useState<string | null>(null);
  const [anchor, setAnchor] = React.useState<string | null>(null);
  const heights = React.useMemo(() => lines.map((line) => (line.kind === "run" ? ROW_PX : GROUP_PX)), [lines]);
  const ids = React.useMemo(() => lines.map(idOf), [lines]);
  const at = current === null ? -1 : ids.indexOf(current);

  React.useLayoutEffect(() => {
    const node = box.current;
    if (!node) return;
    const measure = () => setScroll({ top: node.scrollTop, height: node.clientHeight || 800 });
    const observer = new ResizeObserver(measure);
    observer.observe(node);
    node.addEventListener("scroll", measure, { passive: true });
    return () => {
      observer.disconnect();
      node.removeEventListener("scroll", measure);
    };
  }, []);

  const goTo = (index: number, extend: boolean) => {
    const to = Math.max(0, Math.min(lines.length - 1, index));
    const id = ids[to];
    if (id === undefined) return;
    setCurrent(id);
    const top = heights.slice(0, to).reduce((sum, one) => sum + one, 0);
    const node = box.current;
    if (node && top < node.scrollTop) node.scrollTop = top;
    else if (node && top + ROW_PX > node.scrollTop + node.clientHeight)
      node.scrollTop = top + ROW_PX - node.clientHeight;
    pick(id, extend ? "range" : "one");
  };
  const pick = (id: string, how: "one" | "toggle" | "range") => {
    selection.set(choose(selection.value, ids, id, how, anchor));
    if (how !== "range") setAnchor(id);
  };
  const pressed = (event: React.KeyboardEvent) => {
    const page = Math.max(1, Math.floor(scroll.height / ROW_PX) - 1);
    const moves: Record<string, number> = {
      ArrowDown: at + 1,
      ArrowUp: at < 0 ? 0 : at - 1,
      PageDown: at + page,
      PageUp: at - page,
      Home: 0,
      End: lines.length - 1,
    };
    const line = lines[at];
    const to = moves[event.key];
    if (to !== undefined) goTo(to, event.shiftKey);
    else if (event.key === "Enter" && line?.kind === "run")
      void commands.execute("verl-lab:open", { runs: [line.row.id] });
    else if ((event.key === "Enter" || event.key === " ") && line?.kind === "group") toggle(line.name);
    else if (event.key === " " && line) pick(idOf(line), "toggle");
    else if (event.key === "a" && (event.ctrlKey || event.metaKey)) {
      selection.set(new Set(lines.flatMap((one) => (one.kind === "run" ? [one.row.id] : []))));
    } else if (event.key === "Escape") selection.set(new Set());
    else return;
    event.preventDefault();
    event.stopPropagation();
  };

  const { first, last, before, after } = visible(heights, scroll.top, scroll.height);
  return (
    <div
      ref={box}
      className="vl-list"
      role="listbox"
      tabIndex={0}
      aria-multiselectable="true"
      aria-label={trans.__("Runs")}
      aria-activedescendant={at >= first && at < last ? `${base}-${at}` : undefined}
      data-lm-suppress-shortcuts="true"
      onKeyDown={pressed}
    >
      <div style={{ height: before }} role="presentation" />
      {lines.slice(first, last).map((line, i) => {
        const index = first + i;
        const common = { id: `${base}-${index}`, position: index + 1, size: lines.length, current: index === at };
        if (line.kind === "group") {
          return <GroupItem key={idOf(line)} {...common} line={line} open={!closed.has(line.name)} toggle={toggle} />;
        }
        return (
          <RunItem
            key={line.row.id}
            {...common}
            row={line.row}
            selected={selected.has(line.row.id)}
            choose={(event) => {
              setCurrent(line.row.id);
              pick(line.row.id, event.shiftKey ? "range" : event.ctrlKey || event.metaKey ? "toggle" : "one");
            }}
            open={() => void commands.execute("verl-lab:open", { runs: [line.row.id] })}
          />
        );
      })}
      <div style={{ height: after }} role="presentation" />
    </div>
  );
}

function GroupItem(props: {
  id: string;
  position: number;
  size: number;
  current: boolean;
  line: Extract<Line, { kind: "group" }>;
  open: boolean;
  toggle: (group: string) => void;
}): JSX.Element {
  const { line } = props;
  const { trans } = useSession();
  const told = props.open ? trans.__("open") : trans.__("closed");
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the list has the focus and takes the keys
    // biome-ignore lint/a11y/useFocusableInteractive: as above; options are told by aria-activedescendant
    <div
      id={props.id}
      role="option"
      className="vl-group"
      aria-selected={false}
      aria-setsize={props.size}
      aria-posinset={props.position}
      aria-label={trans.__("Group %1, %2 runs, %3", line.name, line.count, told)}
      data-current={props.current}
      onClick={() => props.toggle(line.name)}
    >
      <span aria-hidden="true">{props.open ? "▾" : "▸"}</span>
      <span className="vl-group-name">{line.name}</span>
      <span className="vl-quiet">{line.count}</span>
    </div>
  );
}
