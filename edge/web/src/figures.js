// The strip of figures below the picture.

import { DASH, frames, rendition, seconds } from './core/format.js';
import { modeWords } from './core/words.js';

const cells = new Map();

function put(id, text) {
  let cell = cells.get(id);
  if (!cell) {
    cell = document.getElementById(`figure-${id}`);
    cells.set(id, cell);
  }
  if (cell.textContent !== text) cell.textContent = text;
}

export function showFigures(stats) {
  put('latency', seconds(stats.latency));
  put('target', seconds(stats.edgeLatencyTarget));
  put('buffer', stats.latency === null ? DASH : seconds(stats.buffer));
  put('speed', stats.latency === null ? DASH : `${stats.rate.toFixed(2)}x`);
  put('dropped', frames(stats.dropped, stats.frames));
  put('stalls', stats.stalls === 0 ? '0' : `${stats.stalls}, ${seconds(stats.stalledMs / 1000, 1)}`);
  put('mode', modeWords(stats));
  put('rendition', rendition(stats.level));
}
