import * as React from "react";
import type { RecipeRow } from "../api/types";
import { useSession } from "../panel/context";
import { Button, Empty, Failure, Pick, SearchBox } from "../ui/parts";
import { useRequest } from "../ui/request";
import { useStore } from "../ui/store";
import { RecipeForm } from "./RecipeForm";

/** The recipes: find one, look at its settings, launch it. */
export function RecipesTab(): JSX.Element {
  const { client, tab, trans } = useSession();
  const [search, setSearch] = React.useState("");
  const [picked, setPicked] = React.useState<string | null>(null);
  // Cells make recipes too: they are read whenever the tab is turned to.
  const isShown = useStore(tab) === "recipes";
  const { data, error, reload } = useRequest(() => client.recipes(), [isShown]);
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = (data?.rows ?? []).filter((row) => {
    const text = [row.name, row.algorithm, row.model, row.description, row.place].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  });
  if (picked !== null) {
    return <RecipeForm key={picked} recipe={picked} back={() => setPicked(null)} />;
  }
  return (
    <>
      <div className="vl-tools vl-tools-row">
        <SearchBox label={trans.__("Find a recipe")} value={search} type={setSearch} />
        <Button onClick={reload} label={trans.__("Read the recipes again")} title={trans.__("Read again")}>
          ↻
        </Button>
      </div>
      {error && <Failure error={error} retry={reload} />}
      {data && rows.length === 0 && (
        <Empty title={data.rows.length ? trans.__("No recipe fits") : trans.__("No recipes")}>
          <p>{trans.__("A cell with %%verl_recipe NAME saves one of your own.")}</p>
        </Empty>
      )}
      <ul className="vl-scroll vl-plain-list" aria-label={trans.__("Recipes")}>
        {rows.map((row) => (
          <li key={row.name}>
            <RecipeItem row={row} pick={() => setPicked(row.name)} />
          </li>
        ))}
      </ul>
    </>
  );
}

function RecipeItem({ row, pick }: { row: RecipeRow; pick: () => void }): JSX.Element {
  const { trans } = useSession();
  const places = { builtin: trans.__("built in"), user: trans.__("yours"), project: trans.__("project") };
  return (
    <Pick
      name={row.name}
      about={[row.algorithm, shortModel(row.model), places[row.place]]}
      hint={row.description}
      pick={pick}
    >
      {row.problem ? (
        <span className="vl-problem">{row.problem}</span>
      ) : (
        row.description && <span className="vl-card-text">{row.description}</span>
      )}
    </Pick>
  );
}

function shortModel(model: string | null): string | null {
  return model && (model.split("/").filter(Boolean).pop() ?? model);
}
