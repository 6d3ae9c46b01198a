import * as React from "react";
import { useSession } from "../panel/context";
import { Button, Empty, Failure, Pick } from "../ui/parts";
import { useRequest, useWork } from "../ui/request";
import { bytes } from "../ui/words";
import { DatasetView } from "./DatasetView";

/** The data sets, by what they hold. */
export function DataTab(): JSX.Element {
  const { client, trans } = useSession();
  const { data, error, reload } = useRequest(() => client.datasets(), []);
  const [picked, setPicked] = React.useState<string | null>(null);
  const [path, setPath] = React.useState("");
  const { busy, failed, does } = useWork();
  const add = () =>
    does(trans.__("Reading…"), async () => {
      setPicked((await client.addDataset(path.trim(), null)).hash);
      setPath("");
      reload();
    });
  if (picked !== null) {
    return <DatasetView key={picked} hash={picked} back={() => setPicked(null)} />;
  }
  return (
    <>
      <form
        className="vl-tools vl-tools-row"
        aria-label={trans.__("Add a data set")}
        onSubmit={(event) => {
          event.preventDefault();
          void add();
        }}
      >
        <input
          className="vl-input"
          placeholder={trans.__("File or folder to add")}
          aria-label={trans.__("File or folder to add")}
          spellCheck={false}
          value={path}
          onChange={(event) => setPath(event.target.value)}
        />
        <Button submit disabled={busy !== null || path.trim() === ""}>
          {busy ?? trans.__("Add")}
        </Button>
      </form>
      {failed && <Failure error={failed} />}
      {error && <Failure error={error} retry={reload} />}
      {data?.rows.length === 0 && (
        <Empty title={trans.__("No data sets yet")}>
          <p>{trans.__("A launch adds what it trains on. Or name a file above.")}</p>
        </Empty>
      )}
      <ul className="vl-scroll vl-plain-list" aria-label={trans.__("Data sets")}>
        {(data?.rows ?? []).map((row) => {
          const rows = row.rows === null ? null : trans._n("%1 row", "%1 rows", row.rows);
          const uses = row.used_by ? trans._n("%1 run", "%1 runs", row.used_by) : trans.__("no runs");
          return (
            <li key={row.hash}>
              <Pick
                name={row.name}
                about={[rows, bytes(row.size), uses, row.hash.slice(0, 12)]}
                hint={row.path ?? ""}
                pick={() => setPicked(row.hash)}
              />
            </li>
          );
        })}
      </ul>
    </>
  );
}
