// How fast to play so that the picture keeps its distance from the live edge.
//
// In, at every tick: how far the picture is behind its target and what is
// buffered, in seconds. Out: a playback rate. hls.js has a controller of this
// kind; it stops catching up below one second of buffer, which with a hold-back
// of about 1.2 s leaves the picture some 0.15 s behind its target for good, and
// it never plays slower, so that a player which resumed with too little buffer
// stays on the brink of the next stall.

export const FASTEST = 1.5;
export const SLOWEST = 0.95;
// Catching up starts beyond START_S and goes on down to STOP_S.
const START_S = 0.08;
const STOP_S = 0.01;
// Closer to the edge than this, some distance is won back.
const CLOSE_S = -0.2;
const CLOSE_STOP_S = -0.08;
// Two parts of a third of a second less than this would be a stall in sight.
const LEAST_BUFFER_S = 0.45;
const SMOOTHING = 0.4;
const STEP = 0.05;
const GAIN = 0.4;

export class Pace {
  #lagS = null;
  #mode = 'steady';

  // `lagS` is null where nobody is to be kept up with: a pause, a viewer who
  // went back in time, no source.
  rate(lagS, bufferS) {
    if (lagS === null) {
      this.#lagS = null;
      this.#mode = 'steady';
      return 1;
    }
    this.#lagS = this.#lagS === null ? lagS : this.#lagS + SMOOTHING * (lagS - this.#lagS);
    this.#mode = this.#next(bufferS);
    if (this.#mode === 'slower') return SLOWEST;
    if (this.#mode === 'steady') return 1;
    const rate = 1 + STEP * Math.max(1, Math.round((GAIN * this.#lagS) / STEP));
    return Math.min(FASTEST, rate);
  }

  #next(bufferS) {
    const lagS = this.#lagS;
    if (this.#mode === 'slower' && lagS < CLOSE_STOP_S) return 'slower';
    if (lagS < CLOSE_S) return 'slower';
    if (bufferS < LEAST_BUFFER_S) return 'steady';
    if (this.#mode === 'faster' && lagS > STOP_S) return 'faster';
    return lagS > START_S ? 'faster' : 'steady';
  }
}
