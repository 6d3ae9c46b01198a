import { Signal } from "@lumino/signaling";
import { merge } from "../runs/list";
import { Store } from "../ui/store";
import type { Client } from "./client";
import { Reconnecting } from "./reconnecting";
import type { LiveMessage, RunRow } from "./types";

/** `waiting` until the first answer; `lost` while it is tried again. */
export type Connection = "waiting" | "connected" | "lost";

/** The runs as the server tells of them, for as long as this is not closed. */
export class LiveRuns {
  readonly rows = new Store<ReadonlyMap<string, RunRow>>(new Map());
  readonly connection = new Store<Connection>("waiting");
  readonly finding = new Signal<this, Extract<LiveMessage, { type: "finding" }>>(this);
  private readonly socket: Reconnecting;

  constructor(client: Client) {
    this.socket = new Reconnecting(
      () => client.socket("live"),
      (message) => this.heard(message as LiveMessage),
      (connected) => {
        // Connected counts from the first list, so that an empty one is not shown before it is known to be empty.
        if (!connected) this.connection.set("lost");
      },
    );
  }

  again(): void {
    this.socket.again();
  }

  close(): void {
    this.socket.close();
  }

  private heard(message: LiveMessage): void {
    this.rows.set(merge(this.rows.value, message));
    if (message.type === "runs" && message.all) {
      this.connection.set("connected");
    } else if (message.type === "finding") {
      this.finding.emit(message);
    }
  }
}
