// The menu of a line of chat: core/chat-choices.js says what is in it.

import { element, LINK_REL } from './chat-line-view.js';
import { choices } from './core/chat-choices.js';

const byId = (id) => document.getElementById(id);

function itemOf({ label, open, grave }) {
  const item = element(open ? 'a' : 'button', grave ? 'chat-choice grave' : 'chat-choice', label);
  if (open) Object.assign(item, { href: open, target: '_blank', rel: LINK_REL });
  else item.type = 'button';
  item.tabIndex = -1;
  item.setAttribute('role', 'menuitem');
  return item;
}

export class ChatMenu {
  #menu = byId('chat-menu');
  #list = byId('chat-lines');
  #opener = null;
  #act;
  #onClose;

  // `act({ mention } | { command })`
  constructor({ act, onClose }) {
    this.#act = act;
    this.#onClose = onClose;
    this.#menu.addEventListener('keydown', (event) => this.#key(event));
    // Where a press takes the focus away, the menu would be gone before the click.
    this.#menu.addEventListener('pointerdown', (event) => event.preventDefault());
    this.#menu.addEventListener('focusout', ({ relatedTarget }) => {
      if (!this.#menu.contains(relatedTarget)) this.close(false);
    });
    this.#list.addEventListener('scroll', () => this.close(false), { passive: true });
  }

  get isOpen() {
    return !this.#menu.hidden;
  }

  // Whether there is anything to choose.
  open(node, line, me) {
    const found = choices(line, me);
    if (found.length === 0) return false;
    this.#opener = node;
    const items = found.map((choice) => {
      const item = itemOf(choice);
      item.addEventListener('click', () => {
        this.close(true);
        if (!choice.open) this.#act(choice);
      });
      return item;
    });
    this.#menu.setAttribute('aria-label', `${line.display}: ${line.text}`.slice(0, 120));
    this.#menu.replaceChildren(...items);
    this.#menu.hidden = false;
    this.#place(node);
    items[0].focus({ preventScroll: true });
    return true;
  }

  close(withFocus) {
    if (!this.isOpen) return;
    this.#menu.hidden = true;
    this.#onClose();
    if (withFocus) (this.#opener.isConnected ? this.#opener : this.#list).focus({ preventScroll: true });
  }

  // Below the line where there is room, else above it.
  #place(node) {
    const frame = this.#menu.offsetParent.getBoundingClientRect();
    const line = node.getBoundingClientRect();
    const below = line.bottom - frame.top;
    const above = line.top - frame.top - this.#menu.offsetHeight;
    const fits = below + this.#menu.offsetHeight <= frame.height;
    this.#menu.style.setProperty('top', `${Math.max(4, fits ? below : above)}px`);
  }

  #key(event) {
    const items = [...this.#menu.children];
    const at = items.indexOf(document.activeElement);
    const to = {
      ArrowDown: (at + 1) % items.length,
      ArrowUp: (at + items.length - 1) % items.length,
      Home: 0,
      End: items.length - 1,
    }[event.key];
    if (to !== undefined) items[to].focus({ preventScroll: true });
    else if (event.key === 'Escape' || event.key === 'Tab') this.close(true);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
