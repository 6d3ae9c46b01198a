import * as React from "react";
import type { Field, Problem } from "../api/types";
import { useSession } from "../panel/context";
import { Labelled, Options } from "../ui/parts";
import { shown, wrong } from "./overrides";

/** One setting; where it was changed it says what the recipe has, and takes it back on request. */
export function FieldInput(props: {
  field: Field;
  typed: string | undefined;
  problem: Problem | null;
  type: (value: string | null) => void;
}): JSX.Element {
  const { field, typed, type } = props;
  const { trans } = useSession();
  const before = shown(field);
  const value = typed ?? before;
  const isChanged = typed !== undefined && typed !== before;
  const fault = wrong(field, value);
  const faults = {
    number: trans.__("This is no number."),
    integer: trans.__("This is no whole number."),
    minimum: trans.__("At least %1.", field.minimum),
    maximum: trans.__("At most %1.", field.maximum),
  };
  const told = props.problem && [props.problem.message, props.problem.valid].filter(Boolean).join(" ");
  return (
    <Labelled
      label={field.title}
      hint={field.help}
      problem={fault ? faults[fault] : told}
      aside={
        isChanged && (
          <button
            type="button"
            className="vl-link"
            onClick={() => type(null)}
            aria-label={trans.__("Take back %1", field.title)}
          >
            {trans.__("was %1", before === "" ? "–" : before)}
          </button>
        )
      }
    >
      {(attributes) => {
        const common = { ...attributes, className: "vl-input", value, title: field.key, "data-changed": isChanged };
        if (field.type === "boolean" || field.type === "choice") {
          const choices = field.type === "boolean" ? ["true", "false"] : (field.choices ?? []).map(String);
          return (
            <select {...common} onChange={(event) => type(event.target.value)}>
              {!choices.includes(value) && <option value={value}>{value === "" ? "–" : value}</option>}
              <Options of={choices.map((choice) => [choice, choice])} />
            </select>
          );
        }
        const isNumber = field.type === "integer" || field.type === "number";
        return (
          <input
            {...common}
            inputMode={isNumber ? "decimal" : "text"}
            spellCheck={false}
            autoComplete="off"
            placeholder={field.default === null ? "" : String(field.default)}
            onChange={(event) => type(event.target.value)}
          />
        );
      }}
    </Labelled>
  );
}
