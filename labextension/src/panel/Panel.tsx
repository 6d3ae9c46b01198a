import * as React from "react";
import { DataTab } from "../data/DataTab";
import { EnvironmentTab } from "../environment/EnvironmentTab";
import { HostsTab } from "../hosts/HostsTab";
import { RecipesTab } from "../recipes/RecipesTab";
import { RunsTab } from "../runs/RunsTab";
import { useStore } from "../ui/store";
import { type Session, SessionProvider } from "./context";
import { Notice } from "./Notice";
import { Tabs } from "./Tabs";

/** All of the side panel. */
export function Panel({ session }: { session: Session }): JSX.Element {
  const { trans } = session;
  const chosen = useStore(session.tab);
  return (
    <SessionProvider value={session}>
      <Notice />
      <Tabs
        label={trans.__("verl-lab")}
        chosen={chosen}
        choose={(id) => session.tab.set(id)}
        tabs={[
          { id: "runs", label: trans.__("Runs"), panel: <RunsTab /> },
          { id: "recipes", label: trans.__("Recipes"), panel: <RecipesTab /> },
          { id: "hosts", label: trans.__("Hosts"), panel: <HostsTab /> },
          { id: "data", label: trans.__("Data"), panel: <DataTab /> },
          { id: "environment", label: trans.__("Environment"), panel: <EnvironmentTab /> },
        ]}
      />
    </SessionProvider>
  );
}
