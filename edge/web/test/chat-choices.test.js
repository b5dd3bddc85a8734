import assert from 'node:assert/strict';
import { test } from 'node:test';
import { choices } from '../src/core/chat-choices.js';

const STRANGER = { login: null, moderates: false };
const ANN = { login: 'ann', moderates: false };
const MIA = { login: 'mia', moderates: true };
const line = (text, more = {}) => ({ kind: 'message', id: '1', login: 'bob', display: 'Bob', badges: [], text, ...more });
const labels = (...args) => choices(...args).map(({ label }) => label);

test('links are opened by who reads, signed in or not (WCAG 2.1.1)', () => {
  const text = 'see https://example.org/a?b=c and http://b.example https://example.org/a?b=c';
  assert.deepEqual(choices(line(text), STRANGER), [
    { label: 'Open https://example.org/a?b=c', open: 'https://example.org/a?b=c' },
    { label: 'Open http://b.example', open: 'http://b.example' },
  ]);
  assert.deepEqual(labels(line(text), ANN), ['Mention Bob', 'Open https://example.org/a?b=c', 'Open http://b.example']);
  assert.equal(choices(line('javascript:alert(1) nothing'), STRANGER).length, 0);
  const many = Array.from({ length: 20 }, (_, n) => `http://${n}.example`).join(' ');
  assert.equal(choices(line(many), STRANGER).length, 8);
});

test('moderators do more, but not to the broadcaster or themselves', () => {
  assert.deepEqual(labels(line('x'), MIA), ['Mention Bob', 'Delete message', 'Time out for 1 minute', 'Time out for 10 minutes', 'Ban Bob']);
  assert.deepEqual(labels(line('x', { kind: 'held', target: '2' }), MIA).slice(1, 3), ['Approve message', 'Deny message']);
  assert.deepEqual(labels(line('x', { badges: ['broadcaster'] }), MIA), ['Mention Bob']);
  assert.deepEqual(labels(line('x', { login: 'mia', display: 'Mia' }), MIA), ['Mention Mia']);
});
