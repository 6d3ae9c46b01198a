/** What the server says and takes; `GET openapi.json` describes the same. */

export type State = "created" | "starting" | "running" | "stopping" | "completed" | "failed" | "stopped" | "lost";
export type Severity = "critical" | "error" | "warning" | "info";

/** NaN and infinities are told as text. */
export type Num = number | "NaN" | "Infinity" | "-Infinity";

export interface RunRow {
  id: string;
  name: string;
  state: State;
  reason: string | null;
  phase: string | null;
  step: number | null;
  total: number | null;
  elapsed_s: number | null;
  remaining_s: number | null;
  host: string;
  recipe: string | null;
  algorithm: string | null;
  kind: "run" | "log";
  created: number | null;
  health: number | null;
  worst: Severity | null;
  alerts: number;
  spark: { metric: string; values: (Num | null)[] } | null;
  can_stop: boolean;
  can_resume: boolean;
  project: string | null;
}

export interface Finding {
  key: string;
  rule: string;
  title: string;
  severity: Severity;
  active: boolean;
  message: string;
  suggestion: string | null;
  set: string | null;
}

export interface RecipeRow {
  name: string;
  algorithm: string | null;
  trainer: string | null;
  model: string | null;
  place: "builtin" | "user" | "project";
  version: string | null;
  extends: string | null;
  description: string;
  /** Why it cannot be used, where that is so. */
  problem: string | null;
}

export interface Field {
  key: string;
  title: string;
  help: string | null;
  group: string;
  type: "string" | "integer" | "number" | "boolean" | "choice" | "list" | "path";
  value: unknown;
  default: unknown;
  choices: unknown[] | null;
  minimum: number | null;
  maximum: number | null;
}

export interface KeyRow {
  key: string;
  type: string | null;
  value: unknown;
  help: string | null;
}

export interface Problem {
  severity: "error" | "warning" | "info";
  key: string | null;
  value: unknown;
  message: string;
  valid: string | null;
}

export interface Validation {
  problems: Problem[];
  command: string | null;
  rules: { with_data: number; total: number } | null;
  facts: { name: string; value: unknown }[];
}

export interface Gpu {
  name: string;
  used_mb: number | null;
  total_mb: number | null;
  load: number | null;
  temperature: number | null;
}

export interface HostRow {
  name: string;
  address: string | null;
  user: string | null;
  port: number | null;
  state: string;
  message: string | null;
  gpus: Gpu[] | null;
  load: { load: number | null; cores: number | null } | null;
  memory: { total_mb: number; available_mb: number } | null;
  disk: { total_mb: number; free_mb: number } | null;
  live_runs: number;
}

export interface HostTest {
  ok: boolean;
  steps: { name: string; ok: boolean; message: string | null; hint: string | null }[];
  fingerprint: string | null;
}

export interface Task {
  done: boolean;
  ok: boolean | null;
  lines: string[];
  message: string | null;
}

export interface DatasetRow {
  name: string;
  hash: string;
  rows: number | null;
  size: number;
  path: string | null;
  columns: string[];
  created: number | null;
  used_by: number;
}

export interface Dataset extends DatasetRow {
  preview: Record<string, unknown>[];
  changed: string[];
  runs: string[];
}

export interface Check {
  name: string;
  ok: boolean;
  found: unknown;
  wanted: unknown;
  message: string | null;
  fix: string | null;
}

export interface Environment {
  ok: boolean;
  role: string;
  checks: Check[];
  versions: Record<string, string>;
}

/** What the `live` socket says. */
export type LiveMessage =
  | { type: "runs"; rows: RunRow[]; all: boolean; removed?: string[] }
  | { type: "finding"; run: string; name: string; finding: Finding }
  /** Why the list is not up to date; without a message it is again. */
  | { type: "problem"; message: string | null; hint: string | null }
  | { type: "pong" };
