import { URLExt } from "@jupyterlab/coreutils";
import { ServerConnection } from "@jupyterlab/services";
import { isLoggedIn } from "../api/client";
import { Reconnecting } from "../api/reconnecting";
import { Choices } from "./choices";
import { type Content, type Frame, readFrame } from "./frame";

type Does = (...said: never[]) => void;

const LOST = "The server does not answer; this is what it said last. It is asked again and again.";
const EXPIRED = "Your session has expired: log in again in another tab. This is what the server said last.";
const MISSING = "The server extension of verl-lab is not running here.";
const answering = new Map<string, Promise<boolean>>();

/** Whether this server has our extension; where it does not answer at all, that is not known and yes. */
function hasExtension(settings: ServerConnection.ISettings): Promise<boolean> {
  const url = URLExt.join(settings.baseUrl, "verl-lab", "api", "runs?limit=1");
  const known =
    answering.get(url) ??
    ServerConnection.makeRequest(url, { cache: "no-cache" }, settings).then(
      (answer) => answer.status !== 404 || answer.headers.has("Verl-Lab-Api"),
      () => true,
    );
  answering.set(url, known);
  return known;
}

/** The browser's storage of this tab; null where pages may not use it. */
function storage(): Storage | null {
  try {
    return window.sessionStorage;
  } catch {
    return null;
  }
}

/**
 * What the widget's model is to the front end, over a WebSocket of the server: it goes on without a kernel, and
 * comes back when the server does.
 *
 * `gone` is called once, where the server will never show this.
 */
export class Connection {
  private readonly listeners = new Map<string, Set<Does>>();
  private readonly choices: Choices;
  /** What is said before there is a connection; null from then on. */
  private early: Content[] | null = [];
  private socket: Reconnecting | null = null;
  private connected = false;
  private over = false;
  /** Where the front end finds the drawing library as a file. */
  readonly library: string;

  constructor(
    private readonly settings: ServerConnection.ISettings,
    private readonly path: string,
    private readonly gone: (why: string) => void,
  ) {
    this.choices = new Choices(storage(), `verl-lab ${path}`);
    this.library = new URL(URLExt.join(settings.baseUrl, "verl-lab", "api", "library"), document.baseURI).href;
    void this.begin();
  }

  on(event: string, does: Does): void {
    const found = this.listeners.get(event) ?? new Set();
    this.listeners.set(event, found.add(does));
  }

  off(event: string, does: Does): void {
    this.listeners.get(event)?.delete(does);
  }

  /** What is asked while the server is away, after it was there, is lost: nothing happens much later. Choices are kept. */
  send(content: Content): void {
    this.choices.asked(content);
    if (this.connected) {
      this.say(content);
    } else {
      this.early?.push(content);
    }
  }

  close(): void {
    this.over = true;
    this.socket?.close();
    this.listeners.clear();
  }

  private async begin(): Promise<void> {
    const isThere = await hasExtension(this.settings);
    if (this.over) {
      return;
    }
    if (!isThere) {
      this.end(MISSING);
      return;
    }
    this.socket = new Reconnecting(
      () => this.open(),
      (frame) => this.heard(frame as Frame),
      (connected) => this.changed(connected),
      undefined,
      (data) => readFrame(data as ArrayBuffer),
    );
  }

  private open(): WebSocket {
    const { settings } = this;
    const url = new URL(URLExt.join(settings.wsUrl, "verl-lab", "api", this.path), document.baseURI);
    if (settings.appendToken && settings.token) {
      url.searchParams.set("token", settings.token);
    }
    const socket = new settings.WebSocket(url.href);
    socket.binaryType = "arraybuffer";
    return socket;
  }

  private heard({ content, buffers }: Frame): void {
    if (content.type === "gone") {
      this.end(String(content.message));
      return;
    }
    this.choices.heard(content);
    this.tell("msg:custom", content, buffers);
  }

  private changed(connected: boolean): void {
    this.connected = connected;
    if (!connected) {
      this.tell("comm_live_update", LOST);
      void isLoggedIn(this.settings).then((is) => {
        if (is === false && !this.connected && !this.over) this.tell("comm_live_update", EXPIRED);
      });
      return;
    }
    // The session is a new one each time.
    for (const content of [...this.choices.again(), ...(this.early ?? [{ type: "ready" }])]) {
      this.say(content);
    }
    this.early = null;
  }

  private end(why: string): void {
    this.close();
    this.gone(why);
  }

  private say(content: Content): void {
    this.socket?.send(JSON.stringify(content));
  }

  private tell(event: string, ...said: unknown[]): void {
    for (const does of this.listeners.get(event) ?? []) {
      (does as (...said: unknown[]) => void)(...said);
    }
  }
}
