import { useCallback, useEffect, useRef, useState } from "react";
import { RefusedError } from "../api/client";
import { useSession } from "../panel/context";
import { useStore } from "./store";

export interface Asked<T> {
  data: T | null;
  error: Error | null;
  loading: boolean;
  reload: () => void;
}

/**
 * Ask the server when `deps` change; what was there stays until the answer is. What failed is asked again when the
 * connection comes back.
 */
export function useRequest<T>(ask: () => Promise<T>, deps: readonly unknown[]): Asked<T> {
  const [state, setState] = useState<{ data: T | null; error: Error | null; loading: boolean }>({
    data: null,
    error: null,
    loading: true,
  });
  const [turn, setTurn] = useState(0);
  const latest = useRef(0);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the caller says what the answer depends on
  useEffect(() => {
    latest.current += 1;
    const mine = latest.current;
    setState((before) => ({ ...before, loading: true }));
    ask().then(
      (data) => mine === latest.current && setState({ data, error: null, loading: false }),
      (error: unknown) =>
        mine === latest.current && setState((before) => ({ ...before, error: asError(error), loading: false })),
    );
  }, [...deps, turn]);
  const connection = useStore(useSession().live.connection);
  const hasFailed = useRef(false);
  hasFailed.current = state.error !== null;
  useEffect(() => {
    if (connection === "connected" && hasFailed.current) setTurn((n) => n + 1);
  }, [connection]);
  return { ...state, reload: useCallback(() => setTurn((n) => n + 1), []) };
}

/** Return a value once it has not changed for a while. */
export function useSettled<T>(value: T, ms: number): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return settled;
}

export interface Work {
  /** What is being done, in words; null when nothing is. */
  busy: string | null;
  failed: Error | null;
  does: (what: string, work: () => Promise<unknown>) => Promise<void>;
}

/** Do one thing at a person's request, and keep why it failed until the next. */
export function useWork(): Work {
  const [busy, setBusy] = useState<string | null>(null);
  const [failed, setFailed] = useState<Error | null>(null);
  const does = async (what: string, work: () => Promise<unknown>) => {
    setBusy(what);
    setFailed(null);
    try {
      await work();
    } catch (error) {
      setFailed(asError(error));
    } finally {
      setBusy(null);
    }
  };
  return { busy, failed, does };
}

export function asError(error: unknown): Error {
  return error instanceof Error ? error : new RefusedError(0, String(error));
}
