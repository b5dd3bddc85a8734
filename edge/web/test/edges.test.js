import assert from 'node:assert/strict';
import { test } from 'node:test';
import { arriving, credentialOfName, credentialOfToken, kept, readKept, tokenOfHash } from '../src/core/credential.js';
import { AGAIN_MS, Edges, LOOK_MS } from '../src/core/edges.js';
import { viewerId, withViewer } from '../src/core/source.js';

test('edges: what is told is checked, and taken once', () => {
  const edges = new Edges('https://a.example');
  edges.learn({ alternatives: ['https://b.example', 'https://b.example', 'http://c.example', 'https://d.example/x', 'javascript:alert(1)', 7, 'https://a.example'] });
  assert.deepEqual(edges.others, ['https://b.example']);
  for (const body of [null, {}, { alternatives: 'x' }]) edges.learn(body);
  edges.learn({ alternatives: Array.from({ length: 50 }, (_, n) => `https://e${n}.example`) });
  assert.equal(edges.others.length, 15);
});

test('edges: one is left after a while without an answer, not after a refusal', () => {
  const edges = new Edges('http://a');
  assert.equal(edges.sample(0, 0), false);
  assert.equal(edges.sample(LOOK_MS, 0), false, 'nowhere to go');
  edges.learn({ alternatives: ['http://b', 'http://c'] });
  assert.ok(edges.sample(LOOK_MS, 503));
  assert.equal(edges.sample(LOOK_MS + 250, 0), false, 'no more often');
  assert.ok(edges.sample(LOOK_MS + AGAIN_MS, 0));
  edges.move('http://b');
  assert.deepEqual(edges.others, ['http://c', 'http://a']);
  const at = 100_000;
  assert.equal(edges.sample(at, 0), false);
  assert.equal(edges.sample(at + 1000, null), false);
  assert.equal(edges.sample(at + LOOK_MS, 0), false, 'counted anew');
  for (const status of [404, 403, null]) assert.equal(edges.sample(at + 90_000, status), false, String(status));
});

test('source: a viewer is told apart on playlists alone', () => {
  assert.equal(withViewer('/live/demo/v0.m3u8', 'ab'), '/live/demo/v0.m3u8?viewer=ab');
  assert.equal(withViewer('/live/demo/v0.m3u8?_HLS_msn=5', 'ab'), '/live/demo/v0.m3u8?_HLS_msn=5&viewer=ab');
  assert.equal(viewerId(new Uint8Array([0, 255, 16])), '00ff10');
});

const jwt = (body) => `eyJhbGciOiJIUzI1NiJ9.${Buffer.from(JSON.stringify(body)).toString('base64url')}.c2ln`;

test('credentials: names and tokens are read, garbage is none', () => {
  assert.deepEqual(credentialOfName(' @Ann_1 '), { login: 'ann_1', display: 'Ann_1' });
  for (const name of ['', 'a b', 'x'.repeat(26), 'justinfan7', '\u00e4nn']) assert.equal(credentialOfName(name), null, String(name));
  const nowMs = 1_000_000;
  const token = jwt({ login: 'ann', name: '\u00c4nn', exp: 1001 });
  assert.deepEqual(credentialOfToken(token, nowMs), { login: 'ann', display: '\u00c4nn', token });
  assert.equal(credentialOfToken(token, nowMs + 2000), null, 'run out');
  for (const bad of [null, '', 'a.b.c', 'a.b', jwt({ exp: 2000 }), jwt({ login: 'A B', exp: 2000 }), jwt({ login: 'ann' }), `${token}.x`]) {
    assert.equal(credentialOfToken(bad, nowMs), null, String(bad));
  }
});

test('credentials: a token in the link holds, also where nothing is kept', () => {
  const nowMs = 0;
  const token = jwt({ login: 'ann', exp: 1 });
  const off = { get: () => null, set: () => {} };
  assert.equal(arriving(token, off, nowMs).login, 'ann');
  assert.equal(arriving(null, off, nowMs), null);
  const held = new Map([['chat', 'Bob']]);
  const on = { get: (key) => held.get(key) ?? null, set: (key, value) => held.set(key, value) };
  assert.equal(arriving('no token', on, nowMs).login, 'bob', 'garbage takes nobody\'s place');
  assert.equal(arriving(token, on, nowMs).login, 'ann');
  assert.equal(arriving(null, on, nowMs).login, 'ann');
});

test('credentials: what is kept comes back', () => {
  const token = jwt({ login: 'ann', exp: 2000 });
  for (const credential of [credentialOfName('Ann'), credentialOfToken(token, 0)]) assert.deepEqual(readKept(kept(credential), 0), credential);
  assert.equal(kept(null), null);
  assert.equal(readKept(null, 0), null);
  assert.equal(tokenOfHash('#chat=a.b.c&x=1'), 'a.b.c');
  assert.equal(tokenOfHash('#x'), null);
});
