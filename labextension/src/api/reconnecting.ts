/** The part of a WebSocket that is used here. */
export interface Socket {
  onopen: ((event: Event) => unknown) | null;
  onclose: ((event: CloseEvent) => unknown) | null;
  onmessage: ((event: MessageEvent) => unknown) | null;
  send(text: string): void;
  close(): void;
}

export interface Clock {
  setTimeout(does: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
}

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const PING_MS = 20_000;
const SILENCE_MS = 50_000;

/** How long to wait before a try: twice as long each time, up to a quarter of a minute, a little at random. */
export function waitBefore(tries: number, dice: number = Math.random()): number {
  return Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** tries) * (0.75 + dice / 2);
}

/** A socket that comes back: when it breaks, and when it says nothing for so long that it must be broken. */
export class Reconnecting {
  private socket: Socket | null = null;
  private waiting: unknown = null;
  private pinging: unknown = null;
  private silent: unknown = null;
  private tries = 0;
  private closed = false;
  private connected = false;

  constructor(
    private readonly open: () => Socket,
    private readonly heard: (message: unknown) => void,
    private readonly changed: (connected: boolean) => void,
    private readonly clock: Clock = {
      setTimeout: (does, ms) => setTimeout(does, ms),
      clearTimeout: (timer) => clearTimeout(timer as number),
    },
    private readonly read: (data: unknown) => unknown = (data) => JSON.parse(String(data)),
  ) {
    this.connect();
  }

  /** Try at once, as a person may ask who does not want to wait. */
  again(): void {
    if (!this.closed && this.waiting !== null) {
      this.clock.clearTimeout(this.waiting);
      this.connect();
    }
  }

  /** Say something, if there is a connection; what is said without one is lost. */
  send(text: string): void {
    if (this.connected) {
      this.socket?.send(text);
    }
  }

  close(): void {
    this.closed = true;
    this.clock.clearTimeout(this.waiting);
    this.drop();
  }

  private connect(): void {
    this.waiting = null;
    let socket: Socket;
    try {
      socket = this.open();
    } catch {
      this.later();
      return;
    }
    this.socket = socket;
    socket.onopen = () => {
      this.tries = 0;
      this.connected = true;
      this.listen();
      this.ping();
      this.changed(true);
    };
    socket.onmessage = (event) => {
      this.listen();
      this.heard(this.read(event.data));
    };
    socket.onclose = () => this.lost(socket);
  }

  private ping(): void {
    this.pinging = this.clock.setTimeout(() => {
      this.socket?.send('{"type": "ping"}');
      this.ping();
    }, PING_MS);
  }

  /** A connection that a sleeping laptop lost may never say that it is closed. */
  private listen(): void {
    this.clock.clearTimeout(this.silent);
    const socket = this.socket;
    this.silent = this.clock.setTimeout(() => socket && this.lost(socket), SILENCE_MS);
  }

  private lost(socket: Socket): void {
    if (socket !== this.socket) {
      return;
    }
    this.drop();
    this.changed(false);
    this.later();
  }

  private later(): void {
    if (!this.closed) {
      this.waiting = this.clock.setTimeout(() => this.connect(), waitBefore(this.tries));
      this.tries += 1;
    }
  }

  private drop(): void {
    this.clock.clearTimeout(this.pinging);
    this.clock.clearTimeout(this.silent);
    const { socket } = this;
    this.socket = null;
    this.connected = false;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
  }
}
