import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keyAction } from '../src/core/keys.js';

const PAGE = { on: null, inside: false, writing: false, everywhere: true };
const PLAYER = { ...PAGE, inside: true };

test('letters steer on the whole page, in either case', () => {
  for (const [key, action] of Object.entries({ k: 'play', ' ': 'play', M: 'mute', f: 'fullscreen', s: 'figures', d: 'fast', L: 'live', c: 'chat', ArrowLeft: 'back', ArrowRight: 'forward' })) {
    assert.equal(keyAction(key, PAGE), action, key);
    assert.equal(keyAction(key, PLAYER), action, key);
  }
  for (const key of ['x', 'Home', 'Tab', 'toString', '__proto__']) assert.equal(keyAction(key, PLAYER), null, key);
});

test('who turns them off steers within the player alone (WCAG 2.1.4)', () => {
  const off = { ...PAGE, everywhere: false };
  for (const key of ['k', ' ', 'm', 'f', 's', 'd', 'l', 'c', 'ArrowLeft', 'ArrowRight']) {
    assert.equal(keyAction(key, off), null, key);
    assert.notEqual(keyAction(key, { ...off, inside: true }), null, key);
  }
});

test('outside of the player up and down scroll', () => {
  for (const [key, action] of [['ArrowUp', 'louder'], ['ArrowDown', 'quieter']]) {
    assert.equal(keyAction(key, PAGE), null, key);
    assert.equal(keyAction(key, PLAYER), action, key);
  }
});

test('buttons, sliders, lists and the chat keep their own keys', () => {
  assert.equal(keyAction(' ', { ...PLAYER, on: 'button' }), null);
  assert.equal(keyAction('m', { ...PLAYER, on: 'button' }), 'mute');
  for (const key of ['ArrowUp', 'ArrowLeft']) assert.equal(keyAction(key, { ...PLAYER, on: 'slider' }), null, key);
  assert.equal(keyAction(' ', { ...PLAYER, on: 'slider' }), 'play');
  assert.equal(keyAction('m', { ...PLAYER, on: 'select' }), null);
  assert.equal(keyAction('m', { ...PAGE, writing: true }), null);
});
