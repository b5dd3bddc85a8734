import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { NO_KEY, distanceWords, ffmpegCommand, keyOf, masked, placeQuery, readIngests, serverOf, shellWord, stateWords, suggested } from '../src/core/ingests.js';

const entry = (host, more = {}) => ({
  _id: 1, name: `Europe: ${host}`, url_template: `rtmp://${host}/live/{stream_key}`, distance_km: 430, load: 0.2, state: 'available', ...more,
});

test('ingests: what is told is checked and kept in order', () => {
  const list = readIngests({ ingests: [entry('b.example'), entry('a.example', { url_template_secure: 'rtmps://a.example:443/live/{stream_key}' })] });
  assert.deepEqual(list.map(({ plain, secure }) => [plain, secure]), [
    ['rtmp://b.example/live', null],
    ['rtmp://a.example/live', 'rtmps://a.example:443/live'],
  ]);
  assert.deepEqual([list[0].distanceKm, list[0].load, list[0].state], [430, 0.2, 'available']);
  for (const body of [null, {}, { ingests: 'x' }, []]) assert.deepEqual(readIngests(body), []);
});

test('ingests: an entry that makes no sense is left out', () => {
  const bad = [
    null, 7, {}, entry('a', { name: 5 }), entry('a', { url_template: 'javascript:alert(1)' }), entry('a', { url_template: 'rtmp://a/live' }),
    entry('a', { url_template: 'rtmp://a b/live/{stream_key}' }), entry('a', { url_template: "rtmp://a';reboot;'/live/{stream_key}" }),
    entry('a', { url_template: 'http://a/live/{stream_key}' }), entry('$(reboot)'),
  ];
  assert.deepEqual(readIngests({ ingests: bad }), []);
  const odd = readIngests({ ingests: [entry('a', { url_template_secure: 'rtmp://a/live/{stream_key}', distance_km: 'far', load: 7, state: 'new' })] })[0];
  assert.deepEqual([odd.secure, odd.distanceKm, odd.load, odd.state], [null, null, 1, 'unavailable']);
  assert.equal(readIngests({ ingests: [entry('a'), entry('a')] }).length, 1);
  assert.equal(readIngests({ ingests: Array.from({ length: 1000 }, (_, n) => entry(`h${n}`)) }).length, 256);
});

test('ingests: distances and loads in words', () => {
  const told = [[null, ''], [0, 'close by'], [24, 'close by'], [26, 'about 30 km away'], [432, 'about 450 km away'], [6607, 'about 6,600 km away'], [NaN, '']];
  for (const [km, words] of told) assert.equal(distanceWords(km), words);
  const state = (word, load = 0) => stateWords({ state: word, load });
  assert.deepEqual([0, 0.7, 0.95].map((load) => state('available', load)), ['plenty of room', 'busy', 'nearly full']);
  assert.deepEqual(['full', 'draining', 'unavailable'].map((word) => state(word)), ['full', 'going down soon', 'out of reach']);
});

test('ingests: who has not chosen gets the first that takes streams', () => {
  const list = readIngests({ ingests: [entry('a', { state: 'full' }), entry('b')] });
  assert.equal(suggested(list).plain, 'rtmp://b/live');
  assert.equal(suggested(list.slice(0, 1)).plain, 'rtmp://a/live');
  assert.equal(suggested([]), null);
});

test('ingests: a position is rounded before it is told', () => {
  assert.equal(placeQuery({ latitude: 52.370216, longitude: -4.895168 }), '?lat=52.4&lon=-4.9');
});

test('ingests: encrypted where it is to be had', () => {
  const [both] = readIngests({ ingests: [entry('a', { url_template_secure: 'rtmps://a/live/{stream_key}' })] });
  const [plain] = readIngests({ ingests: [entry('a')] });
  assert.equal(serverOf(both, true), 'rtmps://a/live');
  assert.equal(serverOf(both, false), 'rtmp://a/live');
  assert.equal(serverOf(plain, true), 'rtmp://a/live');
});

test('ingests: a command is one a shell reads as meant', () => {
  assert.equal(keyOf(' ab c\n'), 'abc');
  assert.ok(ffmpegCommand('rtmp://a/live', '').endsWith(` rtmp://a/live/${NO_KEY}`));
  for (const key of ['plain-key_1', "it's", '$(touch /nowhere/x)', '`id`', 'a"b\\c', 'k&x;y|z', '*']) {
    const command = ffmpegCommand('rtmp://a/live', key);
    const printed = execFileSync('sh', ['-c', `set -f; ffmpeg() { for last; do :; done; printf %s "$last"; }; ${command}`]);
    assert.equal(printed.toString(), `rtmp://a/live/${key}`);
  }
  assert.equal(shellWord(''), "''");
});

test('ingests: a key is not shown by its length for ever', () => {
  assert.equal(masked('abc'), '\u2022\u2022\u2022');
  assert.equal(masked('x'.repeat(500)).length, 24);
  assert.equal(masked(''), '');
});
