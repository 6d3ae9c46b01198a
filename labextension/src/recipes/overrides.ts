import type { Field } from "../api/types";

const PLAIN = /^[A-Za-z_/][A-Za-z0-9_./-]*$/;
const KEYWORDS = new Set(["null", "true", "false", "nan", "inf"]);

/** A `key=value` beside the form, as it was typed. */
export interface KeyValue {
  key: string;
  value: string;
}

/** Write a value so that Hydra reads the same one back. */
export function literal(value: unknown): string {
  if (value === null || value === undefined) return "null";
  if (typeof value === "boolean" || typeof value === "number") return String(value);
  if (Array.isArray(value)) return `[${value.map(literal).join(",")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value)
      .map(([name, item]) => `${name}:${literal(item)}`)
      .join(",")}}`;
  }
  const text = String(value);
  if (PLAIN.test(text) && !KEYWORDS.has(text.toLowerCase())) return text;
  // Hydra's rule: a backslash is one, except in a row that ends at a quote; there two stand for one.
  const escaped = text.replace(/(\\*)"/g, (_, slashes: string) => `${slashes}${slashes}\\"`);
  return `"${escaped.replace(/\\+$/, "$&$&")}"`;
}

/** How a field's value is shown in an input. */
export function shown(field: Field): string {
  const { value } = field;
  if (value === null || value === undefined) return "";
  if (field.type === "list" && Array.isArray(value)) return value.map(String).join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/**
 * Return what is wrong with what was typed, before the server is asked.
 *
 * @returns a message key: `number`, `integer`, `minimum`, `maximum`; null where nothing is
 */
export function wrong(field: Field, typed: string): "number" | "integer" | "minimum" | "maximum" | null {
  const text = typed.trim();
  if ((field.type !== "integer" && field.type !== "number") || text === "" || text === "null") return null;
  if (field.type === "integer" && !/^[+-]?\d+$/.test(text)) return "integer";
  const number = Number(text);
  if (Number.isNaN(number)) return "number";
  if (field.minimum !== null && number < field.minimum) return "minimum";
  if (field.maximum !== null && number > field.maximum) return "maximum";
  return null;
}

function typedLiteral(field: Field, typed: string): string {
  const text = typed.trim();
  if (text === "") return field.type === "list" ? "[]" : "null";
  if (field.type === "integer" || field.type === "number" || field.type === "boolean") return text;
  if (field.type === "list" && !text.startsWith("[")) {
    return literal(
      text
        .split(",")
        .map((one) => one.trim())
        .filter(Boolean)
        .map((one) => (one !== "" && !Number.isNaN(Number(one)) ? Number(one) : one)),
    );
  }
  if (field.type === "list" || (typeof field.value === "object" && field.value !== null)) return text;
  if (field.type === "choice") {
    const chosen = field.choices?.find((choice) => String(choice) === text);
    if (chosen !== undefined) return literal(chosen);
  }
  return literal(text);
}

/** Return the overrides of what was changed in a form, then of the rows beside it. */
export function overridesOf(
  fields: readonly Field[],
  typed: ReadonlyMap<string, string>,
  rows: readonly KeyValue[],
): string[] {
  const changed = fields
    .filter((field) => typed.has(field.key) && typed.get(field.key) !== shown(field))
    .map((field) => `${field.key}=${typedLiteral(field, typed.get(field.key) ?? "")}`);
  const beside = rows
    .filter((row) => row.key.trim() !== "" && row.value.trim() !== "")
    .map((row) => `${row.key.trim()}=${row.value.trim()}`);
  return [...changed, ...beside];
}
