import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FASTEST, Pace, SLOWEST } from '../src/core/pace.js';

const TICK_S = 0.25;
const PART_S = 1 / 3;

// A player at `latencyS` from the edge of a stream of parts, for `ticks` ticks.
function simulate(pace, latencyS, targetS, ticks) {
  const rates = [];
  let least = Infinity;
  for (let i = 0; i < ticks; i++) {
    const sincePartS = (i * TICK_S) % PART_S;
    const bufferS = latencyS - sincePartS;
    const rate = pace.rate(latencyS - targetS, bufferS);
    least = Math.min(least, bufferS);
    rates.push(rate);
    latencyS -= (rate - 1) * TICK_S;
  }
  return { latencyS, rates, least };
}

test('comes to its target from behind, and stays there', () => {
  const pace = new Pace();
  const { latencyS, rates } = simulate(pace, 4, 1.2, 100);
  assert.ok(Math.abs(latencyS - 1.2) < 0.05, `${latencyS}`);
  assert.equal(Math.max(...rates), FASTEST);
  const later = simulate(pace, latencyS, 1.2, 200);
  assert.deepEqual(new Set(later.rates), new Set([1]));
});

test('comes to its target although little is buffered', () => {
  const { latencyS, least } = simulate(new Pace(), 1.4, 1.2, 60);
  assert.ok(latencyS < 1.25, `${latencyS}`);
  assert.ok(least > 0.5);
});

test('wins distance back when it is too close', () => {
  const { latencyS, rates } = simulate(new Pace(), 0.8, 1.2, 80);
  assert.ok(latencyS > 1.1, `${latencyS}`);
  assert.equal(Math.min(...rates), SLOWEST);
});

test('does not hurry into a stall', () => {
  assert.equal(new Pace().rate(2, 0.3), 1);
});

test('keeps its pace where nobody is to be kept up with', () => {
  const pace = new Pace();
  assert.ok(pace.rate(2, 3) > 1);
  assert.equal(pace.rate(null, 3), 1);
});

test('jitter of one part in the edge does not make it hunt', () => {
  const pace = new Pace();
  const rates = [];
  for (let i = 0; i < 100; i++) rates.push(pace.rate(i % 2 === 0 ? 0.06 : -0.06, 1));
  assert.deepEqual(new Set(rates), new Set([1]));
});
