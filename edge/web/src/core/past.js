// How far a viewer can go back. A window is worth a bar only where it is longer
// than what every broadcast lists anyway: eight target durations, the segment
// that fills them, and the open one.

export const LEAST_TARGETS = 11;
// Where the browser plays HLS itself it does not tell the target duration.
export const LEAST_NATIVE_S = 60;
// What leaves the list while it is being loaded is no place to go to.
const MARGIN_TARGETS = 2;

// `start` and `edge` on the player's timeline. null without a past.
export function pastOf({ start, edge, targetS }) {
  const known = [start, edge].every(Number.isFinite);
  const leastS = targetS ? LEAST_TARGETS * targetS : LEAST_NATIVE_S;
  if (!known || edge - start <= leastS) return null;
  return { start: start + MARGIN_TARGETS * (targetS || 0), edge };
}

// Where a wish to be at `position` leads: into the past, or to the live edge.
export function destination(position, past, live) {
  if (position >= live) return { position: live, live: true };
  return { position: Math.max(position, past.start), live: false };
}

// Seconds behind the edge as a viewer reads them, and as one hears them.
export function behindText(behindS) {
  const whole = Math.max(0, Math.round(behindS));
  const seconds = String(whole % 60).padStart(2, '0');
  return `-${Math.floor(whole / 60)}:${seconds}`;
}

export function behindWords(behindS) {
  const whole = Math.max(0, Math.round(behindS));
  const unit = (count, name) => (count === 1 ? `1 ${name}` : `${count} ${name}s`);
  const minutes = Math.floor(whole / 60);
  const seconds = unit(whole % 60, 'second');
  return `${minutes > 0 ? `${unit(minutes, 'minute')} ` : ''}${seconds} behind live`;
}
