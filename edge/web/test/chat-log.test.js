import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ChatLog, HOLD_MS, LINES } from '../src/core/chat-log.js';

const message = (n, more = {}) => ({ kind: 'message', id: `id-${n}`, epoch: '7', offset: n, programMs: n * 1000, login: 'ann', text: String(n), ...more });
const texts = ({ lines }) => lines.map(({ text }) => text);
const filled = (count, more) => {
  const log = new ChatLog();
  for (let n = 0; n < count; n++) log.add(message(n, more?.(n)), { nowMs: 0 });
  log.take(LINES);
  return log;
};

test('each message is shown once, in order', () => {
  const log = new ChatLog();
  for (const n of [1, 2, 2, 1, 3]) log.add(message(n), { nowMs: 0 });
  assert.deepEqual(texts(log.take(2)), ['1', '2']);
  assert.deepEqual(texts(log.take(2)), ['3']);
  assert.equal(log.add(message(3), { nowMs: 0 }), false, 'still on the screen');
  assert.deepEqual(texts(log.take(2)), []);
});

test('lines are bounded, on the screen and before it', () => {
  const log = new ChatLog();
  for (let n = 0; n < LINES + 20; n++) log.add(message(n), { nowMs: 0 });
  assert.equal(log.ready, LINES);
  assert.equal(log.skipped, 20);
  assert.equal(texts(log.take(LINES))[0], '20');
  for (let n = 0; n < 5; n++) log.add(message(LINES + 20 + n), { nowMs: 0 });
  assert.deepEqual(log.take(10).dropped, [20, 21, 22, 23, 24].map((n) => `id-${n}`));
  assert.equal(log.shown, LINES);
});

test('a message waits for its picture, its own author\u2019s does not', () => {
  const log = new ChatLog();
  log.add(message(5), { nowMs: 0, at: 4000 });
  log.add(message(6), { nowMs: 100, at: 4100 });
  log.add(message(7), { nowMs: 200, at: 4200, own: true });
  assert.deepEqual(texts(log.take(9)), ['7']);
  log.release(900, 4999);
  assert.equal(log.ready, 0);
  log.release(1000, 5000);
  assert.deepEqual(texts(log.take(9)), ['5']);
  log.release(1100, null);
  assert.deepEqual(texts(log.take(9)), ['6'], 'nothing waits where no picture plays');
});

test('what waits keeps its order, and does not wait for ever', () => {
  const log = new ChatLog();
  log.add(message(9), { nowMs: 0, at: 0 });
  log.add(message(1), { nowMs: 10, at: 5000 });
  log.add({ ...message(2), programMs: null }, { nowMs: 20, at: 5000 });
  assert.equal(log.waiting, 3);
  log.release(HOLD_MS - 1, 5000);
  assert.equal(log.ready, 0);
  log.release(HOLD_MS, 5000);
  assert.deepEqual(texts(log.take(9)), ['9', '1', '2']);
  for (let n = 100; n < 100 + 3 * LINES; n++) log.add(message(n), { nowMs: 0, at: 0 });
  assert.equal(log.waiting, LINES);
  assert.equal(log.ready, LINES);
});

test('removals take lines wherever they are', () => {
  const log = filled(4, (n) => ({ login: n % 2 === 0 ? 'ann' : 'bob' }));
  log.say('welcome');
  log.add(message(4, { login: 'bob' }), { nowMs: 0 });
  log.add(message(50, { login: 'bob' }), { nowMs: 0, at: 1 });
  assert.deepEqual(log.remove({ what: 'user', login: 'bob' }), ['id-1', 'id-3']);
  assert.deepEqual([log.ready, log.waiting, log.shown], [1, 0, 2]);
  assert.deepEqual(log.remove({ what: 'message', id: 'id-2' }), ['id-2']);
  assert.equal(log.add(message(2), { nowMs: 0 }), false, 'a history does not bring it back');
  assert.deepEqual(log.remove({ what: 'all' }), ['id-0']);
  assert.deepEqual(texts(log.take(9)), ['welcome']);
});

test('what a history does not have any more goes, and nothing else does', () => {
  const log = filled(8, (n) => (n === 5 ? { kind: 'notice' } : {}));
  log.add(message(3, { id: 'old-3', epoch: '6' }), { nowMs: 0 });
  log.take(9);
  assert.deepEqual(log.reconcile([2, 3, 6].map((n) => message(n))), ['id-4'], 'not before, not after, no notice, no other epoch');
  assert.deepEqual(log.reconcile([]), []);
});
