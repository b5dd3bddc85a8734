import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backoffMs, MAX_MS, MIN_MS } from '../src/core/backoff.js';
import { badge, bestVideo, channelOfPath, countOf, isAudioOnly, readChannels } from '../src/core/channels.js';
import * as format from '../src/core/format.js';
import { firstMediaUri, isDisjoint, isEnded, isPlaylist } from '../src/core/playlist.js';
import { livePath } from '../src/core/source.js';
import { StallMeter } from '../src/core/stall.js';
import { BADGES, words } from '../src/core/words.js';

test('back-off stays within its bounds and spreads', () => {
  for (let attempt = -1; attempt < 100; attempt++) {
    for (const random of [0, 0.25, 0.5, 0.999]) {
      const ms = backoffMs(attempt, random);
      assert.ok(ms >= MIN_MS && ms <= MAX_MS, `${attempt} ${random}: ${ms}`);
    }
  }
  assert.equal(backoffMs(0, 0.5), MIN_MS);
  assert.ok(backoffMs(50, 0) < backoffMs(50, 0.4), 'late attempts are jittered too');
});

test('source: a token stands before the path, and nothing else does', () => {
  assert.equal(livePath('demo', ''), '/live/demo/');
  assert.equal(livePath('demo', '?token=a-b.c_d.e'), '/s/a-b.c_d.e/live/demo/');
  assert.equal(livePath('demo', '?x=1&token=a.b.c#'), '/live/demo/', 'a fragment is no part of a search');
  for (const bad of ['a', 'a.b', 'a.b.', 'a.b.c.d', '../../x.y.z', 'a.b.c/../..', 'a%2fb.c.d', 'a.b.<c>', 'x'.repeat(513) + '.b.c']) {
    assert.equal(livePath('demo', `?token=${bad}`), '/live/demo/', bad);
  }
});

test('words: every state and reason says something, unknown reasons too', () => {
  for (const state of Object.keys(BADGES)) {
    for (const reason of ['publisher', 'server', 'network', 'player', 'waiting', null, 'unheard-of']) {
      assert.ok(words(state, reason).title.length > 0, `${state}/${reason}`);
    }
  }
  assert.match(words('interrupted', 'publisher').detail, /publisher is reconnecting/);
});

test('figures: what is missing is a dash', () => {
  for (const value of [undefined, null, NaN, 'x', Infinity]) {
    assert.equal(format.seconds(value), format.DASH);
    assert.equal(format.bitrate(value), format.DASH);
    assert.equal(format.duration(value), format.DASH);
    assert.equal(format.viewers(value), '');
    assert.equal(format.frames(value, 3), format.DASH);
    assert.equal(format.rendition({ height: value, bitrate: value }), format.DASH);
  }
  assert.equal(format.rendition(null), format.DASH);
});

test('figures: what is there is short', () => {
  assert.equal(format.seconds(1.234), '1.23 s');
  assert.equal(format.bitrate(96_000), '96 kbit/s');
  assert.equal(format.bitrate(3_040_000), '3.0 Mbit/s');
  assert.equal(format.rendition({ height: 720, frameRate: 29.97, bitrate: 3e6 }), '720p, 30 fps, 3.0 Mbit/s');
  assert.equal(format.rendition({ height: 720, bandwidth: 3e6 }), '720p, 3.0 Mbit/s');
  assert.equal(format.duration(59_000), 'less than a minute');
  assert.equal(format.duration(60_000), '1 minute');
  assert.equal(format.duration(3_600_000), '1 h');
  assert.equal(format.duration(7_500_000), '2 h 5 min');
  assert.equal(format.viewers(1), '1 viewer');
  assert.equal(format.viewers(12_345), '12,345 viewers');
  assert.equal(format.frames(2, 90), '2 / 90');
});

test('channels: a list with missing and foreign fields is still a list', () => {
  assert.deepEqual(readChannels(null), []);
  assert.deepEqual(readChannels({ channels: 'none' }), []);
  const channels = readChannels({
    channels: [
      { name: 'bare' },
      { name: 'Bad Name' },
      { name: '../x' },
      null,
      { name: 'demo', viewers: 3, live_since_ms: 5, tracks: [{ kind: 'video', height: 360 }, null, { kind: 'video', height: 720 }] },
      { name: 'radio', viewers: 'many', tracks: [{ kind: 'audio' }] },
    ],
  });
  assert.deepEqual(channels.map(({ name }) => name), ['demo', 'bare', 'radio']);
  assert.equal(bestVideo(channels[0]).height, 720);
  assert.equal(bestVideo(channels[1]), null);
  assert.equal(isAudioOnly(channels[1]), false);
  assert.equal(isAudioOnly(channels[2]), true);
  assert.equal(channels[2].viewers, null);
});

test('channels: what a page of the list leaves out is counted, what has ended is not', () => {
  const body = { channels: [{ name: 'a' }, { name: 'b', state: 'ended' }], total: 40, next: '0.b' };
  assert.equal(countOf(body, readChannels(body)), 39);
  assert.equal(countOf({ channels: [{ name: 'a' }] }, [{}]), 1);
  assert.equal(countOf(null, []), 0);
  assert.deepEqual(readChannels({ channels: [{ error: {} }] }), []);
  assert.equal(readChannels({ channels: [{ name: 'a', title: 7 }] })[0].title, '');
});

test('channels: one that has ended is not live, one that is away says so', () => {
  const states = ['live', 'starting', 'lost', 'ended', 'strange', 7];
  const channels = readChannels({ channels: states.map((state, i) => ({ name: `c${i}`, state })) });
  assert.deepEqual(channels.map(({ name }) => name), ['c0', 'c1', 'c2', 'c4', 'c5']);
  assert.deepEqual(channels.map(badge), ['Live', 'Live', 'Interrupted', 'Live', 'Live']);
});

test('channels: only a valid name is taken from the path', () => {
  assert.equal(channelOfPath('/watch/demo_1'), 'demo_1');
  for (const path of ['/watch/', '/watch/Demo', '/watch/a/b', `/watch/${'a'.repeat(33)}`, '/watch/a%20b']) {
    assert.equal(channelOfPath(path), null);
  }
});

const MULTIVARIANT = `#EXTM3U
#EXT-X-VERSION:9
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a0",URI="a0.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="avc1"
v0.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=2
v1.m3u8
`;

test('playlists: the first variant is the one to ask', () => {
  assert.equal(firstMediaUri(MULTIVARIANT), 'v0.m3u8');
  assert.equal(firstMediaUri(MULTIVARIANT.replaceAll('\n', '\r\n')), 'v0.m3u8');
  assert.equal(firstMediaUri('#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,URI="a0.m3u8"\n'), 'a0.m3u8');
  assert.equal(firstMediaUri('#EXTM3U\n#EXTINF:2,\n1.m4s\n'), null);
  assert.equal(firstMediaUri(''), null);
});

test('playlists: the end is a tag of its own', () => {
  assert.ok(isEnded('#EXTM3U\n#EXTINF:2,\n1.m4s\n#EXT-X-ENDLIST\n'));
  assert.ok(isEnded('#EXTM3U\r\n#EXT-X-ENDLIST\r\n'));
  assert.ok(!isEnded('#EXTM3U\n#EXT-X-DEFINE:NAME="x",VALUE="#EXT-X-ENDLIST"\n'));
  assert.ok(isPlaylist(MULTIVARIANT));
  assert.ok(!isPlaylist('<html>'));
});

test('playlists: a window that goes on is joined, a jump is not', () => {
  const before = { startSN: 10, endSN: 20, targetduration: 3 };
  assert.ok(!isDisjoint(null, before));
  assert.ok(!isDisjoint(before, { ...before, startSN: 11, endSN: 21 }));
  assert.ok(!isDisjoint(before, { ...before, startSN: 21, endSN: 24 }), 'the very next number');
  assert.ok(isDisjoint(before, { ...before, startSN: 22, endSN: 24 }), 'a new broadcast');
  assert.ok(isDisjoint(before, { ...before, startSN: 1, endSN: 5 }), 'numbers that went back');
  assert.ok(isDisjoint(before, { ...before, targetduration: 4 }), 'another plan');
});

test('stalls: counted once each, with their whole length', () => {
  const meter = new StallMeter();
  const at = (nowMs, position, idle = false) => meter.sample(nowMs, { position, idle });
  at(0, 0);
  assert.equal(at(5000, 0), 0, 'nothing counts before the first movement');
  at(5250, 1);
  at(5500, 1.25);
  assert.equal(at(5750, 1.25), 250);
  assert.equal(meter.count, 0);
  assert.equal(at(6250, 1.25), 750);
  assert.equal(at(6500, 1.25), 1000);
  assert.equal(meter.count, 1);
  at(6750, 1.3);
  assert.deepEqual([meter.count, meter.totalMs], [1, 1250]);
});

test('stalls: a nudge in the middle of one is no movement', () => {
  const meter = new StallMeter();
  meter.sample(0, { position: 1, idle: false });
  meter.sample(250, { position: 1.25, idle: false });
  meter.sample(1250, { position: 1.25, idle: false });
  assert.equal(meter.sample(1500, { position: 1.35, idle: false, jumped: true }), 1250);
  assert.equal(meter.sample(1750, { position: 1.35, idle: false }), 1500);
  assert.equal(meter.count, 1);
});

test('stalls: a pause and a new source are none', () => {
  const meter = new StallMeter();
  meter.sample(0, { position: 1, idle: false });
  meter.sample(250, { position: 1.25, idle: false });
  assert.equal(meter.sample(9000, { position: 1.25, idle: true }), 0);
  assert.equal(meter.sample(9250, { position: 1.25, idle: false }), 250);
  meter.restart();
  assert.equal(meter.sample(20_000, { position: 0, idle: false }), 0);
  assert.equal(meter.sample(29_000, { position: 0, idle: false }), 0);
  assert.equal(meter.count, 0);
});
