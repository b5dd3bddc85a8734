// What both players measure of the video element, four times a second.

import { StallMeter } from './core/stall.js';

export const READY = 3; // HTMLMediaElement.HAVE_FUTURE_DATA

export const ranges = (buffered) => Array.from({ length: buffered.length }, (_, i) => [buffered.start(i), buffered.end(i)]);

export class Sampler {
  stalls = new StallMeter();
  // Whether the position of the last sample was set, not played to.
  jumped = false;

  #video;
  #position = 0;
  #sought = false;

  constructor(video) {
    this.#video = video;
    video.addEventListener('seeking', () => (this.#sought = true));
  }

  // A session's tick, as far as the video tells it.
  sample(nowMs, following) {
    const video = this.#video;
    const position = video.currentTime;
    const idle = video.paused;
    const jumped = this.#sought || video.seeking;
    const moved = !idle && !jumped && video.readyState >= READY && position > this.#position;
    this.#position = position;
    this.#sought = false;
    this.jumped = jumped;
    return { type: 'tick', stuckMs: this.stalls.sample(nowMs, { position, idle, jumped }), idle, moved, following };
  }

  // Seconds buffered ahead of the position.
  bufferAhead() {
    const { buffered, currentTime } = this.#video;
    const here = ranges(buffered).find(([from, to]) => currentTime >= from - 0.1 && currentTime < to);
    return here ? here[1] - currentTime : 0;
  }
}
