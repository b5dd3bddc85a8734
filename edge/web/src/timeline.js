// The bar to go back in time with: shown where there is a past, out of the way
// where there is none. It shows the distance from the live edge, so that it
// stands still while the viewer plays on.

import { behindText, behindWords } from './core/past.js';

const byId = (id) => document.getElementById(id);

export class Timeline {
  #dragging = false;

  // `seekTo(behindS)`: seconds before the live edge.
  constructor(seekTo) {
    const bar = byId('past-bar');
    bar.addEventListener('input', () => {
      this.#dragging = true;
      this.#showDistance(-bar.value);
    });
    bar.addEventListener('change', () => {
      this.#dragging = false;
      seekTo(-bar.value);
    });
    bar.addEventListener('blur', () => (this.#dragging = false));
  }

  // `past` of core/past.js; `behindS` from the live edge; `live` where the
  // viewer is there.
  show(past, behindS, live) {
    byId('past').hidden = past === null;
    if (past === null || this.#dragging) return;
    const bar = byId('past-bar');
    const longest = String(-Math.floor(past.edge - past.start));
    if (bar.min !== longest) bar.min = longest;
    const shown = live ? 0 : Math.round(behindS);
    bar.value = String(-shown);
    this.#showDistance(shown);
  }

  #showDistance(behindS) {
    const bar = byId('past-bar');
    const live = behindS <= 0;
    const done = 100 * (1 - behindS / Math.max(1, -bar.min));
    bar.style.setProperty('--done', `${done.toFixed(2)}%`);
    bar.setAttribute('aria-valuetext', live ? 'live' : behindWords(behindS));
    byId('past-time').textContent = live ? 'live' : behindText(behindS);
  }
}
