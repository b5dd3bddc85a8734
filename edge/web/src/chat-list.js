// The list of lines on the screen: appends what core/chat-log.js hands over, a
// few lines a frame however many come, keeps to the newest, and stands still
// while the reader has scrolled up or has a line in hand.

import { lineNode } from './chat-line-view.js';

// A hundred messages a second are two a frame.
const LINES_A_FRAME = 24;
const NEAR_END_PX = 32;
// More lines than this in BUSY_MS, and a screen reader is not read all of them.
const BUSY_LINES = 15;
const BUSY_MS = 5000;

const byId = (id) => document.getElementById(id);

export class ChatList {
  login = null;
  set = new Map();
  frames = 0;
  longestFrameMs = 0;

  #log;
  #list = byId('chat-lines');
  #button = byId('chat-new');
  #nodes = new Map();
  #scheduled = false;
  #scrolledUp = false;
  #held = false;
  #appended = [];

  constructor(log) {
    this.#log = log;
    this.#list.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    this.#button.addEventListener('click', () => {
      this.toEnd();
      this.#list.focus({ preventScroll: true });
    });
    // The window, the keyboard of a phone, a rule that takes a line of its own.
    new ResizeObserver(() => this.#scrolledUp || this.#keepAtEnd()).observe(this.#list);
    document.addEventListener('visibilitychange', () => document.hidden || this.update());
  }

  // Something is ready, or was taken away.
  update() {
    this.#showCount();
    if (this.#scheduled || this.#log.ready === 0 || this.#stands) return;
    this.#scheduled = true;
    requestAnimationFrame(() => this.#frame());
  }

  // A line is in hand: nothing moves under it.
  hold(held) {
    this.#held = held;
    this.update();
  }

  toEnd() {
    this.#scrolledUp = false;
    this.#keepAtEnd();
    this.update();
  }

  drop(ids) {
    for (const id of ids) {
      const node = this.#nodes.get(id);
      if (!node) continue;
      if (node.contains(document.activeElement)) this.#list.focus({ preventScroll: true });
      node.remove();
      this.#nodes.delete(id);
    }
    if (!this.#scrolledUp) this.#keepAtEnd();
    this.#showCount();
  }

  // The line next to the one in focus; from the list itself the last.
  neighbour(step) {
    const at = document.activeElement?.closest('.chat-line');
    if (!at) return this.#list.lastElementChild;
    return step < 0 ? at.previousElementSibling : at.nextElementSibling;
  }

  get #stands() {
    return this.#scrolledUp || this.#held;
  }

  #frame() {
    const began = performance.now();
    this.#scheduled = false;
    if (this.#stands) return;
    const { lines, dropped } = this.#log.take(LINES_A_FRAME);
    const nodes = lines.map((line) => {
      const node = lineNode(line, { set: this.set, login: this.login });
      this.#nodes.set(line.id, node);
      return node;
    });
    this.#announceLess(nodes.length, began);
    this.#list.append(...nodes);
    this.drop(dropped);
    this.#keepAtEnd();
    byId('chat-empty').hidden = this.#list.childElementCount > 0;
    this.frames += 1;
    this.longestFrameMs = Math.max(this.longestFrameMs, performance.now() - began);
    this.update();
  }

  #announceLess(count, nowMs) {
    this.#appended.push({ count, nowMs });
    while (this.#appended[0].nowMs < nowMs - BUSY_MS) this.#appended.shift();
    const busy = this.#appended.reduce((sum, one) => sum + one.count, 0) > BUSY_LINES;
    const live = busy ? 'off' : 'polite';
    if (this.#list.getAttribute('aria-live') !== live) this.#list.setAttribute('aria-live', live);
  }

  #keepAtEnd() {
    this.#list.scrollTop = this.#list.scrollHeight;
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#list;
    const up = scrollHeight - scrollTop - clientHeight > NEAR_END_PX;
    if (up === this.#scrolledUp) return;
    this.#scrolledUp = up;
    this.update();
  }

  #showCount() {
    const waiting = this.#log.ready;
    this.#button.hidden = !this.#scrolledUp && !(this.#held && waiting > 0);
    const text = waiting === 0 ? 'Go to the newest' : waiting === 1 ? '1 new message' : `${waiting} new messages`;
    if (this.#button.textContent !== text) this.#button.textContent = text;
  }
}
