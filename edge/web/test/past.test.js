import assert from 'node:assert/strict';
import { test } from 'node:test';
import { behindText, behindWords, destination, LEAST_NATIVE_S, pastOf } from '../src/core/past.js';
import { PAST_RELOAD_MS, RELOAD_MS, SEEK_MS, Session } from '../src/core/session.js';
import { words } from '../src/core/words.js';

const MOVING = { type: 'tick', stuckMs: 0, idle: false, moved: true, lagS: 0, playlistAgeMs: 100, playlistSlowMs: 2000, failing: null };

test('a window that every broadcast has is no past', () => {
  // Eight target durations, one segment more and the open one.
  assert.equal(pastOf({ start: 0, edge: 30, targetS: 3 }), null);
  assert.equal(pastOf({ start: 100, edge: 133, targetS: 3 }), null);
  assert.deepEqual(pastOf({ start: 100, edge: 134, targetS: 3 }), { start: 106, edge: 134 });
  assert.equal(pastOf({ start: 0, edge: LEAST_NATIVE_S }), null);
  assert.deepEqual(pastOf({ start: 0, edge: 61 }), { start: 0, edge: 61 });
  for (const bad of [undefined, NaN, Infinity]) {
    assert.equal(pastOf({ start: bad, edge: 100, targetS: 3 }), null);
    assert.equal(pastOf({ start: 0, edge: bad, targetS: 3 }), null);
  }
});

test('a wish ends within the window', () => {
  const past = { start: 106, edge: 200 };
  assert.deepEqual(destination(150, past, 198), { position: 150, live: false });
  assert.deepEqual(destination(-5, past, 198), { position: 106, live: false });
  assert.deepEqual(destination(198, past, 198), { position: 198, live: true });
  assert.deepEqual(destination(500, past, 198), { position: 198, live: true });
});

test('distances are read and heard', () => {
  assert.equal(behindText(65.4), '-1:05');
  assert.equal(behindText(59.6), '-1:00');
  assert.equal(behindText(-3), '-0:00');
  assert.equal(behindText(1800), '-30:00');
  assert.equal(behindWords(61), '1 minute 1 second behind live');
  assert.equal(behindWords(125), '2 minutes 5 seconds behind live');
  assert.equal(behindWords(5), '5 seconds behind live');
});

function playing() {
  const session = new Session(() => 0.5);
  session.start(0);
  for (let ms = 1000; ms <= 10_000; ms += 250) session.on(MOVING, ms);
  return session;
}

test('who waits for the past is not taken to the edge; a player that stands still is loaded afresh', () => {
  const waiting = { ...MOVING, moved: false, following: false, lagS: null };
  const session = playing();
  assert.deepEqual(session.on({ ...waiting, stuckMs: SEEK_MS }, 13_000), []);
  assert.deepEqual(session.on({ ...waiting, stuckMs: RELOAD_MS }, 19_000), []);
  const actions = session.on({ ...waiting, stuckMs: PAST_RELOAD_MS }, 30_000);
  assert.deepEqual(actions.map((action) => action.do), ['unload', 'load']);
});

test('a moment that is not kept any more leads back to live and is named', () => {
  const session = playing();
  const actions = session.on({ type: 'past-gone' }, 11_000);
  assert.deepEqual(actions.map((action) => action.do), ['unload', 'load']);
  assert.match(words(session.state, session.reason).detail, /not kept/);
  session.on(MOVING, 12_000);
  assert.equal(session.state, 'live');
});
