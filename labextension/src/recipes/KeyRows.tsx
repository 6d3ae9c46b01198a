import * as React from "react";
import type { Problem } from "../api/types";
import { useSession } from "../panel/context";
import { Button } from "../ui/parts";
import { useRequest, useSettled } from "../ui/request";
import type { KeyValue } from "./overrides";

/** Any of verl's other keys, with completion. */
export function KeyRows(props: {
  recipe: string;
  rows: readonly KeyValue[];
  change: (rows: readonly KeyValue[]) => void;
  problems: readonly Problem[];
}): JSX.Element {
  const { recipe, rows, change, problems } = props;
  const { client, trans } = useSession();
  const [search, setSearch] = React.useState("");
  const settled = useSettled(search, 200);
  const found = useRequest(
    () => (settled ? client.keys(recipe, settled) : Promise.resolve({ rows: [] })),
    [recipe, settled],
  );
  const list = React.useId();
  const set = (index: number, row: KeyValue) => change(rows.map((one, i) => (i === index ? row : one)));
  return (
    <fieldset className="vl-group-box">
      <legend>{trans.__("Any other key of verl")}</legend>
      <datalist id={list}>
        {(found.data?.rows ?? []).map((row) => (
          <option key={row.key} value={row.key}>
            {[row.type, row.help].filter(Boolean).join(" · ")}
          </option>
        ))}
      </datalist>
      {rows.map((row, index) => {
        const known = found.data?.rows.find((one) => one.key === row.key);
        const problem = problems.find((one) => one.key === row.key.trim());
        return (
          // biome-ignore lint/suspicious/noArrayIndexKey: rows have no other identity while they are typed
          <div key={index} className="vl-key-row">
            <input
              className="vl-input"
              list={list}
              aria-label={trans.__("Key %1", index + 1)}
              placeholder="actor_rollout_ref.actor.clip_ratio"
              spellCheck={false}
              autoComplete="off"
              value={row.key}
              onFocus={() => setSearch(row.key)}
              onChange={(event) => {
                setSearch(event.target.value);
                set(index, { ...row, key: event.target.value });
              }}
            />
            <span aria-hidden="true">=</span>
            <input
              className="vl-input"
              aria-label={trans.__("Value %1", index + 1)}
              placeholder={known ? String(known.value ?? "null") : ""}
              spellCheck={false}
              autoComplete="off"
              aria-invalid={problem?.severity === "error"}
              value={row.value}
              onChange={(event) => set(index, { ...row, value: event.target.value })}
            />
            <Button
              label={trans.__("Remove key %1", index + 1)}
              onClick={() => change(rows.filter((_, i) => i !== index))}
            >
              ×
            </Button>
            {(problem || known?.help) && (
              <p className={problem ? "vl-problem" : "vl-quiet vl-hint"}>{problem?.message ?? known?.help}</p>
            )}
          </div>
        );
      })}
      <Button onClick={() => change([...rows, { key: "", value: "" }])}>{trans.__("Add a key")}</Button>
    </fieldset>
  );
}
