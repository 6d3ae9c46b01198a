import * as React from "react";
import { Button } from "../ui/parts";
import { useStore } from "../ui/store";
import { useSession } from "./context";

/** Says above all tabs that the server is away, or wants a person to log in; nothing while all is well. */
export function Notice(): JSX.Element | null {
  const { client, live, trans } = useSession();
  const connection = useStore(live.connection);
  const isAway = connection === "lost" || connection === "expired";
  // Whoever comes back, from the login page or from lunch, does not wait for the next try.
  React.useEffect(() => {
    if (!isAway) return;
    const again = () => live.again();
    window.addEventListener("focus", again);
    return () => window.removeEventListener("focus", again);
  }, [isAway, live]);
  if (!isAway) {
    return null;
  }
  return (
    <div className="vl-notice" role="status">
      {connection === "expired" ? (
        <>
          <span>{trans.__("Your session has expired. Log in again in another tab; what you typed here stays.")}</span>
          <Button onClick={() => window.open(client.loginUrl, "_blank", "noopener")}>{trans.__("Log in")}</Button>
        </>
      ) : (
        <span>{trans.__("Not connected to the server; what is shown may be old. Trying again…")}</span>
      )}
      <Button onClick={() => live.again()}>{trans.__("Now")}</Button>
    </div>
  );
}
