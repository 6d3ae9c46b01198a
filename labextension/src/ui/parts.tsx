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
