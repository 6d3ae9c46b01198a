import { Notification } from "@jupyterlab/apputils";
import * as React from "react";
import { useSession } from "../panel/context";
import { Button, Failure, Heading, Labelled, Options } from "../ui/parts";
import { useRequest, useSettled, useWork } from "../ui/request";
import { Differences } from "./Differences";
import { FieldInput } from "./FieldInput";
import { KeyRows } from "./KeyRows";
import { type KeyValue, overridesOf, wrong } from "./overrides";
import { Verdict } from "./Verdict";

const CHECK_AFTER_MS = 500;

/** A recipe as a form: what is changed becomes overrides, checked while it is typed. */
export function RecipeForm({ recipe, back }: { recipe: string; back: () => void }): JSX.Element {
  const session = useSession();
  const { actions, client, trans } = session;
  const form = useRequest(() => client.form(recipe), [recipe]);
  const hosts = useRequest(() => client.hosts(), []);
  const [typed, setTyped] = React.useState<ReadonlyMap<string, string>>(new Map());
  const [rows, setRows] = React.useState<readonly KeyValue[]>([]);
  const [host, setHost] = React.useState("local");
  const [name, setName] = React.useState("");
  const { busy, failed, does } = useWork();
  const fields = form.data?.fields ?? [];
  const overrides = overridesOf(fields, typed, rows);
  const asked = useSettled(JSON.stringify([overrides, host]), CHECK_AFTER_MS);
  const check = useRequest(() => {
    const [settled, where] = JSON.parse(asked) as [string[], string];
    return client.validate(recipe, settled, where, null);
  }, [recipe, asked]);
  const problems = check.data?.problems ?? [];
  const isWrong = fields.some((field) => wrong(field, typed.get(field.key) ?? "") !== null);
  const isRefused = problems.some((problem) => problem.severity === "error");
  const others = (hosts.data?.rows ?? []).filter((row) => row.name !== "local");
  const groups = [...new Set(fields.map((field) => field.group))];

  const training = { recipe, overrides, host, name: name.trim() };
  const launch = () =>
    does(trans.__("Launching…"), async () => {
      const run = await actions.launch(training);
      if (run) Notification.success(trans.__("%1 is launched.", run.name));
      session.tab.set("runs");
    });
  return (
    <form
      className="vl-form"
      aria-label={trans.__("Recipe %1", recipe)}
      onSubmit={(event) => {
        event.preventDefault();
        void launch();
      }}
    >
      <Heading title={recipe} back={back} backTo={trans.__("Back to the recipes")} />
      <div className="vl-scroll">
        {form.error && <Failure error={form.error} retry={form.reload} />}
        <fieldset className="vl-group-box">
          <legend>{trans.__("Run")}</legend>
          <Labelled label={trans.__("Name")} hint={trans.__("Default: %1", recipe)}>
            {(attributes) => (
              <input
                {...attributes}
                className="vl-input"
                value={name}
                maxLength={100}
                onChange={(event) => setName(event.target.value)}
              />
            )}
          </Labelled>
          <Labelled label={trans.__("Train on")}>
            {(attributes) => (
              <select
                {...attributes}
                className="vl-input"
                value={host}
                onChange={(event) => setHost(event.target.value)}
              >
                <Options
                  of={[["local", trans.__("this machine")], ...others.map((row) => [row.name, row.name] as const)]}
                />
              </select>
            )}
          </Labelled>
        </fieldset>
        {groups.map((group) => (
          <fieldset key={group} className="vl-group-box">
            <legend>{group}</legend>
            {fields
              .filter((field) => field.group === group)
              .map((field) => (
                <FieldInput
                  key={field.key}
                  field={field}
                  typed={typed.get(field.key)}
                  problem={problems.find((one) => one.key === field.key && one.severity !== "info") ?? null}
                  type={(value) => setTyped(changed(typed, field.key, value))}
                />
              ))}
          </fieldset>
        ))}
        <KeyRows recipe={recipe} rows={rows} change={setRows} problems={problems} />
        <Verdict check={check} />
        <Differences recipe={recipe} />
      </div>
      {failed && <Failure error={failed} />}
      <div className="vl-actions">
        <span className="vl-actions-what vl-quiet">
          {overrides.length ? trans._n("%1 change", "%1 changes", overrides.length) : trans.__("As the recipe says")}
        </span>
        <Button primary submit disabled={busy !== null || isWrong || isRefused}>
          {trans.__("Launch")}
        </Button>
        <Button
          disabled={busy !== null || isWrong}
          title={trans.__("Check everything and show the command; start nothing")}
          onClick={() => void does(trans.__("Checking…"), () => actions.dryRun(training))}
        >
          {trans.__("Dry run")}
        </Button>
      </div>
    </form>
  );
}

function changed(typed: ReadonlyMap<string, string>, key: string, value: string | null): ReadonlyMap<string, string> {
  const next = new Map(typed);
  if (value === null) next.delete(key);
  else next.set(key, value);
  return next;
}
