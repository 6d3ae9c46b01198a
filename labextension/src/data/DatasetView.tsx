import * as React from "react";
import type { Dataset } from "../api/types";
import { useSession } from "../panel/context";
import { Button, Copyable, FactList, Failure, Heading } from "../ui/parts";
import { useRequest } from "../ui/request";
import { bytes } from "../ui/words";

/** One data set: what it holds, who used it, what it was made from. */
export function DatasetView({ hash, back }: { hash: string; back: () => void }): JSX.Element {
  const { client, commands, trans } = useSession();
  const { data, error, reload } = useRequest(() => client.dataset(hash), [hash]);
  const lineage = useRequest(() => client.lineage(hash), [hash]);
  return (
    <>
      <Heading title={data?.name ?? hash.slice(0, 12)} back={back} backTo={trans.__("Back to the data sets")} />
      <div className="vl-scroll vl-pad vl-stack">
        {error && <Failure error={error} retry={reload} />}
        {data && (
          <>
            {data.changed.length > 0 && (
              <div className="vl-finding" data-severity="warning">
                <b>{trans.__("It is another by now:")}</b> {data.changed.join(", ")}
              </div>
            )}
            <FactList
              of={[
                [trans.__("rows"), data.rows ?? trans.__("unknown")],
                [trans.__("size"), bytes(data.size)],
                [trans.__("columns"), data.columns.join(", ")],
                [trans.__("where"), data.path ?? trans.__("nowhere any more")],
              ]}
            />
            <Copyable text={data.hash} label={trans.__("the hash")} />
            <Rows rows={data.preview} />
            {data.runs.length > 0 && (
              <section>
                <h3>{trans.__("Trained on it")}</h3>
                <div className="vl-buttons">
                  {data.runs.slice(0, 20).map((run) => (
                    <Button key={run} onClick={() => void commands.execute("verl-lab:open", { runs: [run] })}>
                      {run}
                    </Button>
                  ))}
                </div>
              </section>
            )}
          </>
        )}
        {lineage.data && (
          <section>
            <h3>{trans.__("Lineage")}</h3>
            <pre className="vl-log" tabIndex={0}>
              {lineage.data.text}
            </pre>
          </section>
        )}
      </div>
    </>
  );
}

function Rows({ rows }: { rows: Dataset["preview"] }): JSX.Element | null {
  const { trans } = useSession();
  if (rows.length === 0) {
    return null;
  }
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const text = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value ?? null));
  return (
    <section>
      <h3>{trans.__("First rows")}</h3>
      <div className="vl-table-box" tabIndex={0} role="group" aria-label={trans.__("First rows")}>
        <table>
          <thead>
            <tr>
              {columns.map((column) => (
                <th key={column} scope="col">
                  {column}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((row, index) => (
              // biome-ignore lint/suspicious/noArrayIndexKey: a row of a file is its place in it
              <tr key={index}>
                {columns.map((column) => (
                  <td key={column}>{text(row[column]).slice(0, 300)}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
