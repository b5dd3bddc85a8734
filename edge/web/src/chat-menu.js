// What can be done with a line, by click or by keyboard: everybody mentions its
// author, moderators delete, time out and ban. It only says which command is
// meant.

import { element } from './chat-line-view.js';

const byId = (id) => document.getElementById(id);

function choices(line, me) {
  const found = [];
  if (me.login !== null) found.push({ label: `Mention ${line.display}`, mention: line.display });
  // Nobody moderates the broadcaster, or themselves.
  if (!me.moderates || line.login === me.login || line.badges.includes('broadcaster')) return found;
  if (line.kind === 'message') found.push({ label: 'Delete message', command: `/delete ${line.id}` });
  if (line.kind === 'held') found.push({ label: 'Approve message', command: `/approve ${line.target}` }, { label: 'Deny message', command: `/deny ${line.target}` });
  return [
    ...found,
    { label: 'Time out for 1 minute', command: `/timeout ${line.login} 60` },
    { label: 'Time out for 10 minutes', command: `/timeout ${line.login} 600` },
    { label: `Ban ${line.display}`, command: `/ban ${line.login}`, grave: true },
  ];
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
      const item = element('button', choice.grave ? 'chat-choice grave' : 'chat-choice', choice.label);
      item.type = 'button';
      item.tabIndex = -1;
      item.setAttribute('role', 'menuitem');
      item.addEventListener('click', () => {
        this.close(true);
        this.#act(choice);
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
