import { Dialog, showDialog } from "@jupyterlab/apputils";
import * as React from "react";
import type { HostRow, HostTest } from "../api/types";
import { useSession } from "../panel/context";
import { Button, Dot, Failure } from "../ui/parts";
import { useWork } from "../ui/request";
import { bytes } from "../ui/words";
import { Gpus } from "./Gpus";
import { SetUp } from "./SetUp";
import { TestSteps } from "./TestSteps";

/** One host: how it is reached, what it has, and what can be done with it. */
export function HostCard(props: { row: HostRow; reload: () => void }): JSX.Element {
  const { reload } = props;
  const { client, trans } = useSession();
  const [seen, setSeen] = React.useState<HostRow | null>(null);
  const [test, setTest] = React.useState<HostTest | null>(null);
  const [task, setTask] = React.useState<string | null>(null);
  const { busy, failed, does } = useWork();
  const row = seen ?? props.row;
  const isLocal = row.name === "local";
  // biome-ignore lint/correctness/useExhaustiveDependencies: a list that was read again is more recent
  React.useEffect(() => setSeen(null), [props.row]);

  const look = () => does(trans.__("Asking…"), async () => setSeen(await client.look(row.name)));
  const tryOut = () => does(trans.__("Testing…"), async () => setTest(await client.testHost(row.name)));
  const accept = (fingerprint: string) =>
    does(trans.__("Accepting…"), async () => {
      await client.acceptHost(row.name, fingerprint);
      setTest(await client.testHost(row.name));
      reload();
    });
  const setUp = () => does(trans.__("Setting up…"), async () => setTask((await client.setUpHost(row.name)).task));
  const remove = async () => {
    const answer = await showDialog({
      title: trans.__("Remove %1?", row.name),
      body: trans.__("Its runs stay listed, and their folders stay on it. Its password is forgotten."),
      buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: trans.__("Remove") })],
    });
    if (answer.button.accept) {
      await does(trans.__("Removing…"), async () => {
        await client.removeHost(row.name, false);
        reload();
      });
    }
  };
  const where = isLocal ? trans.__("this machine") : `${row.user ? `${row.user}@` : ""}${row.address ?? ""}`;
  return (
    <article className="vl-card" aria-label={trans.__("Host %1", row.name)}>
      <div className="vl-card-head">
        <Dot state={row.state} />
        <span className="vl-card-title">{row.name}</span>
        <span className="vl-quiet">{busy ?? row.state}</span>
      </div>
      <p className="vl-quiet vl-one-line">{where}</p>
      {row.message && <p className="vl-card-text">{row.message}</p>}
      <Gpus gpus={row.gpus} />
      <Facts row={row} />
      {test && <TestSteps test={test} accept={accept} />}
      {task && <SetUp task={task} ended={reload} />}
      {failed && <Failure error={failed} />}
      <div className="vl-buttons">
        <Button onClick={() => void look()} disabled={busy !== null}>
          {trans.__("Look")}
        </Button>
        {!isLocal && (
          <>
            <Button onClick={() => void tryOut()} disabled={busy !== null}>
              {trans.__("Test")}
            </Button>
            <Button onClick={() => void setUp()} disabled={busy !== null}>
              {trans.__("Set up")}
            </Button>
            <Button onClick={() => void remove()} disabled={busy !== null} danger>
              {trans.__("Remove")}
            </Button>
          </>
        )}
      </div>
    </article>
  );
}

function Facts({ row }: { row: HostRow }): JSX.Element | null {
  const { trans } = useSession();
  const mb = 2 ** 20;
  const facts: string[] = [];
  if (row.load?.load != null)
    facts.push(trans.__("load %1 on %2 cores", row.load.load.toFixed(1), row.load.cores ?? "?"));
  if (row.memory) facts.push(trans.__("%1 memory free", bytes(row.memory.available_mb * mb)));
  if (row.disk) facts.push(trans.__("%1 disk free", bytes(row.disk.free_mb * mb)));
  if (row.live_runs) facts.push(trans._n("%1 live run", "%1 live runs", row.live_runs));
  return facts.length ? <p className="vl-quiet">{facts.join(" · ")}</p> : null;
}
