// The chat beside the picture: carries out what core/chat-session.js decides, keeps
// a socket for it, and shows who writes what. Lines go through core/chat-log.js,
// which lets them wait for the picture.

import { ChatLog } from './core/chat-log.js';
import { durationWords, rules } from './core/chat-line.js';
import { ChatSession, isCommand } from './core/chat-session.js';
import { readEmotes } from './core/chat-text.js';
import { arriving, credentialOfName, kept, tokenOfHash } from './core/credential.js';
import { ChatList } from './chat-list.js';
import { ChatMenu } from './chat-menu.js';
import { badge, paintName } from './chat-line-view.js';
import { store } from './store.js';

const REQUEST_MS = 10_000;
const STATES = {
  connecting: 'Connecting\u2026',
  joining: 'Waiting for the room\u2026',
  'catching-up': '',
  live: '',
  waiting: 'Not connected. Trying again in a moment.',
};

const byId = (id) => document.getElementById(id);

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// The kept identity, or the one in the page's address, which leaves the address.
function credential() {
  const token = tokenOfHash(location.hash);
  if (token !== null) history.replaceState(null, '', location.pathname + location.search);
  return arriving(token, store, Date.now());
}

export class Chat {
  #base;
  #picture;
  #onEdgeLeaves;
  #session;
  #log = new ChatLog();
  #list = new ChatList(this.#log);
  #menu;
  #socket = null;
  #timer = null;
  #mode = null;
  #inStep = store.get('chat-sync') !== 'off';
  #said = '';

  // `picture()` is where the picture is, in ms of programme time, or null where
  // nothing has to wait for it. `onEdgeLeaves()`: this edge sends its clients away.
  constructor({ channel, base, picture, onEdgeLeaves }) {
    this.#base = base;
    this.#picture = picture;
    this.#onEdgeLeaves = onEdgeLeaves;
    this.#session = new ChatSession(channel, credential());
    this.#menu = new ChatMenu({ act: (choice) => this.#act(choice), onClose: () => this.#list.hold(false) });
    this.#bind();
    this.#dispatch({ type: 'start' });
    this.#learn();
    this.#showSync();
  }

  // The same room at another edge.
  move(base) {
    this.#base = base;
    this.#dispatch({ type: 'move' });
    this.#learn();
  }

  tick(nowMs) {
    this.#dispatch({ type: 'tick' });
    this.#log.release(nowMs, this.#at);
    this.#list.update();
    this.#showWait(nowMs);
  }

  focus() {
    const field = ['chat-text', 'chat-name', 'chat-sign-in-link', 'chat-lines'].map(byId).find((node) => node.offsetParent !== null);
    field?.focus();
  }

  stats() {
    const { state, signedIn, me, room, wait } = this.#session;
    const { ready, waiting, shown, skipped } = this.#log;
    const { frames, longestFrameMs } = this.#list;
    return { state, signedIn, login: me.login, moderates: me.moderates, slowS: room.slowS, wait, ready, waiting, shown, skipped, frames, longestFrameMs, base: this.#base };
  }

  // Whether the reader has gone to a line by keyboard: one that was merely pressed
  // is not held on to.
  get #inHand() {
    return document.activeElement.matches('.chat-line:focus-visible');
  }

  get #at() {
    return this.#inStep ? this.#picture() : null;
  }

  #dispatch(event) {
    for (const action of this.#session.on(event, performance.now())) this.#actions[action.do](action);
  }

  #actions = {
    connect: ({ afterMs }) => this.#connect(afterMs),
    disconnect: () => this.#disconnect(),
    send: ({ line }) => this.#socket?.readyState === WebSocket.OPEN && this.#socket.send(line),
    message: ({ message, own }) => {
      const nowMs = performance.now();
      this.#log.add(message, { nowMs, at: this.#at, own });
      if (own) this.#list.toEnd();
      else this.#list.update();
    },
    history: ({ messages }) => {
      const nowMs = performance.now();
      this.#log.release(nowMs, null);
      this.#list.drop(this.#log.reconcile(messages));
      for (const message of messages) this.#log.add(message, { nowMs, own: message.login === this.#session.me.login });
      this.#list.update();
    },
    remove: ({ removal }) => this.#remove(removal),
    gap: () => this.#tellAll('Some messages are missing here.'),
    notice: ({ text, own }) => (own ? this.#tell(text) : this.#tellAll(text)),
    unsent: ({ text, why }) => {
      const field = byId('chat-text');
      if (field.value === '') field.value = text;
      this.#tell(why);
    },
    'signed-out': ({ why }) => {
      store.set('chat', null);
      this.#tell(why);
    },
    'edge-leaves': () => this.#onEdgeLeaves(),
    state: () => this.#show(),
  };

  #connect(afterMs) {
    clearTimeout(this.#timer);
    if (afterMs === 0) {
      this.#open();
      return;
    }
    this.#timer = setTimeout(() => {
      this.#dispatch({ type: 'connecting' });
      this.#open();
    }, afterMs);
  }

  #open() {
    const url = `${this.#base.replace(/^http/, 'ws')}/chat`;
    let socket;
    try {
      socket = new WebSocket(url, ['text.ircv3.net']);
    } catch {
      // An address that the page's policy forbids: as good as no answer.
      queueMicrotask(() => this.#dispatch({ type: 'closed' }));
      return;
    }
    this.#socket = socket;
    const mine = (event) => socket === this.#socket && this.#dispatch(event);
    socket.addEventListener('open', () => mine({ type: 'open' }));
    socket.addEventListener('message', ({ data }) => mine({ type: 'line', text: data }));
    socket.addEventListener('close', () => mine({ type: 'closed' }));
  }

  #disconnect() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  // Who may write here and how, and the emotes.
  async #learn() {
    try {
      const response = await fetch(`${this.#base}/api/v1/chat`, { cache: 'no-cache', signal: AbortSignal.timeout(REQUEST_MS) });
      if (!response.ok) return;
      const body = await response.json();
      this.#mode = ['name', 'page', 'token'].includes(body?.sign_in) ? body.sign_in : null;
      this.#list.set = readEmotes(body);
      // A name of another day, where names have to be signed now.
      if (this.#mode !== null && this.#mode !== 'name' && this.#session.isUnsigned) this.#signIn(null);
    } catch {
      // The socket says whether the edge answers; without emotes their names are read.
    }
    this.#show();
  }

  #remove(removal) {
    this.#list.drop(this.#log.remove(removal));
    this.#list.update();
    const { what, login, seconds } = removal;
    const { me } = this.#session;
    const term = seconds === null ? 'banned' : `timed out for ${durationWords(seconds ?? 0)}`;
    if (what === 'all') this.#tellAll('A moderator cleared the chat.');
    else if (what === 'user' && login === me.login) this.#tellAll(`You were ${term}.`);
    else if (what === 'user' && me.moderates) this.#tellAll(`${login} was ${term}.`);
  }

  #act({ mention, command }) {
    if (command) this.#dispatch({ type: 'say', text: command });
    if (!mention) return;
    const field = byId('chat-text');
    field.value = `${field.value}${field.value === '' || field.value.endsWith(' ') ? '' : ' '}@${mention} `;
    field.focus();
  }

  // To the reader alone, by the field.
  #tell(text) {
    this.#said = text;
    this.#show();
  }

  // Among the lines.
  #tellAll(text) {
    this.#log.say(text);
    this.#list.update();
  }

  #signIn(given) {
    store.set('chat', kept(given));
    this.#said = '';
    this.#dispatch({ type: 'sign-in', credential: given });
    this.#learn();
  }

  #bind() {
    const lines = byId('chat-lines');
    lines.addEventListener('click', ({ target }) => {
      const { command } = target.dataset;
      if (command) this.#act({ command });
      else if (target.closest('.line-name')) this.#openMenu(target.closest('.chat-line'));
    });
    lines.addEventListener('keydown', (event) => this.#lineKey(event));
    lines.addEventListener('focusin', () => this.#list.hold(this.#inHand));
    lines.addEventListener('focusout', ({ relatedTarget }) => {
      if (!lines.contains(relatedTarget) && !this.#menu.isOpen) this.#list.hold(false);
    });
    byId('chat-write').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#write();
    });
    byId('chat-join').addEventListener('submit', (event) => {
      event.preventDefault();
      const given = credentialOfName(byId('chat-name').value);
      if (given) this.#signIn(given);
      else this.#tell('A name is 1 to 25 of the letters a to z, digits and _.');
    });
    byId('chat-leave').addEventListener('click', () => this.#signIn(null));
    byId('chat-sync').addEventListener('click', () => {
      this.#inStep = !this.#inStep;
      store.set('chat-sync', this.#inStep ? 'on' : 'off');
      this.#showSync();
      this.tick(performance.now());
    });
    byId('chat-text').addEventListener('input', () => {
      if (this.#said !== '') this.#tell('');
    });
  }

  #openMenu(node) {
    const line = node && this.#log.find(node.dataset.id);
    if (!line) return;
    this.#list.hold(true);
    if (!this.#menu.open(node, line, this.#session.me)) this.#list.hold(this.#inHand);
  }

  // The arrows go from line to line, Enter opens what can be done with one.
  #lineKey(event) {
    const line = document.activeElement.closest('.chat-line');
    if (event.key === 'ArrowUp' || (event.key === 'ArrowDown' && line)) {
      const next = this.#list.neighbour(event.key === 'ArrowUp' ? -1 : 1);
      next?.focus();
      next?.scrollIntoView({ block: 'nearest' });
    } else if (event.key === 'Enter' && line) this.#openMenu(line);
    else if (event.key === 'Escape') {
      this.#list.toEnd();
      this.focus();
    } else return;
    event.preventDefault();
  }

  #write() {
    const field = byId('chat-text');
    const leftS = this.#leftS(performance.now());
    if (leftS > 0 && this.#session.wait.why === 'slow' && !isCommand(field.value)) {
      this.#tell(`Slow mode: you can write again in ${durationWords(leftS)}.`);
      return;
    }
    const text = field.value;
    field.value = '';
    this.#said = '';
    this.#dispatch({ type: 'say', text });
  }

  #leftS(nowMs) {
    const { wait } = this.#session;
    return wait === null ? 0 : Math.max(0, Math.ceil((wait.untilMs - nowMs) / 1000));
  }

  #showWait(nowMs) {
    const leftS = this.#leftS(nowMs);
    const node = byId('chat-wait');
    node.hidden = leftS === 0;
    if (leftS > 0) put(node, this.#session.wait.why === 'slow' ? `Slow mode, ${leftS} s` : `Timed out, ${leftS} s`);
  }

  #showSync() {
    const button = byId('chat-sync');
    button.setAttribute('aria-pressed', String(this.#inStep));
    button.title = this.#inStep ? 'Messages appear with the picture they are about' : 'Messages appear as they come';
  }

  #show() {
    const { state, me, room, signedIn } = this.#session;
    byId('chat').dataset.state = state;
    this.#list.login = me.login;
    put(byId('chat-rules'), rules(room));
    put(byId('chat-state'), this.#said || STATES[state]);
    const typedIn = ['chat-write', 'chat-join'].map(byId).find((form) => form.contains(document.activeElement));
    byId('chat-write').hidden = !signedIn;
    byId('chat-join').hidden = signedIn || this.#mode !== 'name';
    byId('chat-sign-in').hidden = signedIn || this.#mode !== 'page';
    byId('chat-elsewhere').hidden = signedIn || this.#mode !== 'token';
    // Who has just joined goes on typing, and means the chat, not the player's keys.
    if (typedIn?.hidden) this.focus();
    byId('chat-sign-in-link').href = `/sign-in?to=${encodeURIComponent(location.pathname)}`;
    if (me.login === null) return;
    const name = byId('chat-me');
    put(name, me.display);
    paintName(name, me.colour, me.login);
    const held = me.badges.join();
    const badges = byId('chat-my-badges');
    if (badges.dataset.held !== held) {
      badges.dataset.held = held;
      badges.replaceChildren(...me.badges.map(badge));
    }
  }
}
