import * as React from "react";
import { useSession } from "../panel/context";
import { Failure, Labelled, Options } from "../ui/parts";
import { useRequest } from "../ui/request";

/** What leads from another recipe, or from a run, to this recipe. */
export function Differences({ recipe }: { recipe: string }): JSX.Element {
  const { client, live, trans } = useSession();
  const [open, setOpen] = React.useState(false);
  const [other, setOther] = React.useState("");
  const known = useRequest(() => (open ? client.recipes() : Promise.resolve({ rows: [] })), [open]);
  const found = useRequest(
    () => (other ? client.diff(other, `recipe:${recipe}`) : Promise.resolve({ text: "" })),
    [other, recipe],
  );
  const recipes = (known.data?.rows ?? []).filter((row) => row.name !== recipe);
  const runs = [...live.rows.value.values()].slice(0, 50);
  return (
    <details className="vl-pad" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{trans.__("Differences from another")}</summary>
      <Labelled label={trans.__("Compared with")}>
        {(attributes) => (
          <select {...attributes} className="vl-input" value={other} onChange={(event) => setOther(event.target.value)}>
            <option value="">{trans.__("nothing")}</option>
            <optgroup label={trans.__("Recipes")}>
              <Options of={recipes.map((row) => [`recipe:${row.name}`, row.name])} />
            </optgroup>
            <optgroup label={trans.__("Runs")}>
              <Options of={runs.map((row) => [`run:${row.id}`, row.name])} />
            </optgroup>
          </select>
        )}
      </Labelled>
      {found.error && <Failure error={found.error} retry={found.reload} />}
      {other && found.data && (
        <pre className="vl-log" tabIndex={0}>
          {found.data.text || trans.__("They are the same.")}
        </pre>
      )}
    </details>
  );
}
