// Fast mode's judgement: how fast to play, where to jump, and whether the network
// holds it. In: what a tick measures, in seconds and milliseconds. Out: numbers.
// It knows neither the DOM nor a clock.

// Behind the camera, where the network allows it.
export const TARGET_S = 0.35;
// A network that stalls it is given more, up to a limit at which LL-HLS does better.
export const STEP_S = 0.1;
export const MOST_S = 0.85;
// So long without a stall, and a step is taken back.
export const FORGIVE_MS = 20_000;
// So many stalls within so long, and fast mode is the wrong one.
export const STALLS = 5;
export const STALLS_WITHIN_MS = 20_000;

const FASTEST = 1.3;
const SLOWEST = 0.9;
const GAIN = 0.6;
const RATE_STEP = 0.02;
// No correction within so much of the target.
const DEAD_S = 0.02;
// Sound comes in chunks of a tenth of a second: less than this is a stall in sight.
const LEAST_BUFFER_S = 0.05;
// Further behind than this is not made up for by playing faster.
const JUMP_S = 1.2;
const LATENCY_SMOOTHING = 0.3;

// Whether an answer to a stream's request is the last word: an expired link (403) stays
// one, while a full server, or one that finds us too busy (429), may answer later.
export const isFinal = (status) => status >= 400 && status < 500 && status !== 429;

export class FastPace {
  targetS = TARGET_S;

  #latencyS = null;
  #stallsMs = [];
  #changedMs = 0;

  // The rate to play at; `latencyS` behind the camera, `bufferS` ahead.
  rate(latencyS, bufferS) {
    if (latencyS === null) {
      this.#latencyS = null;
      return 1;
    }
    const before = this.#latencyS ?? latencyS;
    this.#latencyS = before + LATENCY_SMOOTHING * (latencyS - before);
    const lagS = this.#latencyS - this.targetS;
    if (bufferS < LEAST_BUFFER_S) return lagS < 0 ? SLOWEST : 1;
    if (Math.abs(lagS) < DEAD_S) return 1;
    const steps = Math.round((GAIN * lagS) / RATE_STEP);
    return Math.min(FASTEST, Math.max(SLOWEST, 1 + RATE_STEP * steps));
  }

  // The position moved by more than playing does.
  jumped() {
    this.#latencyS = null;
  }

  // Whether fast mode may go on after this stall.
  stalled(nowMs) {
    this.#stallsMs = this.#stallsMs.filter((ms) => nowMs - ms < STALLS_WITHIN_MS);
    this.#stallsMs.push(nowMs);
    this.#changedMs = nowMs;
    this.targetS = Math.min(MOST_S, this.targetS + STEP_S);
    return this.#stallsMs.length < STALLS;
  }

  // Takes back what a stall added, a step at a time.
  steady(nowMs) {
    if (this.targetS <= TARGET_S || nowMs - this.#changedMs < FORGIVE_MS) return;
    this.#changedMs = nowMs;
    this.targetS = Math.max(TARGET_S, this.targetS - STEP_S);
  }
}

// Where to jump, or null to play on. `ranges` are the buffered stretches as
// [start, end]; `behindS` is how far the buffer's end is behind the camera.
export function jump(ranges, position, targetS, behindS, stuck) {
  const last = ranges.at(-1);
  if (!last) return null;
  const [start, end] = last;
  const goal = Math.max(start, end - Math.max(0.1, targetS - behindS));
  const within = ranges.some(([from, to]) => position >= from && position < to);
  // At first, or in a hole: media was left out because the viewer was behind.
  if (position < start && (!within || stuck)) return goal;
  if (!within && position > end) return goal;
  return end - position + behindS - targetS > JUMP_S ? goal : null;
}

// What of the buffer may go: [from, to] in seconds, or null.
export function expired(ranges, position, keepS) {
  const first = ranges[0]?.[0];
  const to = position - keepS;
  return first !== undefined && to - first > keepS / 2 ? [first, to] : null;
}
