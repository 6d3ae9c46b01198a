import * as React from "react";
import { RefusedError } from "../api/client";
import { useSession } from "../panel/context";
import { Button, Failure, Labelled } from "../ui/parts";
import { useWork } from "../ui/request";

const EMPTY = { name: "", address: "", port: "22", user: "", key: "", password: "", passphrase: "", runs_root: "" };
type FieldName = keyof typeof EMPTY;

/** Asks for a host; its secrets go to the server alone, never into a cell. */
export function HostForm({ close, added }: { close: () => void; added: () => void }): JSX.Element {
  const { client, trans } = useSession();
  const [typed, setTyped] = React.useState(EMPTY);
  const { busy, failed, does } = useWork();
  const fault = failed instanceof RefusedError ? failed.field : null;
  const input = (
    name: FieldName,
    label: string,
    hint: string,
    more: React.InputHTMLAttributes<HTMLInputElement> = {},
  ) => (
    <Labelled label={label} hint={hint} problem={fault === name ? failed?.message : null}>
      {(attributes) => (
        <input
          {...attributes}
          {...more}
          className="vl-input"
          spellCheck={false}
          value={typed[name]}
          onChange={(event) => setTyped({ ...typed, [name]: event.target.value })}
        />
      )}
    </Labelled>
  );
  const add = () =>
    does(trans.__("Adding…"), async () => {
      const given = Object.entries(typed).filter(([, value]) => value !== "");
      await client.addHost({ ...Object.fromEntries(given), port: Number(typed.port) });
      setTyped(EMPTY);
      added();
    });
  return (
    <form
      className="vl-stack"
      aria-label={trans.__("Add a host")}
      onSubmit={(event) => {
        event.preventDefault();
        void add();
      }}
    >
      <fieldset className="vl-group-box">
        <legend>{trans.__("Add a host")}</legend>
        {input("name", trans.__("Name"), trans.__("What to call it here"), { required: true, maxLength: 64 })}
        {input("address", trans.__("Address"), trans.__("A name, an IP address, or an alias of ~/.ssh/config"), {
          required: true,
        })}
        {input("user", trans.__("User"), trans.__("Default: your name here"), { autoComplete: "off" })}
        {input("port", trans.__("Port"), "", { inputMode: "numeric", pattern: "[0-9]+" })}
        {input("key", trans.__("Private key"), trans.__("A file here; default: an agent, then the usual files"))}
        <details>
          <summary>{trans.__("More")}</summary>
          {input("password", trans.__("Password"), trans.__("Kept encrypted"), {
            type: "password",
            autoComplete: "new-password",
          })}
          {input("passphrase", trans.__("Passphrase of the key"), trans.__("Kept encrypted"), {
            type: "password",
            autoComplete: "new-password",
          })}
          {input("runs_root", trans.__("Folder for runs"), trans.__("On the host; default: ~/.verl-lab"))}
        </details>
        {failed && !fault && <Failure error={failed} />}
        <div className="vl-buttons">
          <Button primary submit disabled={busy !== null}>
            {trans.__("Add")}
          </Button>
          <Button onClick={close}>{trans.__("Cancel")}</Button>
        </div>
      </fieldset>
    </form>
  );
}
