import type { Content } from "./frame";

interface Playback {
  position: number;
  speed: number;
  is_playing: boolean;
}

const MOST_KEPT = 200;

/** Where choices outlive the page; `sessionStorage` of the browser, if it may be used. */
export type Kept = Pick<Storage, "getItem" | "setItem">;

/**
 * What a person has chosen in a panel: said again to a session that knows nothing of it, after a break and after
 * the page was loaded anew.
 */
export class Choices {
  private readonly chosen: Map<string, Content>;
  private playback: Playback | null = null;

  constructor(
    private readonly kept: Kept | null,
    private readonly name: string,
  ) {
    this.chosen = new Map(read(kept, name));
  }

  /** Take note of what the page asks for. */
  asked(content: Content): void {
    const { type } = content;
    if (type === "view") {
      const before = this.chosen.get(type);
      // Steps and seconds have no range in common.
      this.chosen.set(type, { ...before, ...("axis" in content ? { span: null } : {}), ...content });
    } else if (type === "show" || type === "overlay" || type === "acknowledge") {
      this.chosen.set(`${type} ${content.metric ?? content.id ?? content.key}`, content);
    } else {
      return;
    }
    try {
      this.kept?.setItem(this.name, JSON.stringify([...this.chosen].slice(-MOST_KEPT)));
    } catch {
      // There is no room: then the choices hold as long as the page.
    }
  }

  /** Take note of where a replay stands. */
  heard({ type, header }: Content): void {
    if (type === "snapshot") {
      this.playback = (header as { playback?: Playback | null } | undefined)?.playback ?? null;
    }
  }

  again(): Content[] {
    const { playback } = this;
    const moved = playback && [
      { type: "speed", speed: playback.speed },
      { type: playback.is_playing ? "play" : "pause" },
      { type: "seek", step: playback.position },
    ];
    return [...this.chosen.values(), ...(moved ?? [])];
  }
}

function read(kept: Kept | null, name: string): [string, Content][] {
  try {
    const found: unknown = JSON.parse(kept?.getItem(name) ?? "[]");
    return Array.isArray(found) ? found : [];
  } catch {
    return [];
  }
}
