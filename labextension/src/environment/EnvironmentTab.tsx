import * as React from "react";
import type { Check } from "../api/types";
import { useSession } from "../panel/context";
import { Button, Copyable, FactList, Failure } from "../ui/parts";
import { useRequest } from "../ui/request";
import { valueText } from "../ui/words";

/** What is installed here, against what this release was tested with. */
export function EnvironmentTab(): JSX.Element {
  const { client, trans } = useSession();
  const anew = React.useRef(false);
  const { data, error, loading, reload } = useRequest(() => client.environment(anew.current), []);
  const wrong = (data?.checks ?? []).filter((check) => !check.ok);
  const right = (data?.checks ?? []).filter((check) => check.ok);
  const again = () => {
    anew.current = true;
    reload();
  };
  return (
    <div className="vl-scroll vl-pad vl-stack" aria-busy={loading}>
      {error && <Failure error={error} retry={again} />}
      <div className="vl-card-head" role="status">
        {data && <b data-ok={data.ok}>{data.ok ? "✓" : "✗"}</b>}
        <span className="vl-card-title">
          {data === null
            ? trans.__("Looking at what is installed…")
            : data.ok
              ? trans.__("All is as tested")
              : trans._n("%1 thing is not as tested", "%1 things are not as tested", wrong.length)}
        </span>
        {data && <span className="vl-quiet">{trans.__("role %1", data.role)}</span>}
      </div>
      <div className="vl-buttons">
        <Button onClick={again} disabled={loading}>
          {loading ? trans.__("Looking…") : trans.__("Look again")}
        </Button>
      </div>
      {wrong.map((check) => (
        <CheckItem key={check.name} check={check} />
      ))}
      {right.length > 0 && (
        <details>
          <summary>{trans._n("%1 check passed", "%1 checks passed", right.length)}</summary>
          <FactList of={right.map((check) => [check.name, valueText(check.found)])} />
        </details>
      )}
      {data && Object.keys(data.versions).length > 0 && (
        <section>
          <h3>{trans.__("Versions")}</h3>
          <FactList of={Object.entries(data.versions)} />
        </section>
      )}
    </div>
  );
}

function CheckItem({ check }: { check: Check }): JSX.Element {
  const { trans } = useSession();
  return (
    <div className="vl-finding" data-severity="warning">
      <p>
        <b>{check.name}</b>: {trans.__("found %1, wanted %2", valueText(check.found), valueText(check.wanted))}
      </p>
      {check.fix && <Copyable text={check.fix} label={trans.__("how to mend %1", check.name)} />}
    </div>
  );
}
