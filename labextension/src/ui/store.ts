import { type ISignal, Signal } from "@lumino/signaling";
import { useSyncExternalStore } from "react";

/** A value that tells when it changes. */
export class Store<T> {
  private readonly signal = new Signal<this, T>(this);

  constructor(private held: T) {}

  get value(): T {
    return this.held;
  }

  get changed(): ISignal<this, T> {
    return this.signal;
  }

  set(value: T): void {
    if (value !== this.held) {
      this.held = value;
      this.signal.emit(value);
    }
  }

  readonly subscribe = (heard: () => void): (() => void) => {
    this.signal.connect(heard);
    return () => {
      this.signal.disconnect(heard);
    };
  };
}

export function useStore<T>(store: Store<T>): T {
  return useSyncExternalStore(store.subscribe, () => store.value);
}
