/** The text of cells. All that comes from outside reaches a kernel through `magicLine` or `trainCell`. */

/** What cannot be written as a cell that means the same. */
export class UnwritableError extends Error {}

const PLAIN = /^[A-Za-z0-9_@%+=:,./-]+$/;
// Also what Python's `str.splitlines` takes for the end of a line.
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
const CONTROL = /[\u0000-\u001f\u007f\u0085\u2028\u2029]/;

/**
 * Write a line magic whose words are exactly these.
 *
 * The kernel splits the line as a shell does, but first it puts Python's values in place of `{name}` and of `$name`
 * where it stands outside single quotes. Braces can be doubled; how it counts quotes around a `$` cannot be
 * relied on where there are braces or apostrophes too.
 */
export function magicLine(magic: string, words: readonly string[]): string {
  const all = words.join("");
  if (CONTROL.test(all)) {
    throw new UnwritableError("A name with a line break or a control character cannot stand in a cell.");
  }
  if (all.includes("$") && /['{}]/.test(all)) {
    throw new UnwritableError("Names with a $ beside quotes or braces cannot stand in a cell.");
  }
  return [`%${magic}`, ...words.map(quoted)].join(" ");
}

function quoted(word: string): string {
  if (PLAIN.test(word)) {
    return word;
  }
  const doubled = word.replace(/[{}]/g, "$&$&");
  return `'${doubled.replace(/'/g, `'"'"'`)}'`;
}

export interface Training {
  recipe: string;
  overrides: readonly string[];
  host: string;
  name?: string;
  preset?: string | null;
  dryRun?: boolean;
}

/** Write the cell that launches a recipe; overrides stand one a line, where nothing is read into them. */
export function trainCell({ recipe, overrides, host, name, preset, dryRun }: Training): string {
  const words = [recipe];
  if (host !== "local") words.push("--host", host);
  if (name) words.push("--name", name);
  if (preset) words.push("--preset", preset);
  if (dryRun) words.push("--dry-run");
  const bad = overrides.find((one) => CONTROL.test(one) || !/^[\w.@/-]+=/.test(one));
  if (bad !== undefined) {
    throw new UnwritableError(`${JSON.stringify(bad)} is not one line of key=value.`);
  }
  const line = magicLine("verl_train", dashed(words));
  return overrides.length ? [`%${line}`, ...overrides].join("\n") : line;
}

/** The cells from nothing to a run that trains. */
export const demoCells = () => [
  magicLine("verl_demo", []),
  trainCell({ recipe: "sort-digits-grpo", overrides: [], host: "local" }),
];

export const watchCell = (run: string) => magicLine("verl_watch", dashed([run]));
export const compareCell = (runs: readonly string[]) => magicLine("verl_compare", dashed([...runs]));
export const stopCell = (run: string, now: boolean) => magicLine("verl_stop", dashed([run, ...(now ? ["--now"] : [])]));
export const resumeCell = (run: string) => magicLine("verl_resume", dashed([run]));
export const reportCell = (runs: readonly string[]) => magicLine("verl_report", dashed([...runs]));
export const healthCell = (run: string) => magicLine("verl_health", dashed([run]));
export const diffCell = (a: string, b: string) => magicLine("verl_diff", dashed([a, b]));

const OPTIONS = new Set(["--host", "--name", "--preset", "--dry-run", "--now"]);

/** Refuse what the magic would take for an option. */
function dashed(words: string[]): string[] {
  const bad = words.find((word) => word.startsWith("-") && !OPTIONS.has(word));
  if (bad !== undefined) {
    throw new UnwritableError(`${JSON.stringify(bad)} begins with a dash, which the magics take for an option.`);
  }
  return words;
}
