// Which edge a page asks. In: what its edge tells of others, whether it answers,
// and the time. Out: when to look at the others, and in which order. The page was
// loaded from one edge and may read from any: all give the same bytes.

// An edge that does not answer for so long is left, if another does; a publisher's
// pause and a single lost request are shorter.
export const LOOK_MS = 1500;
// And no more often than this.
export const AGAIN_MS = 3000;
const MAX_EDGES = 16;

export class Edges {
  current;

  #all;
  #failingSinceMs = null;
  #lookedMs = -Infinity;

  // `own` is the origin that the page came from.
  constructor(own) {
    this.current = own;
    this.#all = [own];
  }

  // The body of `/api/v1/alternatives`.
  learn(body) {
    const told = Array.isArray(body?.alternatives) ? body.alternatives : [];
    const secure = this.#all[0].startsWith('https:');
    for (const text of told) {
      if (typeof text !== 'string' || !/^https?:\/\/[^/\s]+$/.test(text)) continue;
      // A page of HTTPS may not ask for anything else.
      if ((secure && !text.startsWith('https:')) || this.#all.includes(text)) continue;
      if (this.#all.length < MAX_EDGES) this.#all.push(text);
    }
  }

  // The others, from the one after the present one on.
  get others() {
    const at = this.#all.indexOf(this.current);
    return [...this.#all.slice(at + 1), ...this.#all.slice(0, at)];
  }

  // `failing` is the status of what went wrong (0: no answer) or null. Whether to
  // look at the others now; a refusal (4xx) is the same everywhere.
  sample(nowMs, failing) {
    const away = failing === 0 || failing >= 500;
    if (!away) {
      this.#failingSinceMs = null;
      return false;
    }
    this.#failingSinceMs ??= nowMs;
    return nowMs - this.#failingSinceMs >= LOOK_MS && this.mayLook(nowMs);
  }

  // Asked for by name: the edge says that it leaves.
  mayLook(nowMs) {
    if (this.#all.length < 2 || nowMs - this.#lookedMs < AGAIN_MS) return false;
    this.#lookedMs = nowMs;
    return true;
  }

  move(to) {
    this.current = to;
    this.#failingSinceMs = null;
  }
}
