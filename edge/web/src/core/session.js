// One viewing of one channel, from the first request until the page is left.
//
// In: events from the player, from probes of the playlist and from a regular
// tick, each with the present time of a monotonic clock. Out: a list of actions
// for the page to carry out. It owns `state` and `reason`; it knows neither the
// DOM nor hls.js nor a clock.
//
// States: starting (asked for, no picture yet), live, interrupted (was live, no
// picture now, expected back), ended (ENDLIST played out), offline (404, or 403 where the
// viewer's token is no good).
// Invariant: there is always either a source loaded, or a probe asked for, so
// that the page comes back without a reload whatever happened.

import { backoffMs } from './backoff.js';

// A stall is called an interruption only once the playlist stands still too.
export const INTERRUPTED_MS = 1500;
// A stall while the playlist goes on is the player's: it is moved to the edge,
// and if that did not help either, its source is loaded afresh.
export const SEEK_MS = 3000;
export const RELOAD_MS = 9000;
// Loading the past afresh would begin at live: it gets time to come from afar.
export const PAST_RELOAD_MS = 20_000;
// A source that shows no first frame although its playlist goes on.
export const FIRST_FRAME_MS = 15_000;
// A source that played for so long was good: back-off starts again from zero.
export const STEADY_MS = 5000;
// A picture that fell this far behind where it should be is moved to the edge;
// less than that the player catches up on by playing faster, which hls.js does
// within one target duration (3 s at least) and a hold-back of the edge.
export const LAG_S = 3;
// The player keeps more distance after each stall; this long without one and
// the distance is taken back.
export const FORGIVE_MS = 60_000;
const SEEK_PAUSE_MS = 10_000;
const MEDIA_RECOVERIES = 2;
const MEDIA_RECOVERY_WINDOW_MS = 15_000;

export class Session {
  state = 'starting';
  reason = 'waiting';

  #random;
  #loaded = false;
  #loadedMs = 0;
  #movingSinceMs = null;
  #everLive = false;
  #attempt = 0;
  #endlist = false;
  #soughtMs = null;
  #stalledMs = null;
  #recoveriesMs = [];

  constructor(random = Math.random) {
    this.#random = random;
  }

  start(nowMs) {
    return this.#load(nowMs);
  }

  // Unknown events do nothing.
  on(event, nowMs) {
    switch (event.type) {
      case 'frame':
        return this.#frame(nowMs);
      case 'endlist':
        return this.#ending();
      case 'played-out':
        return this.#endlist ? this.#giveUp('ended', null) : [];
      case 'disjoint':
        return this.#reload('player', nowMs);
      // A moment that nobody keeps any more: back to the live edge.
      case 'past-gone':
        return this.#reload('past', nowMs);
      case 'fatal':
        return this.#fatal(event, nowMs);
      case 'probed':
        return this.#probed(event, nowMs);
      case 'tick':
        return this.#tick(event, nowMs);
      default:
        return [];
    }
  }

  #set(state, reason) {
    this.state = state;
    this.reason = reason;
  }

  #load(nowMs) {
    this.#loaded = true;
    this.#loadedMs = nowMs;
    this.#movingSinceMs = null;
    this.#endlist = false;
    this.#soughtMs = null;
    this.#stalledMs = null;
    return [{ do: 'load' }];
  }

  #probeLater() {
    const afterMs = backoffMs(this.#attempt, this.#random());
    this.#attempt += 1;
    return { do: 'probe', afterMs };
  }

  #giveUp(state, reason) {
    this.#set(state, reason);
    this.#loaded = false;
    return [{ do: 'unload' }, this.#probeLater()];
  }

  // Loads afresh at once the first time, by way of a probe when it recurs.
  #reload(reason, nowMs) {
    if (!this.#loaded) return [];
    if (this.#attempt > 0 || nowMs - this.#loadedMs < STEADY_MS) {
      return this.#giveUp(this.#everLive ? 'interrupted' : 'starting', reason);
    }
    this.#set(this.#everLive ? 'interrupted' : 'starting', reason);
    this.#attempt += 1;
    return [{ do: 'unload' }, ...this.#load(nowMs)];
  }

  // What is buffered is still shown; a playlist that was over before its first
  // picture is not played as a recording.
  #ending() {
    if (!this.#loaded) return [];
    this.#endlist = true;
    return this.#movingSinceMs === null ? this.#giveUp('ended', null) : [];
  }

  #frame(nowMs) {
    if (!this.#loaded) return [];
    this.#movingSinceMs ??= nowMs;
    this.#everLive = true;
    if (nowMs - this.#movingSinceMs >= STEADY_MS) this.#attempt = 0;
    // A publisher's absence is no reason to keep more distance from the edge.
    const resumed = this.state === 'interrupted';
    const steady = this.#stalledMs !== null && nowMs - this.#stalledMs >= FORGIVE_MS;
    this.#set('live', null);
    if (!resumed && !steady) return [];
    this.#stalledMs = null;
    return [{ do: 'forgive-stalls' }];
  }

  // `media` where it was a part or segment that was asked for, not a playlist.
  #fatal({ kind, status, media = false }, nowMs) {
    if (!this.#loaded) return [];
    if (kind === 'media') {
      this.#recoveriesMs = this.#recoveriesMs.filter((ms) => nowMs - ms < MEDIA_RECOVERY_WINDOW_MS);
      if (this.#recoveriesMs.length < MEDIA_RECOVERIES) {
        this.#recoveriesMs.push(nowMs);
        return [{ do: 'recover-media' }];
      }
      return this.#reload('player', nowMs);
    }
    if (this.#endlist) return this.#giveUp('ended', null);
    // A page that slept asks for media that is long gone; the channel may be live.
    const gone = status === 404 && media;
    if (status === 404 && !gone) return this.#giveUp('offline', null);
    if (status === 403) return this.#giveUp('offline', 'forbidden');
    if (status === 400 || gone) return this.#reload('player', nowMs);
    const reason = status ? 'server' : 'network';
    return this.#giveUp(this.#everLive ? 'interrupted' : 'starting', reason);
  }

  #probed({ outcome }, nowMs) {
    if (this.#loaded) return [];
    switch (outcome) {
      case 'live':
        if (this.state !== 'interrupted') this.#set('starting', 'waiting');
        return this.#load(nowMs);
      case 'ended':
        this.#set('ended', null);
        break;
      case 'absent':
        // Once the ended playlist is withdrawn, "ended" says more than "offline".
        if (this.state === 'ended') this.reason = null;
        else this.#set('offline', null);
        break;
      case 'forbidden':
        this.#set('offline', 'forbidden');
        break;
      case 'unavailable':
        if (this.state === 'interrupted') this.reason = 'server';
        else if (this.state === 'ended') this.reason = null;
        else this.#set('starting', 'server');
        break;
      default:
        this.reason = 'network';
    }
    return [this.#probeLater()];
  }

  // `stuckMs`: since the position last moved, 0 while idle. `lagS`: how far the
  // picture is behind its target, null where the viewer chose to be behind, and
  // `following` is false then: nobody is taken from the past for waiting on it.
  // `playlistAgeMs`: since the playlist last advanced, null before it was read.
  // `playlistSlowMs`: the age beyond which it stands still. `failing`: the status
  // of the last request where it failed (0 without an answer), null otherwise.
  #tick({ stuckMs, idle, moved, following = true, lagS, playlistAgeMs, playlistSlowMs, failing }, nowMs) {
    if (!this.#loaded) return [];
    if (moved) return [...this.#frame(nowMs), ...this.#keepUp(lagS, nowMs)];
    if (idle) return [];
    if (this.#endlist) return stuckMs >= INTERRUPTED_MS ? this.#giveUp('ended', null) : [];
    const standsStill = playlistAgeMs === null || playlistAgeMs > playlistSlowMs;
    if (this.#movingSinceMs === null) return this.#awaitFirstFrame(standsStill, failing, nowMs);
    if (stuckMs > 0) this.#stalledMs = nowMs;
    if (standsStill) {
      if (stuckMs >= INTERRUPTED_MS) this.#set('interrupted', reasonOf(failing));
      return [];
    }
    if (stuckMs >= (following ? RELOAD_MS : PAST_RELOAD_MS)) return this.#reload('player', nowMs);
    return following && stuckMs >= SEEK_MS ? this.#seekLive(SEEK_MS, nowMs) : [];
  }

  #keepUp(lagS, nowMs) {
    return lagS !== null && lagS > LAG_S ? this.#seekLive(SEEK_PAUSE_MS, nowMs) : [];
  }

  #seekLive(pauseMs, nowMs) {
    if (this.#soughtMs !== null && nowMs - this.#soughtMs < pauseMs) return [];
    this.#soughtMs = nowMs;
    return [{ do: 'seek-live' }];
  }

  #awaitFirstFrame(standsStill, failing, nowMs) {
    if (failing !== null) this.reason = reasonOf(failing);
    if (standsStill || nowMs - this.#loadedMs < FIRST_FRAME_MS) return [];
    return this.#giveUp(this.state, 'player');
  }
}

function reasonOf(failing) {
  if (failing === null) return 'publisher';
  return failing === 0 ? 'network' : 'server';
}
