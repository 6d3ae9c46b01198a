import assert from "node:assert/strict";
import test from "node:test";
import { type Clock, Reconnecting, type Socket, waitBefore } from "../src/api/reconnecting";

/** Time that passes when the test says so. */
class Hours implements Clock {
  private now = 0;
  private readonly timers = new Map<number, { at: number; does: () => void }>();
  private next = 1;

  setTimeout(does: () => void, ms: number): number {
    this.timers.set(this.next, { at: this.now + ms, does });
    return this.next++;
  }

  clearTimeout(timer: unknown): void {
    this.timers.delete(timer as number);
  }

  pass(ms: number): void {
    const until = this.now + ms;
    for (;;) {
      const due = [...this.timers].filter(([, { at }]) => at <= until).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      this.timers.delete(due[0]);
      this.now = due[1].at;
      due[1].does();
    }
    this.now = until;
  }

  get waiting(): number {
    return this.timers.size;
  }
}

class Line implements Socket {
  onopen: Socket["onopen"] = null;
  onclose: Socket["onclose"] = null;
  onmessage: Socket["onmessage"] = null;
  readonly said: string[] = [];
  closed = false;

  send(text: string): void {
    this.said.push(text);
  }

  close(): void {
    this.closed = true;
  }

  hear(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) } as MessageEvent);
  }
}

function connection() {
  const clock = new Hours();
  const lines: Line[] = [];
  const heard: unknown[] = [];
  const states: boolean[] = [];
  const line = () => {
    const made = new Line();
    lines.push(made);
    return made;
  };
  const socket = new Reconnecting(
    line,
    (message) => heard.push(message),
    (state) => states.push(state),
    clock,
  );
  const last = () => lines[lines.length - 1] as Line;
  return { clock, lines, heard, states, socket, last };
}

test("a broken connection is tried again, later each time, and soon again after one that stood", () => {
  const { clock, lines, states, last } = connection();
  last().onopen?.({} as Event);
  last().onclose?.({} as CloseEvent);
  assert.deepEqual(states, [true, false]);
  clock.pass(1000);
  assert.equal(lines.length, 2);
  for (let i = 0; i < 6; i += 1) {
    last().onclose?.({} as CloseEvent);
    clock.pass(20_000);
  }
  assert.equal(lines.length, 8);
  last().onopen?.({} as Event);
  last().onclose?.({} as CloseEvent);
  clock.pass(1000);
  assert.equal(lines.length, 9);
});

test("waits grow to a quarter of a minute, a little apart from each other", () => {
  assert.equal(waitBefore(0, 0.5), 500);
  assert.equal(waitBefore(3, 0.5), 4000);
  assert.equal(waitBefore(50, 1), 18_750);
  assert.ok(waitBefore(50, 0) < waitBefore(50, 1));
});

test("a connection that says nothing at all, not even to a ping, is taken for broken", () => {
  const { clock, lines, states, last } = connection();
  last().onopen?.({} as Event);
  clock.pass(45_000);
  assert.ok(last().said.some((text) => text.includes("ping")));
  last().hear({ type: "pong" });
  clock.pass(45_000);
  assert.deepEqual(states, [true]);
  clock.pass(10_000);
  assert.deepEqual(states, [true, false]);
  assert.ok(lines[0]?.closed);
  assert.equal(lines.length, 2);
});

test("what an old connection still says is not heard", () => {
  const { clock, heard, lines, last } = connection();
  const first = last();
  const late = first.onmessage;
  first.onopen?.({} as Event);
  first.hear({ n: 1 });
  first.onclose?.({} as CloseEvent);
  clock.pass(1000);
  assert.equal(lines.length, 2);
  assert.equal(first.onmessage, null);
  assert.ok(late);
  last().onopen?.({} as Event);
  last().hear({ n: 2 });
  assert.deepEqual(heard, [{ n: 1 }, { n: 2 }]);
});

test("a person who does not want to wait is obeyed at once, and only once", () => {
  const { clock, lines, socket, last } = connection();
  last().onclose?.({} as CloseEvent);
  socket.again();
  socket.again();
  assert.equal(lines.length, 2);
  clock.pass(30_000);
  assert.equal(lines.length, 2);
});

test("what is said without a connection is lost, and closing leaves nothing behind", () => {
  const { clock, socket, last } = connection();
  socket.send("early");
  assert.deepEqual(last().said, []);
  last().onopen?.({} as Event);
  socket.send("now");
  assert.deepEqual(last().said, ["now"]);
  socket.close();
  assert.ok(last().closed);
  assert.equal(clock.waiting, 0);
});
