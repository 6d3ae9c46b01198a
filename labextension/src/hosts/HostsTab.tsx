import * as React from "react";
import { useSession } from "../panel/context";
import { Button, Failure } from "../ui/parts";
import { useRequest } from "../ui/request";
import { HostCard } from "./HostCard";
import { HostForm } from "./HostForm";

/** The machines that runs can train on. */
export function HostsTab(): JSX.Element {
  const { client, trans } = useSession();
  const { data, error, reload } = useRequest(() => client.hosts(), []);
  const [adding, setAdding] = React.useState(false);
  return (
    <div className="vl-scroll vl-stack">
      {error && <Failure error={error} retry={reload} />}
      <ul className="vl-plain-list" aria-label={trans.__("Hosts")}>
        {(data?.rows ?? []).map((row) => (
          <li key={row.name}>
            <HostCard row={row} reload={reload} />
          </li>
        ))}
      </ul>
      {data?.rows.every((row) => row.name === "local") && !adding && (
        <p className="vl-quiet vl-pad">
          {trans.__("Runs train on this machine. A host with GPUs that is reached over SSH can be added.")}
        </p>
      )}
      {/* Hidden and not removed, so that what was typed is there again. */}
      <div hidden={!adding}>
        <HostForm
          close={() => setAdding(false)}
          added={() => {
            setAdding(false);
            reload();
          }}
        />
      </div>
      {!adding && (
        <div className="vl-pad">
          <Button onClick={() => setAdding(true)}>{trans.__("Add a host")}</Button>
        </div>
      )}
    </div>
  );
}
