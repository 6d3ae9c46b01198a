import { Signal } from "@lumino/signaling";
import { merge } from "../runs/list";
import { Store } from "../ui/store";
import type { Client } from "./client";
import { Reconnecting } from "./reconnecting";
import type { LiveMessage, RunRow } from "./types";

/** `waiting` until the first answer; `lost` while it is tried again; `expired` while a person has to log in. */
export type Connection = "waiting" | "connected" | "lost" | "expired";

/** The runs as the server tells of them, for as long as this is not closed. */
export class LiveRuns {
  readonly rows = new Store<ReadonlyMap<string, RunRow>>(new Map());
  readonly connection = new Store<Connection>("waiting");
  /** Why the list is not up to date, where the server says so. */
  readonly problem = new Store<string | null>(null);
  readonly finding = new Signal<this, Extract<LiveMessage, { type: "finding" }>>(this);
  private readonly socket: Reconnecting;

  constructor(private readonly client: Client) {
    this.socket = new Reconnecting(
      () => client.socket("live"),
      (message) => this.heard(message as LiveMessage),
      (connected) => {
        // Connected counts from the first list, so that an empty one is not shown before it is known to be empty.
        if (!connected) void this.lost();
      },
    );
  }

  again(): void {
    this.socket.again();
  }

  close(): void {
    this.socket.close();
  }

  /** Say that the connection is lost, and why where that can be known: sockets are refused without a reason. */
  private async lost(): Promise<void> {
    if (this.connection.value !== "expired") {
      this.connection.set("lost");
    }
    const isLoggedIn = await this.client.isLoggedIn();
    if (this.connection.value !== "connected" && isLoggedIn !== null) {
      this.connection.set(isLoggedIn ? "lost" : "expired");
    }
  }

  private heard(message: LiveMessage): void {
    this.rows.set(merge(this.rows.value, message));
    if (message.type === "runs" && message.all) {
      this.connection.set("connected");
      this.problem.set(null);
    } else if (message.type === "problem") {
      this.problem.set([message.message, message.hint].filter(Boolean).join(" ") || null);
    } else if (message.type === "finding") {
      this.finding.emit(message);
    }
  }
}
