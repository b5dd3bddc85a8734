// How long to wait before asking again. In: the number of failed attempts so
// far and a random number in [0, 1). Out: milliseconds, always within
// [MIN_MS, MAX_MS]. The jitter keeps the viewers of one edge from returning in
// the same instant after it was away.

export const MIN_MS = 1000;
export const MAX_MS = 5000;
const GROWTH = 1.6;
const JITTER = 0.3;

export function backoffMs(attempt, random) {
  const nominal = MIN_MS * GROWTH ** Math.min(Math.max(attempt, 0), 16);
  const spread = 1 + JITTER * (2 * random - 1);
  return Math.round(Math.min(MAX_MS, Math.max(MIN_MS, Math.min(nominal, MAX_MS) * spread)));
}
