import * as React from "react";

interface Tab<Id extends string> {
  id: Id;
  label: string;
  panel: JSX.Element;
}

/** Tabs whose contents stay while another is shown, so that nothing typed is lost; arrows go from tab to tab. */
export function Tabs<Id extends string>(props: {
  tabs: readonly Tab<Id>[];
  chosen: Id;
  choose: (id: Id) => void;
  label: string;
}): JSX.Element {
  const { tabs, chosen, choose } = props;
  const base = React.useId();
  const [seen, setSeen] = React.useState<ReadonlySet<Id>>(new Set([chosen]));
  React.useEffect(() => setSeen((before) => (before.has(chosen) ? before : new Set([...before, chosen]))), [chosen]);
  const row = React.useRef<HTMLDivElement>(null);
  const move = (event: React.KeyboardEvent) => {
    const at = tabs.findIndex((tab) => tab.id === chosen);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    const next = to === undefined ? undefined : tabs[(to + tabs.length) % tabs.length];
    if (next) {
      event.preventDefault();
      choose(next.id);
      document.getElementById(`${base}-${next.id}`)?.focus();
    }
  };
  return (
    <>
      <div className="vl-tabs" role="tablist" aria-label={props.label} ref={row} onKeyDown={move}>
        {tabs.map((tab) => (
          <button
            key={tab.id}
            type="button"
            role="tab"
            id={`${base}-${tab.id}`}
            aria-selected={tab.id === chosen}
            aria-controls={`${base}-${tab.id}-panel`}
            tabIndex={tab.id === chosen ? 0 : -1}
            onClick={() => choose(tab.id)}
          >
            {tab.label}
          </button>
        ))}
      </div>
      {tabs.map((tab) => (
        <div
          key={tab.id}
          className="vl-tab"
          role="tabpanel"
          id={`${base}-${tab.id}-panel`}
          aria-labelledby={`${base}-${tab.id}`}
          hidden={tab.id !== chosen}
        >
          {(tab.id === chosen || seen.has(tab.id)) && tab.panel}
        </div>
      ))}
    </>
  );
}
