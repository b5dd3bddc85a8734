// The watch page: carries out what core/session.js decides, shows its state in
// words, and feeds it a tick every quarter of a second. It has two players, of
// LL-HLS and of fast mode, and one of them at a time has the video. Its edge is
// the one that it came from, until that goes and another answers.

import { channelOfPath, readChannels } from './core/channels.js';
import { Edges } from './core/edges.js';
import { duration, viewers } from './core/format.js';
import { destination } from './core/past.js';
import { Session } from './core/session.js';
import { livePath, viewerId, withViewer } from './core/source.js';
import { BADGES, words } from './core/words.js';
import { Chat } from './chat.js';
import { Controls } from './controls.js';
import { FastPlayer } from './fast-player.js';
import { showFigures } from './figures.js';
import { Player } from './player.js';
import { probe } from './probe.js';
import { Timeline } from './timeline.js';

const TICK_MS = 250;
const PACE_MS = 50;
const META_MS = 15_000;
const BEHIND_S = 3;

const byId = (id) => document.getElementById(id);
const channel = channelOfPath(location.pathname) ?? '';
const path = livePath(channel, location.search);
const edges = new Edges(location.origin);
const viewer = viewerId(crypto.getRandomValues(new Uint8Array(8)));
const source = {
  viewer,
  get edge() {
    return edges.current;
  },
  get live() {
    return `${edges.current}${path}`;
  },
};
const video = byId('video');
const stage = byId('stage');

const session = new Session();
const players = {
  hls: new Player(video, source, (event) => mode === 'hls' && dispatch(event)),
  fast: new FastPlayer(video, source, (event) => mode === 'fast' && dispatch(event)),
};
const controls = new Controls({ stage, video, goLive, seekBy, setFast, goChat: () => chat.focus() });
const canFast = FastPlayer.isSupported();

// What plays, and why it is not fast although the viewer asked for that.
let mode = canFast && controls.wantsFast() ? 'fast' : 'hls';
let player = players[mode];
let unfit = false;
const timeline = new Timeline((behindS) => seekTo((player.past()?.edge ?? 0) - behindS));

// False once the viewer moved back in time, until they return to the edge.
let following = true;
let probeTimer = null;
let looking = false;
let shown = '';

const chat = new Chat({
  channel,
  base: edges.current,
  // Who went back or paused reads what is said now.
  picture: () => (following && session.state === 'live' && !video.paused ? player.playingDate : null),
  onEdgeLeaves: () => edges.mayLook(performance.now()) && lookElsewhere(true),
});

function dispatch(event) {
  if (event.type === 'unfit') {
    unfit = true;
    play('hls');
    return;
  }
  run(session.on(event, performance.now()));
  showState();
}

function run(actions) {
  for (const action of actions) ACTIONS[action.do](action);
}

const ACTIONS = {
  load: () => {
    following = true;
    player.load();
  },
  unload: () => player.unload(),
  probe: ({ afterMs }) => probeAfter(afterMs),
  'recover-media': () => player.recoverMedia(),
  'seek-live': () => player.seekLive(),
  'forgive-stalls': () => player.forgiveStalls(),
};

function probeAfter(afterMs) {
  clearTimeout(probeTimer);
  probeTimer = setTimeout(async () => {
    const outcome = await probeAt(edges.current);
    dispatch({ type: 'probed', outcome });
    if (isAway(outcome) && edges.mayLook(performance.now())) lookElsewhere(false);
  }, afterMs);
}

const probeAt = (edge) => probe(withViewer(`${edge}${path}index.m3u8`, viewer));
const isAway = (outcome) => outcome === 'unreachable' || outcome === 'unavailable';

// Goes to the first other edge that answers, if this one does not any more or says
// that it leaves. All give the same bytes: the picture goes on.
async function lookElsewhere(leaves) {
  if (looking) return;
  looking = true;
  try {
    if (!leaves && !isAway(await probeAt(edges.current))) return;
    for (const other of edges.others) {
      if (isAway(await probeAt(other))) continue;
      edges.move(other);
      clearTimeout(probeTimer);
      player.unload();
      run(session.start(performance.now()));
      chat.move(other);
      return;
    }
  } finally {
    looking = false;
  }
}

// The viewer's switch; another try is theirs to make.
function setFast(on) {
  unfit = false;
  play(on && canFast ? 'fast' : 'hls');
}

function play(other) {
  if (other !== mode) {
    player.unload();
    mode = other;
    player = players[mode];
    run(session.start(performance.now()));
  }
  showMode();
  showState();
}

function showMode() {
  controls.showFast({ possible: canFast, on: mode === 'fast', unfit });
}

function goLive() {
  following = true;
  player.seekLive();
}

function seekBy(deltaS) {
  seekTo(video.currentTime + deltaS);
}

// Into the past where there is one, else into what is still buffered.
function seekTo(position) {
  const live = player.livePosition();
  if (live === null) return;
  const start = video.buffered.length > 0 ? video.buffered.start(0) : 0;
  const to = destination(position, player.past() ?? { start }, live);
  following = to.live;
  video.currentTime = to.position;
}

function isBehind() {
  return session.state === 'live' && (player.lag() ?? 0) > BEHIND_S;
}

function showState() {
  const { state, reason } = session;
  stage.dataset.behind = String(isBehind());
  controls.showBadge(BADGES[state], isBehind());
  const soundOnly = state === 'live' && video.readyState > 1 && video.videoWidth === 0;
  const key = `${state}/${soundOnly ? 'sound' : reason}`;
  if (key === shown) return;
  shown = key;
  stage.dataset.state = state;
  byId('chip').dataset.state = state;
  byId('chip').textContent = BADGES[state];
  const { title, detail } = words(state, soundOnly ? 'sound' : reason);
  byId('notice').hidden = state === 'live' && !soundOnly;
  byId('notice-title').textContent = title;
  byId('notice-detail').textContent = detail;
  byId('announce').textContent = `${channel}: ${title}. ${detail}`;
  document.title = state === 'live' ? `${channel} live - Millrace` : `${channel} - Millrace`;
}

function tick() {
  const nowMs = performance.now();
  const sample = player.sample(nowMs, following);
  dispatch(sample);
  if (edges.sample(nowMs, sample.failing)) lookElsewhere(false);
  chat.tick(nowMs);
  if (mode === 'hls') player.keepPace(nowMs, following);
  controls.tick(player);
  const past = player.past();
  timeline.show(past, past && past.edge - video.currentTime, !isBehind());
  showFigures(stats());
}

// What the tests and the strip of figures read.
function stats() {
  const quality = video.getVideoPlaybackQuality?.();
  const hls = player.hls;
  const level = hls?.levels?.[hls.currentLevel];
  return {
    state: session.state,
    reason: session.reason,
    mode,
    unfit,
    latency: player.latency(),
    edgeLatencyTarget: mode === 'fast' ? player.target : hls?.targetLatency ?? null,
    buffer: player.bufferAhead(),
    dropped: quality?.droppedVideoFrames ?? null,
    frames: quality?.totalVideoFrames ?? null,
    stalls: player.stalls.count,
    stalledMs: Math.round(player.stalls.totalMs),
    rate: video.playbackRate,
    loads: player.loads,
    playingDate: player.playingDate,
    edge: edges.current,
    level: mode === 'fast' && video.videoHeight > 0
      ? { height: video.videoHeight }
      : level
        ? { height: level.height, frameRate: level.frameRate, bitrate: level.bitrate, codecs: level.codecSet }
        : null,
    native: player.native,
    past: player.past(),
    following,
  };
}

async function ask(what) {
  const response = await fetch(`${edges.current}/api/v1/${what}`, { cache: 'no-store', signal: AbortSignal.timeout(10_000) });
  return response.json();
}

async function showMeta() {
  try {
    edges.learn(await ask('alternatives'));
    const [found] = readChannels({ channels: [await ask(`channels/${channel}`)] });
    const parts = [];
    if (found) {
      if (found.title !== '') parts.push(found.title);
      if (found.viewers !== null) parts.push(viewers(found.viewers));
      if (found.liveSinceMs !== null) parts.push(`live for ${duration(Date.now() - found.liveSinceMs)}`);
    }
    byId('meta').textContent = parts.join(' \u00b7 ');
  } catch {
    // The player says in words what is wrong; an old count would only mislead.
    byId('meta').textContent = '';
  }
}

byId('channel').textContent = channel;
Object.defineProperty(window, 'millrace', {
  value: { get hls() { return player.hls; }, video, stats, chat: () => chat.stats() },
});
video.addEventListener('pause', () => controls.showPlaying());
// A pause ends at the edge, where a live picture belongs.
video.addEventListener('play', () => {
  if (following && (player.lag() ?? 0) > BEHIND_S) player.seekLive();
});
run(session.start(performance.now()));
showMode();
showState();
setInterval(tick, TICK_MS);
setInterval(() => mode === 'fast' && player.keepPace(performance.now(), following), PACE_MS);
showMeta();
setInterval(() => document.hidden || showMeta(), META_MS);
