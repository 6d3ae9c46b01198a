import { Clipboard } from "@jupyterlab/apputils";
import * as React from "react";
import { RefusedError } from "../api/client";
import { useSession } from "../panel/context";

/** What is shown where there is nothing: why, and what to do. */
export function Empty(props: { title: string; children?: React.ReactNode }): JSX.Element {
  return (
    <div className="vl-empty">
      <p className="vl-empty-title">{props.title}</p>
      {props.children}
    </div>
  );
}

/** An error in the server's words, with its hint, and a button to try again. */
export function Failure(props: { error: Error; retry?: () => void }): JSX.Element {
  const { trans } = useSession();
  const hint = props.error instanceof RefusedError ? props.error.hint : null;
  return (
    <div className="vl-failure" role="alert">
      <p>{props.error.message}</p>
      {hint && <p className="vl-quiet">{hint}</p>}
      {props.retry && <Button onClick={props.retry}>{trans.__("Try again")}</Button>}
    </div>
  );
}

export function Button(props: {
  onClick?: (() => void) | undefined;
  children: React.ReactNode;
  primary?: boolean;
  danger?: boolean;
  disabled?: boolean;
  submit?: boolean;
  label?: string;
  title?: string;
  pressed?: boolean;
}): JSX.Element {
  const kind = props.primary ? " vl-primary" : props.danger ? " vl-danger" : "";
  return (
    <button
      type={props.submit ? "submit" : "button"}
      className={`vl-button${kind}`}
      onClick={props.onClick}
      disabled={props.disabled}
      aria-label={props.label}
      aria-pressed={props.pressed}
      title={props.title}
    >
      {props.children}
    </button>
  );
}

/** The choices of a select: what each stands for, and its text. */
export function Options({ of }: { of: Iterable<readonly [string, string]> }): JSX.Element {
  return (
    <>
      {[...of].map(([value, text]) => (
        <option key={value} value={value}>
          {text}
        </option>
      ))}
    </>
  );
}

/** Where one types what a list is to show. */
export function SearchBox(props: { label: string; value: string; type: (value: string) => void }): JSX.Element {
  return (
    <input
      type="search"
      className="vl-input"
      placeholder={props.label}
      aria-label={props.label}
      value={props.value}
      onChange={(event) => props.type(event.target.value)}
    />
  );
}

/** What stands above one thing that was picked from a list. */
export function Heading(props: { title: string; back: () => void; backTo: string }): JSX.Element {
  return (
    <div className="vl-form-head">
      <Button onClick={props.back} label={props.backTo}>
        ←
      </Button>
      <h2>{props.title}</h2>
    </div>
  );
}

/** One thing of a list, to pick: its name, a line about it, and more where there is more to say. */
export function Pick(props: {
  name: string;
  about: readonly (string | null)[];
  hint: string;
  pick: () => void;
  children?: React.ReactNode;
}): JSX.Element {
  return (
    <button type="button" className="vl-card vl-card-button" onClick={props.pick} title={props.hint}>
      <span className="vl-card-title">{props.name}</span>
      <span className="vl-quiet vl-one-line">{props.about.filter(Boolean).join(" · ")}</span>
      {props.children}
    </button>
  );
}

/** Names with what they stand for. */
export function FactList({ of }: { of: Iterable<readonly [string, React.ReactNode]> }): JSX.Element {
  return (
    <dl className="vl-facts">
      {[...of].map(([name, value]) => (
        <React.Fragment key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </React.Fragment>
      ))}
    </dl>
  );
}

/** A state as a dot and a word; the dot alone says nothing that the word beside it does not. */
export function Dot(props: { state: string }): JSX.Element {
  return <span className="vl-dot" data-state={props.state} aria-hidden="true" />;
}

/** A labelled input; `hint` and `problem` are read out with it. */
export function Labelled(props: {
  label: string;
  hint?: string | null | undefined;
  problem?: string | null | undefined;
  children: (attributes: { id: string; "aria-describedby": string; "aria-invalid": boolean }) => React.ReactNode;
  aside?: React.ReactNode;
}): JSX.Element {
  const id = React.useId();
  return (
    <div className="vl-field">
      <div className="vl-field-head">
        <label htmlFor={id}>{props.label}</label>
        {props.aside}
      </div>
      {props.children({ id, "aria-describedby": `${id}-told`, "aria-invalid": Boolean(props.problem) })}
      <div id={`${id}-told`} className={props.problem ? "vl-problem" : "vl-quiet vl-hint"}>
        {props.problem || props.hint}
      </div>
    </div>
  );
}

/** Text that can be copied. */
export function Copyable(props: { text: string; label: string }): JSX.Element {
  const { trans } = useSession();
  const [copied, setCopied] = React.useState(false);
  React.useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 2000);
    return () => clearTimeout(timer);
  }, [copied]);
  return (
    <div className="vl-copyable">
      <code>{props.text}</code>
      <Button
        label={trans.__("Copy %1", props.label)}
        onClick={() => {
          Clipboard.copyToSystem(props.text);
          setCopied(true);
        }}
      >
        {copied ? trans.__("Copied") : trans.__("Copy")}
      </Button>
    </div>
  );
}
