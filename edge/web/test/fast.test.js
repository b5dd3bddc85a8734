import assert from 'node:assert/strict';
import { test } from 'node:test';
import { expired, FastPace, FORGIVE_MS, isFinal, jump, MOST_S, STALLS, STALLS_WITHIN_MS, TARGET_S } from '../src/core/fast.js';
import { FastPlayer } from '../src/fast-player.js';
import { readManifest } from '../src/core/manifest.js';
import { modeWords } from '../src/core/words.js';

const TICK_S = 0.05;

// A player `latencyS` behind the camera over a way that takes `wayS`, for `ticks`
// ticks; sound comes in tenths of a second.
function simulate(pace, latencyS, wayS, ticks) {
  let least = Infinity;
  const rates = [];
  for (let i = 0; i < ticks; i++) {
    const chunk = (i * TICK_S) % 0.1;
    const bufferS = latencyS - wayS - chunk;
    const rate = pace.rate(latencyS, bufferS);
    least = Math.min(least, bufferS);
    rates.push(rate);
    latencyS -= (rate - 1) * TICK_S;
  }
  return { latencyS, least, rates };
}

test('fast mode comes to its target from both sides and then leaves the speed alone', () => {
  for (const from of [0.2, 0.35, 0.5, 1.1]) {
    const pace = new FastPace();
    const { latencyS } = simulate(pace, from, 0.02, 200);
    assert.ok(Math.abs(latencyS - TARGET_S) < 0.03, `${from}: ${latencyS}`);
    const later = simulate(pace, latencyS, 0.02, 200);
    assert.deepEqual(new Set(later.rates), new Set([1]), `${from}`);
  }
});

test('fast mode does not run its buffer dry to be fast', () => {
  const { latencyS, least } = simulate(new FastPace(), 0.6, 0.28, 400);
  assert.ok(least > -0.06, `${least}`);
  assert.ok(latencyS < 0.5, `${latencyS}`);
});

test('nobody to keep up with plays at the normal speed', () => {
  const pace = new FastPace();
  assert.equal(pace.rate(null, 0), 1);
  pace.rate(1, 1);
  assert.equal(pace.rate(null, 1), 1);
});

test('a stall adds distance, quiet takes it back, and too many end it', () => {
  const pace = new FastPace();
  assert.equal(pace.stalled(0), true);
  assert.ok(pace.targetS > TARGET_S);
  pace.steady(FORGIVE_MS - 1);
  assert.ok(pace.targetS > TARGET_S);
  pace.steady(FORGIVE_MS);
  assert.equal(pace.targetS, TARGET_S);
  for (let i = 1; i < STALLS; i++) assert.equal(pace.stalled(100_000 + i * 100), true, `${i}`);
  assert.equal(pace.stalled(101_000), false);
  assert.ok(pace.targetS <= MOST_S);
  // The same number, further apart.
  const patient = new FastPace();
  for (let i = 0; i < 20; i++) assert.equal(patient.stalled((i * STALLS_WITHIN_MS) / (STALLS - 2)), true);
});

test('fast mode starts near the end and jumps over holes and long ways', () => {
  // Nothing yet; the first segment of a stream, two seconds of it.
  assert.equal(jump([], 0, 0.35, 0, false), null);
  assert.ok(Math.abs(jump([[100, 102]], 0, 0.35, 0.05, false) - 101.7) < 1e-9);
  // On its way.
  assert.equal(jump([[100, 102.5]], 102.2, 0.35, 0.05, false), null);
  // Too far behind to catch up by speed.
  assert.equal(jump([[100, 110]], 105, 0.35, 0.05, false), 109.7);
  // Media was left out: what is before the hole is still played.
  const holed = [[100, 102], [103, 103.2]];
  assert.equal(jump(holed, 101.9, 0.35, 0.05, false), null);
  assert.equal(jump(holed, 101.95, 0.35, 0.05, true), 103);
  assert.equal(jump(holed, 102, 0.35, 0.05, false), 103);
});

test('what is long played goes', () => {
  assert.equal(expired([], 10, 20), null);
  assert.equal(expired([[100, 130]], 125, 20), null);
  assert.deepEqual(expired([[100, 160]], 155, 20), [100, 135]);
});

// As much of a browser as a FastPlayer needs to come to its streams.
function fakeBrowser(answer) {
  const kept = ['MediaSource', 'fetch', 'URL'].map((name) => [name, globalThis[name]]);
  const target = () => ({ addEventListener: (_type, listen) => listen() });
  globalThis.MediaSource = class {
    static isTypeSupported = () => true;
    addEventListener = target().addEventListener;
    addSourceBuffer = () => ({ ...target(), updating: false, addEventListener: () => {} });
  };
  globalThis.URL = { createObjectURL: () => 'blob:x', revokeObjectURL: () => {} };
  globalThis.fetch = async (url) => (String(url).includes('stream.mp4') ? answer() : new Response(MPD));
  return () => kept.forEach(([name, value]) => (globalThis[name] = value));
}

test('a stream that is refused for good is told as such, a busy server is asked again', async () => {
  for (const status of [403, 404, 410]) {
    let asked = 0;
    let tell = null;
    const restore = fakeBrowser(() => {
      asked += 1;
      // Once for each of the two tracks.
      if (asked > 2) tell({ type: 'asked again' });
      return new Response('', { status });
    });
    const video = { src: '', currentTime: 0, buffered: [], addEventListener: () => {}, removeAttribute: () => {}, load: () => {}, play: async () => {} };
    const told = await new Promise((resolve) => {
      tell = resolve;
      const player = new FastPlayer(video, { live: 'http://x/live/demo/', edge: 'http://x', viewer: 'v' }, (event) => {
        player.unload();
        resolve(event);
      });
      player.load();
    });
    restore();
    assert.deepEqual(told, { type: 'fatal', kind: 'network', status });
  }
  assert.deepEqual([200, 429, 500, 503].filter(isFinal), []);
});

const MPD = `<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic" minimumUpdatePeriod="PT0.500S">
 <Period id="a" start="PT100.000S"><AdaptationSet contentType="video"><Representation id="v0" codecs="avc1.640015"><SegmentTemplate timescale="120000" presentationTimeOffset="0"></SegmentTemplate></Representation></AdaptationSet></Period>
 <Period id="b" start="PT160.500S">
  <AdaptationSet id="0" contentType="video" mimeType="video/mp4">
   <Representation id="v0" bandwidth="1" codecs="avc1.640015"><SegmentTemplate timescale="120000" presentationTimeOffset="1200000" media="x"></SegmentTemplate></Representation>
   <Representation id="v1" codecs="avc1.4d0015"></Representation>
  </AdaptationSet>
  <AdaptationSet id="1" contentType="audio">
   <Representation id="a0" codecs="mp4a.40.2"><SegmentTemplate timescale="48000" presentationTimeOffset="480000"></SegmentTemplate></Representation>
  </AdaptationSet>
 </Period>
</MPD>`;

test('a manifest tells the tracks and the clock of its newest period', () => {
  const read = readManifest(MPD);
  assert.equal(read.zeroMs, 150_500);
  assert.equal(read.ended, false);
  assert.deepEqual(read.tracks, [
    { id: 'v0', kind: 'video', type: 'video/mp4; codecs="avc1.640015"' },
    { id: 'a0', kind: 'audio', type: 'audio/mp4; codecs="mp4a.40.2"' },
  ]);
  assert.equal(readManifest(MPD.replace('minimumUpdatePeriod', 'mediaPresentationDuration')).ended, true);
});

test('what is no manifest of ours is none', () => {
  for (const text of ['', '<MPD>', '<MPD a="b"><Period start="PT1S"></Period></MPD>', MPD.replace('PT160.500S', 'soon'), MPD.replaceAll('timescale="120000"', ''), '#EXTM3U']) {
    assert.equal(readManifest(text), null, text);
  }
});

test('the strip says what plays', () => {
  assert.equal(modeWords({ mode: 'fast' }), 'Fast');
  assert.equal(modeWords({ mode: 'hls', native: false, unfit: false }), 'LL-HLS');
  assert.equal(modeWords({ mode: 'hls', native: true, unfit: false }), 'HLS');
  assert.match(modeWords({ mode: 'hls', native: false, unfit: true }), /network/);
});
