import { URLExt } from "@jupyterlab/coreutils";
import { ServerConnection } from "@jupyterlab/services";
import type * as api from "./types";

/** What the server refused, in its own words. */
export class RefusedError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly hint: string | null = null,
    readonly field: string | null = null,
  ) {
    super(message);
  }
}

const EXPIRED_HINT = "Log in again in another tab of this browser; what was typed here stays.";

/** Whether the server still knows this person; null where it does not answer. */
export async function isLoggedIn(settings: ServerConnection.ISettings): Promise<boolean | null> {
  try {
    const answer = await ServerConnection.makeRequest(URLExt.join(settings.baseUrl, "api", "me"), {}, settings);
    return answer.status !== 401 && answer.status !== 403;
  } catch {
    return null;
  }
}

type Query = Record<string, string | number | boolean | null | undefined>;

/** The server extension's routes. A run here may also be named by the beginning of its id. */
export class Client {
  constructor(private readonly settings: ServerConnection.ISettings) {}

  isLoggedIn = () => isLoggedIn(this.settings);

  /** Where a person logs in. */
  get loginUrl(): string {
    return URLExt.join(this.settings.baseUrl, "login");
  }

  /** Open one of the sockets. */
  socket(name: string): WebSocket {
    const { settings } = this;
    const url = new URL(URLExt.join(settings.wsUrl, "verl-lab", "api", name), document.baseURI);
    if (settings.appendToken && settings.token) {
      url.searchParams.set("token", settings.token);
    }
    return new settings.WebSocket(url.href);
  }

  environment = (anew: boolean) => this.get<api.Environment>("system/env", { anew });
  stop = (run: string, now: boolean) => this.post<api.RunRow>(`runs/${enc(run)}/stop`, { now });
  resume = (run: string) => this.post<api.RunRow>(`runs/${enc(run)}/resume`, {});
  launch = (wanted: object) => this.post<api.RunRow>("runs", wanted);

  recipes = () => this.get<{ rows: api.RecipeRow[] }>("recipes");
  form = (recipe: string) => this.get<{ fields: api.Field[] }>(`recipes/${enc(recipe)}/form`);
  keys = (recipe: string, search: string) =>
    this.get<{ rows: api.KeyRow[] }>(`recipes/${enc(recipe)}/keys`, { search });
  validate = (recipe: string, overrides: string[], host: string, preset: string | null) =>
    this.post<api.Validation>(`recipes/${enc(recipe)}/validate`, { overrides, host, preset });

  hosts = () => this.get<{ rows: api.HostRow[] }>("hosts");
  look = (host: string) => this.get<api.HostRow>(`hosts/${enc(host)}/look`);
  addHost = (host: object) => this.post<api.HostRow>("hosts", host);
  removeHost = (host: string, force: boolean) => this.ask<unknown>("DELETE", `hosts/${enc(host)}`, { force });
  testHost = (host: string) => this.post<api.HostTest>(`hosts/${enc(host)}/test`, {});
  acceptHost = (host: string, fingerprint: string) => this.post<unknown>(`hosts/${enc(host)}/accept`, { fingerprint });
  setUpHost = (host: string) => this.post<{ task: string }>(`hosts/${enc(host)}/setup`, { role: null });
  task = (task: string) => this.get<api.Task>(`tasks/${enc(task)}`);

  datasets = () => this.get<{ rows: api.DatasetRow[] }>("datasets");
  dataset = (hash: string) => this.get<api.Dataset>(`datasets/${enc(hash)}`);
  addDataset = (path: string, name: string | null) => this.post<api.DatasetRow>("datasets", { path, name });
  lineage = (thing: string) => this.get<{ text: string }>(`lineage/${enc(thing)}`);
  diff = (a: string, b: string) => this.get<{ text: string }>("diff", { a, b });

  private get<T>(path: string, query: Query = {}): Promise<T> {
    return this.ask<T>("GET", path, query);
  }

  private post<T>(path: string, body: object): Promise<T> {
    return this.ask<T>("POST", path, {}, body);
  }

  private async ask<T>(method: string, path: string, query: Query = {}, body?: object): Promise<T> {
    const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
    const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
    const url = URLExt.join(this.settings.baseUrl, "verl-lab", "api", path) + (search && `?${search}`);
    // Under `no-store`, the default, JupyterLab adds a parameter to the address, which the routes refuse.
    const init: RequestInit = { method, cache: "no-cache", ...(body ? { body: JSON.stringify(body) } : {}) };
    let answer: Response;
    try {
      answer = await ServerConnection.makeRequest(url, init, this.settings);
    } catch {
      throw new RefusedError(0, "The Jupyter server does not answer.", "It may be starting again; try once more.");
    }
    if (!answer.ok) {
      throw await refusal(answer);
    }
    return answer.status === 204 ? (undefined as T) : ((await answer.json()) as T);
  }
}

const enc = encodeURIComponent;

async function refusal(answer: Response): Promise<RefusedError> {
  const said = (await answer.json().catch(() => ({}))) as { message?: string; hint?: string | null; field?: string };
  if (answer.status === 401 || (answer.status === 403 && !said.message)) {
    return new RefusedError(answer.status, "The session has expired.", EXPIRED_HINT);
  }
  if (answer.status === 404 && !answer.headers.get("Verl-Lab-Api")) {
    return new RefusedError(404, "The server extension of verl-lab is not running.", "Restart the Jupyter server.");
  }
  return new RefusedError(answer.status, said.message ?? answer.statusText, said.hint ?? null, said.field ?? null);
}
