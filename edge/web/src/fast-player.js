// Fast mode: the endless streams of one picture and one sound, read by fetch and
// appended to a Media Source chunk by chunk. The same verbs and the same sample
// as the player of LL-HLS; it decides nothing but what core/fast.js says.

import { expired, FastPace, isFinal, jump } from './core/fast.js';
import { readManifest } from './core/manifest.js';
import { withViewer } from './core/source.js';
import { ranges, READY, Sampler } from './sampler.js';

const MANIFEST_MS = 4000;
const RETRY_MS = 300;
const MOST_RETRY_MS = 3000;
const REQUEST_MS = 20_000;
const BACK_BUFFER_S = 20;
// What a stream may have waiting to be appended: more than this and the page is
// not keeping up with its own network.
const MAX_QUEUED_BYTES = 8 << 20;
// Nothing new for so long: the publisher is away.
const SILENT_MS = 1500;
// A picture that stands still for less is no stall that anybody sees.
const STALL_MS = 120;

function joined(chunks, length) {
  if (chunks.length === 1) return chunks[0];
  const all = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}

// One track: its stream, what of it waits, and the buffer that takes it.
class Lane {
  bytes = 0;
  arrivedMs = null;
  #queue = [];
  #queued = 0;
  #buffer;
  #onFull;

  constructor(buffer, onFull) {
    this.#buffer = buffer;
    this.#onFull = onFull;
    buffer.addEventListener('updateend', () => this.#next());
  }

  push(chunk) {
    this.bytes += chunk.length;
    this.arrivedMs = performance.now();
    this.#queue.push(chunk);
    this.#queued += chunk.length;
    if (this.#queued > MAX_QUEUED_BYTES) this.#onFull();
    else this.#next();
  }

  trim(position) {
    if (this.#buffer.updating) return;
    const old = expired(ranges(this.#buffer.buffered), position, BACK_BUFFER_S);
    if (old) this.#buffer.remove(...old);
  }

  #next() {
    if (this.#buffer.updating || this.#queue.length === 0) return;
    // What waits goes in at once: appending has a cost of its own.
    const bytes = joined(this.#queue, this.#queued);
    this.#queue = [];
    this.#queued = 0;
    this.#append(bytes);
  }

  #append(bytes) {
    try {
      this.#buffer.appendBuffer(bytes);
    } catch {
      // Full, or its source is gone.
      this.#onFull();
    }
  }
}

export class FastPlayer {
  hls = null;
  native = false;
  loads = 0;

  #video;
  #source;
  #report;
  #sampler;
  #pace = new FastPace();
  #abort = null;
  #lanes = [];
  #zeroMs = null;
  #clockMs = 0;
  #failing = null;
  #movedMs = null;
  #stuck = false;

  static isSupported() {
    return typeof MediaSource === 'function' && typeof ReadableStream === 'function';
  }

  // `source` says where the channel is: `live`, `edge` and `viewer`. The frames
  // and the end of the video are told by whoever owns it.
  constructor(video, source, report) {
    this.#video = video;
    this.#source = source;
    this.#sampler = new Sampler(video);
    this.#report = (event) => queueMicrotask(() => report(event));
  }

  get stalls() {
    return this.#sampler.stalls;
  }

  load() {
    this.unload();
    this.loads += 1;
    this.stalls.restart();
    this.#abort = new AbortController();
    this.#start(this.#abort.signal).catch((error) => this.#failed(error, this.#abort?.signal));
  }

  unload() {
    this.#abort?.abort();
    this.#abort = null;
    this.#lanes = [];
    this.#zeroMs = null;
    this.#failing = null;
    this.#movedMs = null;
    this.#stuck = false;
    if (this.#video.src.startsWith('blob:')) URL.revokeObjectURL(this.#video.src);
    this.#video.removeAttribute('src');
    this.#video.load();
  }

  recoverMedia() {
    this.load();
  }

  seekLive() {
    const position = this.livePosition();
    if (position !== null) this.#seek(position);
  }

  livePosition() {
    const last = ranges(this.#video.buffered).at(-1);
    return last ? Math.max(last[0], last[1] - Math.max(0.1, this.#pace.targetS - this.#behind())) : null;
  }

  // Going back is the other player's.
  past() {
    return null;
  }

  forgiveStalls() {}

  sample(nowMs, following) {
    return {
      ...this.#sampler.sample(nowMs, following),
      lagS: following ? this.lag(nowMs) : null,
      playlistAgeMs: this.#silentMs(nowMs),
      playlistSlowMs: SILENT_MS,
      failing: this.#failing,
    };
  }

  // Seconds between the camera and the picture, by programme time.
  latency() {
    if (this.#zeroMs === null || this.#video.readyState === 0) return null;
    return (Date.now() + this.#clockMs - this.#zeroMs) / 1000 - this.#video.currentTime;
  }

  lag() {
    const latency = this.latency();
    return latency === null ? null : latency - this.#pace.targetS;
  }

  get target() {
    return this.#pace.targetS;
  }

  get playingDate() {
    return this.#zeroMs === null ? null : this.#zeroMs + this.#video.currentTime * 1000;
  }

  // Called a good many times a second: a quarter of a second is most of what
  // there is to lose.
  keepPace(nowMs, following) {
    const video = this.#video;
    if (video.paused || !following || this.#abort === null) {
      if (video.playbackRate !== 1) video.playbackRate = 1;
      this.#movedMs = null;
      return;
    }
    this.#watchStalls(nowMs);
    const to = jump(ranges(video.buffered), video.currentTime, this.#pace.targetS, this.#behind(), this.#stuck);
    if (to !== null && !video.seeking) this.#seek(to);
    const ready = video.readyState >= READY && !video.seeking;
    const rate = this.#pace.rate(ready ? this.latency() : null, this.bufferAhead());
    if (video.playbackRate !== rate) video.playbackRate = rate;
    for (const lane of this.#lanes) lane.trim(video.currentTime);
  }

  bufferAhead() {
    return this.#sampler.bufferAhead();
  }

  #seek(position) {
    this.#pace.jumped();
    this.#movedMs = null;
    this.#video.currentTime = position;
  }

  // How far the end of the buffer is behind the camera: what the way here takes.
  #behind() {
    const last = ranges(this.#video.buffered).at(-1);
    if (!last || this.#zeroMs === null) return 0;
    return Math.max(0, (Date.now() + this.#clockMs - this.#zeroMs) / 1000 - last[1]);
  }

  #silentMs(nowMs) {
    const times = this.#lanes.map(({ arrivedMs }) => arrivedMs);
    if (times.length === 0 || times.includes(null)) return null;
    return nowMs - Math.min(...times);
  }

  #watchStalls(nowMs) {
    const position = this.#video.currentTime;
    if (this.#movedMs === null || position !== this.#movedMs.position) {
      if (this.#stuck) this.#stuck = false;
      this.#movedMs = { position, nowMs };
      this.#pace.steady(nowMs);
      return;
    }
    const stuckMs = nowMs - this.#movedMs.nowMs;
    if (this.#stuck || stuckMs < STALL_MS || this.#video.readyState === 0) return;
    this.#stuck = true;
    // A publisher that is away is no fault of the network.
    if ((this.#silentMs(nowMs) ?? Infinity) > SILENT_MS) return;
    if (!this.#pace.stalled(nowMs)) this.#report({ type: 'unfit' });
  }

  async #start(signal) {
    const manifest = await this.#manifest(signal);
    this.#readClock(signal).catch(() => {});
    if (signal.aborted) return;
    if (manifest.ended) {
      this.#report({ type: 'endlist' });
      return;
    }
    const source = new MediaSource();
    this.#video.src = URL.createObjectURL(source);
    await new Promise((resolve) => source.addEventListener('sourceopen', resolve, { once: true }));
    if (signal.aborted) return;
    const broken = () => signal.aborted || this.#report({ type: 'fatal', kind: 'media', status: 0 });
    for (const { type } of manifest.tracks) {
      if (!MediaSource.isTypeSupported(type)) {
        this.#report({ type: 'unfit' });
        return;
      }
    }
    this.#lanes = manifest.tracks.map(({ type }) => new Lane(source.addSourceBuffer(type), broken));
    manifest.tracks.forEach(({ id }, at) => {
      this.#follow(id, this.#lanes[at], signal).catch((error) => this.#failed(error, signal));
    });
    this.#keepManifest(signal);
    this.#video.play()?.catch(() => {});
  }

  async #manifest(signal) {
    const response = await get(withViewer(`${this.#source.live}manifest.mpd`, this.#source.viewer), signal);
    if (!response.ok) throw new Refused(response.status);
    const manifest = readManifest(await response.text());
    if (!manifest) throw new Refused(0);
    this.#zeroMs = manifest.zeroMs;
    return manifest;
  }

  // Says when a republish moved programme time, when it is over, and to the
  // server that somebody still watches.
  async #keepManifest(signal) {
    while (!signal.aborted) {
      await sleep(MANIFEST_MS);
      if (signal.aborted) return;
      const manifest = await this.#manifest(signal).catch(() => null);
      if (manifest?.ended && !signal.aborted) this.#report({ type: 'endlist' });
    }
  }

  // This machine's clock may be off; the server's is what latency is told by.
  async #readClock(signal) {
    const asked = Date.now();
    const response = await get(`${this.#source.edge}/api/v1/time`, signal);
    const serverMs = Date.parse(await response.text());
    if (Number.isFinite(serverMs)) this.#clockMs = serverMs - (asked + Date.now()) / 2;
  }

  // Reads one track's stream for as long as there is one. A stream that ends is
  // asked for again: another init segment begins, or the server goes.
  async #follow(id, lane, signal) {
    let pauseMs = RETRY_MS;
    while (!signal.aborted) {
      try {
        const response = await fetch(withViewer(`${this.#source.live}${id}/stream.mp4`, this.#source.viewer), { cache: 'no-store', signal });
        if (isFinal(response.status)) throw new Refused(response.status);
        if (response.ok) {
          this.#failing = null;
          const before = lane.bytes;
          const reader = response.body.getReader();
          for (let read = await reader.read(); !read.done; read = await reader.read()) lane.push(read.value);
          if (lane.bytes > before) pauseMs = RETRY_MS;
        } else this.#failing = response.status;
      } catch (error) {
        if (signal.aborted || error instanceof Refused) throw error;
        this.#failing = 0;
      }
      await sleep(pauseMs);
      pauseMs = Math.min(MOST_RETRY_MS, pauseMs * 2);
    }
  }

  async #failed(error, signal) {
    if (!signal || signal.aborted) return;
    const status = error instanceof Refused ? error.status : 0;
    this.#report({ type: 'fatal', kind: 'network', status });
  }
}

class Refused extends Error {
  constructor(status) {
    super(`refused with ${status}`);
    this.status = status;
  }
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function get(url, signal) {
  return fetch(url, { cache: 'no-cache', signal: AbortSignal.any([signal, AbortSignal.timeout(REQUEST_MS)]) });
}
