// Holes in the picture, where the sound goes on: a publisher that sent no video
// for a moment. A browser plays the sound across, and Chromium then shows no frame
// behind the hole until it has noticed, three seconds later, that there was one. A
// seek to where the sound is makes it show the picture at once.
//
// In: the position and what is buffered of all tracks, at every tick. Out: whether
// the position has just come out of a hole.

// What browsers take for one stretch.
const TOLERANCE_S = 0.1;

export class Holes {
  // Where it played last in something buffered; null before that.
  #at = null;

  // `ranges`: [start, end] in seconds, in order; `jumped` where the position was
  // set since the last tick, which leaves a hole by itself.
  crossed(position, ranges, jumped) {
    const i = ranges.findIndex(([start, end]) => start <= position && position < end);
    if (i < 0) {
      if (jumped) this.#at = null;
      return false;
    }
    const [start] = ranges[i];
    const hole = i > 0 && start - ranges[i - 1][1] > TOLERANCE_S;
    const crossed = hole && !jumped && this.#at !== null && this.#at < start;
    this.#at = position;
    return crossed;
  }

  // Another source.
  restart() {
    this.#at = null;
  }
}
