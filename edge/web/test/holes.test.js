import assert from 'node:assert/strict';
import test from 'node:test';
import { Holes } from '../src/core/holes.js';

const RANGES = [[90, 107], [108, 112]];

// Positions, one a tick, and the one at which a hole was crossed.
function crossings(positions, ranges = RANGES) {
  const holes = new Holes();
  return positions.filter((position) => holes.crossed(position, ranges, false));
}

test('a hole is crossed once, where the picture is back', () => {
  assert.deepEqual(crossings([106.5, 106.75, 107, 107.25, 107.5, 107.75, 107.95, 108.2, 108.45]), [108.2]);
  // Whether or not a tick falls into it.
  assert.deepEqual(crossings([106.9, 108.01, 108.26]), [108.01]);
});

test('without a hole there is none', () => {
  assert.deepEqual(crossings([90, 100, 106.9]), []);
  assert.deepEqual(crossings([106.9, 107.05, 107.3], [[90, 107], [107.05, 112]]), []);
});

test('a hole that has no end yet is not crossed', () => {
  assert.deepEqual(crossings([106.9, 107.2, 107.6, 108.4], [[90, 107]]), []);
});

test('what is evicted behind the position is no hole', () => {
  const holes = new Holes();
  assert.equal(holes.crossed(100, [[60, 107]], false), false);
  assert.equal(holes.crossed(100.25, [[70.1, 107]], false), false);
});

test('who was moved does not come out of a hole', () => {
  const holes = new Holes();
  holes.crossed(100, RANGES, false);
  assert.equal(holes.crossed(110, RANGES, true), false);
  assert.equal(holes.crossed(110.25, RANGES, false), false);
  // Moved into a hole: whatever leads out of it is another seek.
  assert.equal(holes.crossed(107.5, RANGES, true), false);
  assert.equal(holes.crossed(108.3, RANGES, false), false);
  holes.restart();
  assert.equal(holes.crossed(108.5, RANGES, false), false);
});
