import type { TranslationBundle } from "@jupyterlab/translation";
import type { CommandRegistry } from "@lumino/commands";
import { createContext, useContext } from "react";
import type { Client } from "../api/client";
import type { LiveRuns } from "../api/live";
import type { Actions } from "../cells/actions";
import type { Store } from "../ui/store";

export type TabId = "runs" | "recipes" | "hosts" | "data" | "environment";

/** What every part of the panel is given. */
export interface Session {
  client: Client;
  live: LiveRuns;
  actions: Actions;
  commands: CommandRegistry;
  trans: TranslationBundle;
  tab: Store<TabId>;
  selection: Store<ReadonlySet<string>>;
}

const SessionContext = createContext<Session | null>(null);
export const SessionProvider = SessionContext.Provider;

export function useSession(): Session {
  const session = useContext(SessionContext);
  if (session === null) {
    throw new Error("There is no session above this component.");
  }
  return session;
}
