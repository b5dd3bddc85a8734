// The player: hls.js, or the browser's own HLS where there is no Media Source,
// behind the few verbs a session asks for. It reports events of core/session.js
// and measures what its tick needs; it decides nothing.

import Hls from 'hls.js';
import { Holes } from './core/holes.js';
import { Pace } from './core/pace.js';
import { pastOf } from './core/past.js';
import { isDisjoint } from './core/playlist.js';
import { withViewer } from './core/source.js';
import { ranges, READY, Sampler } from './sampler.js';

/* global MILLRACE_WORKER */
const WORKER_PATH = MILLRACE_WORKER;

// A blocked reload is answered within 3 target durations, the longest of which
// is about 13 s.
const BLOCKED_RELOAD_MS = 42_000;
// hls.js goes on asking for a playlist that is refused where there is no other
// rendition; after so many refusals in a row the session is told.
const REFUSALS = 2;
const BACK_BUFFER_S = 30;
const SLOW_PLAYLIST_MS = 2000;
const PAST_TARGETS = 6;

// An edge that is away or answers 503 is asked again for as long as it takes:
// what is buffered stays on the screen meanwhile. What it refuses is not.
const retryUnlessRefused = (_config, _count, _isTimeout, response) =>
  !(response?.code >= 400 && response?.code < 500);

const retrying = (maxTimeToFirstByteMs) => ({
  default: {
    maxTimeToFirstByteMs,
    maxLoadTimeMs: maxTimeToFirstByteMs + 20_000,
    timeoutRetry: { maxNumRetry: 1000, retryDelayMs: 250, maxRetryDelayMs: 2000, shouldRetry: retryUnlessRefused },
    errorRetry: { maxNumRetry: 1000, retryDelayMs: 1000, maxRetryDelayMs: 4000, backoff: 'linear', shouldRetry: retryUnlessRefused },
  },
});

const HLS_CONFIG = {
  lowLatencyMode: true,
  // core/pace.js sets the rate.
  maxLiveSyncPlaybackRate: 1,
  liveSyncOnStallIncrease: 0.5,
  backBufferLength: BACK_BUFFER_S,
  maxBufferLength: 30,
  maxMaxBufferLength: 60,
  liveDurationInfinity: true,
  enableWorker: true,
  workerPath: WORKER_PATH,
  capLevelToPlayerSize: true,
  playlistLoadPolicy: retrying(BLOCKED_RELOAD_MS),
  fragLoadPolicy: retrying(10_000),
};

export class Player {
  hls = null;
  loads = 0;

  #video;
  #source;
  #report;
  #sampler;
  #playlist = null;
  #advancedMs = null;
  #failing = null;
  #timeouts = 0;
  #refusals = 0;
  #pace = new Pace();
  #holes = new Holes();

  // `source` says where the channel is: `live` and `viewer`. `report(event)` is
  // called outside of hls.js' own handlers, so that it may unload the player that
  // reported.
  constructor(video, source, report) {
    this.#video = video;
    this.#source = source;
    this.#sampler = new Sampler(video);
    this.#report = (event) => queueMicrotask(() => report(event));
    video.addEventListener('playing', () => this.#report({ type: 'frame' }));
    video.addEventListener('ended', () => this.#report({ type: 'played-out' }));
  }

  get native() {
    return !Hls.isSupported();
  }

  get stalls() {
    return this.#sampler.stalls;
  }

  // The programme time of the position, in Unix ms.
  get playingDate() {
    if (!this.native) return this.hls?.playingDate?.getTime() ?? null;
    const startMs = this.#video.getStartDate?.().getTime();
    return Number.isFinite(startMs) ? startMs + this.#video.currentTime * 1000 : null;
  }

  load() {
    this.unload();
    this.loads += 1;
    this.stalls.restart();
    if (this.native) this.#loadNative();
    else this.#loadHls();
  }

  unload() {
    this.hls?.destroy();
    this.hls = null;
    this.#playlist = null;
    this.#advancedMs = null;
    this.#failing = null;
    this.#timeouts = 0;
    this.#refusals = 0;
    this.#holes.restart();
    this.#video.removeAttribute('src');
    this.#video.load();
  }

  recoverMedia() {
    this.hls?.recoverMediaError();
    this.#play();
  }

  seekLive() {
    const position = this.livePosition();
    if (position !== null) this.#video.currentTime = position;
  }

  livePosition() {
    const sync = this.hls?.liveSyncPosition;
    if (typeof sync === 'number') return sync;
    const { seekable } = this.#video;
    return seekable.length > 0 ? seekable.end(seekable.length - 1) : null;
  }

  // How far back there is something to play; null where that is not worth a bar.
  past() {
    if (this.native) {
      const { seekable } = this.#video;
      return seekable.length > 0 ? pastOf({ start: seekable.start(0), edge: seekable.end(seekable.length - 1) }) : null;
    }
    const details = this.hls?.latestLevelDetails;
    const start = details?.fragments[0]?.start;
    return details ? pastOf({ start, edge: details.edge, targetS: details.targetduration }) : null;
  }

  // Takes back the distance that hls.js keeps in addition after stalls.
  forgiveStalls() {
    const holdBack = this.hls?.latestLevelDetails?.partHoldBack;
    if (holdBack) this.hls.targetLatency = holdBack;
  }

  // The fields of a session's tick, `following` being whether the viewer wants
  // to be at the live edge.
  sample(nowMs, following) {
    const tick = this.#sampler.sample(nowMs, following);
    const { currentTime, buffered } = this.#video;
    if (!this.native && this.#holes.crossed(currentTime, ranges(buffered), this.#sampler.jumped)) this.#resync();
    return {
      ...tick,
      lagS: following ? this.lag(nowMs) : null,
      playlistAgeMs: this.native ? 0 : this.#advancedMs === null ? null : nowMs - this.#advancedMs,
      playlistSlowMs: Math.max(SLOW_PLAYLIST_MS, slowMs(this.hls?.latestLevelDetails)),
      failing: this.#failing,
    };
  }

  // Seconds between the picture and the live edge, which goes on while the next
  // part is being made. null without a playlist. (hls.js starts counting anew
  // with every answer, also with one that brought nothing new.)
  latency(nowMs = performance.now()) {
    const details = this.hls?.latestLevelDetails;
    if (!details || this.#advancedMs === null) return null;
    return details.edge + (nowMs - this.#advancedMs) / 1000 - this.#video.currentTime;
  }

  // Seconds behind the target, below zero for too close.
  lag(nowMs = performance.now()) {
    const target = this.hls?.targetLatency ?? null;
    const latency = this.latency(nowMs);
    return target === null || latency === null ? null : latency - target;
  }

  // Sets the rate that keeps the distance; `following` as for `sample`.
  keepPace(nowMs, following) {
    const video = this.#video;
    const lag = following && !video.paused && video.readyState >= READY ? this.lag(nowMs) : null;
    const rate = this.#pace.rate(lag, this.bufferAhead());
    if (video.playbackRate !== rate) video.playbackRate = rate;
  }

  bufferAhead() {
    return this.#sampler.bufferAhead();
  }

  // Has the browser look for the picture where the sound is.
  #resync() {
    this.#video.currentTime += 0.001;
  }

  #play() {
    // Refused only where the browser wants a gesture first; the page then shows
    // its play button, since the video stays paused.
    this.#video.play()?.catch(() => {});
  }

  #loadNative() {
    const video = this.#video;
    video.src = withViewer(`${this.#source.live}index.m3u8`, this.#source.viewer);
    video.onerror = () => this.#report({ type: 'fatal', kind: 'network', status: 0 });
    this.#play();
  }

  #loadHls() {
    const hls = new Hls({ ...HLS_CONFIG, pLoader: countedAs(this.#source.viewer) });
    this.hls = hls;
    hls.on(Hls.Events.MANIFEST_PARSED, () => this.#play());
    hls.on(Hls.Events.LEVEL_LOADED, (_name, { details }) => this.#playlistLoaded(details));
    hls.on(Hls.Events.ERROR, (_name, data) => this.#error(hls, data));
    hls.attachMedia(this.#video);
    hls.loadSource(`${this.#source.live}index.m3u8`);
  }

  #playlistLoaded(details) {
    const { startSN, endSN, targetduration, live } = details;
    if (isDisjoint(this.#playlist, details)) this.#report({ type: 'disjoint' });
    // A segment completed short brings no media, so parts count where there are any.
    const version = details.lastPartIndex >= 0 ? `${details.lastPartSn}.${details.lastPartIndex}` : `${endSN}`;
    this.#failing = null;
    this.#timeouts = 0;
    this.#refusals = 0;
    if (version !== this.#playlist?.version) this.#advancedMs = performance.now();
    this.#playlist = { startSN, endSN, targetduration, version };
    if (!live) this.#report({ type: 'endlist' });
  }

  // Older than what every edge keeps of a live broadcast.
  #isPast(frag) {
    const details = this.hls?.latestLevelDetails;
    return Boolean(details) && frag.start < details.edge - PAST_TARGETS * details.targetduration;
  }

  #error(hls, data) {
    const status = data.response?.code ?? 0;
    const network = data.type === Hls.ErrorTypes.NETWORK_ERROR;
    if (network && /TimeOut$/.test(data.details)) {
      // hls.js gives a blocked reload up when the publisher is late and asks
      // without blocking: only a second time-out in a row means no answer.
      this.#timeouts += 1;
      if (this.#timeouts > 2) this.#failing = 0;
    } else if (network) this.#failing = status;
    const refused = status >= 400 && status < 500 && !data.frag;
    if (refused) this.#refusals += 1;
    const fatal = data.fatal || (refused && this.#refusals >= REFUSALS);
    if (hls !== this.hls) return;
    if (status === 404 && data.frag && this.#isPast(data.frag)) {
      this.#report({ type: 'past-gone' });
      return;
    }
    if (!fatal) return;
    const kind = data.type === Hls.ErrorTypes.MEDIA_ERROR ? 'media' : network ? 'network' : 'other';
    this.#report({ type: 'fatal', kind, status, media: Boolean(data.frag), details: data.details });
  }
}

// Playlists are asked for under the page's own id.
function countedAs(viewer) {
  return class extends Hls.DefaultConfig.loader {
    load(context, config, callbacks) {
      context.url = withViewer(context.url, viewer);
      super.load(context, config, callbacks);
    }
  };
}

function slowMs(details) {
  if (!details) return 0;
  return details.partTarget ? 3000 * details.partTarget : 2000 * details.targetduration;
}
