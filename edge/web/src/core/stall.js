// Stalls, seen from the play position alone. In: a sample every quarter of a
// second or so. Out: how many stalls there were, how long they took together,
// and for how long the present one has lasted. A pause is no stall; a jump is no
// movement, since a player that is stuck nudges itself; and nothing counts
// before the first movement.

export const STALL_MS = 500;

export class StallMeter {
  count = 0;
  totalMs = 0;
  #position = null;
  #movedMs = null;
  #counted = false;

  // `nowMs` from a monotonic clock; `position` in seconds; `jumped` where the
  // position was set since the last sample.
  sample(nowMs, { position, idle, jumped = false }) {
    const moved = this.#position !== null && !jumped && position !== this.#position;
    const first = this.#position === null;
    this.#position = position;
    if (first) return 0;
    if (this.#movedMs === null && !moved) return 0;
    if (moved || idle) {
      if (this.#counted) this.totalMs += nowMs - this.#movedMs;
      this.#counted = false;
      this.#movedMs = nowMs;
      return 0;
    }
    const stuckMs = nowMs - this.#movedMs;
    if (stuckMs >= STALL_MS && !this.#counted) {
      this.#counted = true;
      this.count += 1;
    }
    return stuckMs;
  }

  // A new source starts: waiting for its first picture is no stall.
  restart() {
    this.#position = null;
    this.#movedMs = null;
    this.#counted = false;
  }
}
