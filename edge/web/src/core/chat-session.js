// One reader's place in a room, over as many connections as it takes.
//
// In: what the socket does (`open`, `line`, `closed`), a tick of a second or less,
// and the reader's wishes, each with the present time of a monotonic clock. Out:
// actions for the page to carry out, in order. It owns `state`, `me`, `room`; it
// knows neither the DOM nor sockets nor a clock.
//
// States: connecting, joining (the room was not heard yet), catching-up (what was
// missed is being fetched, what comes meanwhile waits), live, waiting (before the
// next try).
// Invariants: messages are handed over in the room's order but for the one pass of
// a catch-up, after which nothing between is missing or a `gap` says so; there is
// always a connection, or one is on its way. Bounds: MAX_WAITING events, MAX_ASKED
// messages without a verdict, MAX_PAGES pages of history.

import { backoffMs } from './backoff.js';
import { ANY_ROOM, heldId, heldOf, messageOf, removalOf, roomOf, selfOf, waitS } from './chat-line.js';
import { parseLine, writeLine } from './irc.js';

// On the first visit, and one page of what was missed.
export const FIRST = 50;
export const PAGE = 100;
export const MAX_PAGES = 6;
// An edge cuts a page short at 48 KiB.
const FULL_PAGE_CHARS = 40_000;
export const MAX_WAITING = 1000;
export const MAX_ASKED = 8;
// What is remembered of what was heard: where a catch-up begins, so that it also
// tells what was removed meanwhile.
const OVERLAP = 100;
const CATCH_UP_MS = 5000;
const CONNECT_MS = 10_000;
// A verdict comes within the edge's patience of 10 s.
const VERDICT_MS = 15_000;
// Silence after which the server is asked for a sign of life, and then given up.
export const PING_MS = 20_000;
export const GONE_MS = 30_000;
// After RECONNECT everybody comes back, though not in one instant.
const RECONNECT_MS = 1000;

const CAPS = 'message-tags server-time batch echo-message labeled-response draft/chathistory twitch.tv/tags twitch.tv/commands';
const DENIED = /authentication failed|Improperly formatted/i;
const NOBODY = { login: null, display: '', colour: null, badges: [], moderates: false, exempt: false };

export class ChatSession {
  state = 'waiting';
  me = NOBODY;
  room = ANY_ROOM;
  // When the reader may write again, and why not before ('slow' or 'timeout').
  wait = null;

  #channel;
  #random;
  #credential;
  #attempt = 0;
  #joined = false;
  #heardMs = 0;
  #spokeMs = null;
  #sinceMs = 0;
  #pinged = false;
  // Of the last messages: { id, time, ms }.
  #recent = [];
  #waiting = [];
  #history = null;
  #asked = new Map();
  #unsure = [];
  #label = 0;

  // `credential`: { login, token? } of who may write, or null.
  constructor(channel, credential = null, random = Math.random) {
    this.#channel = `#${channel}`;
    this.#credential = credential;
    this.#random = random;
  }

  get signedIn() {
    return this.#credential !== null;
  }

  // A name without a token.
  get isUnsigned() {
    return this.signedIn && !this.#credential.token;
  }

  on(event, nowMs) {
    const out = [];
    EVENTS[event.type].call(this, event, nowMs, out);
    return out;
  }

  #connect(afterMs, nowMs, out) {
    this.state = afterMs > 0 ? 'waiting' : 'connecting';
    this.#sinceMs = nowMs + afterMs;
    this.#heardMs = nowMs + afterMs;
    out.push({ do: 'connect', afterMs }, { do: 'state' });
  }

  #leave(nowMs, out) {
    out.push({ do: 'disconnect' });
    this.#drop();
    this.#attempt = 0;
    this.#connect(0, nowMs, out);
  }

  // A connection is over. What waits is fetched again; what was said without a
  // verdict is looked for in what is fetched.
  #drop() {
    this.#joined = false;
    this.#history = null;
    this.#waiting = [];
    for (const { text } of this.#asked.values()) if (!isCommand(text)) this.#unsure.push(text);
    this.#unsure = this.#unsure.slice(-MAX_ASKED);
    this.#asked.clear();
    this.me = NOBODY;
  }

  #welcome(line, out) {
    this.me = this.#credential === null ? NOBODY : { ...NOBODY, login: line.params[0], display: this.#credential.display ?? line.params[0] };
    this.state = 'joining';
    out.push({ do: 'send', line: writeLine('JOIN', [this.#channel]) }, { do: 'state' });
  }

  #roomState(line, nowMs, out) {
    this.room = roomOf(line, this.room);
    this.#slow(nowMs);
    out.push({ do: 'state' });
    if (this.#joined) return;
    this.#joined = true;
    this.#attempt = 0;
    this.#catchUp(nowMs, out);
  }

  // Asks for what was missed, from before what was last heard.
  #catchUp(nowMs, out) {
    this.state = 'catching-up';
    const from = this.#recent[0]?.time ?? null;
    this.#history = { found: [], ids: new Set(), from, pages: 0, reference: null, fresh: 0, chars: 0, askedMs: nowMs };
    this.#ask(nowMs, out);
    out.push({ do: 'state' });
  }

  #ask(nowMs, out) {
    const history = this.#history;
    Object.assign(history, { reference: null, fresh: 0, chars: 0, lines: 0, askedMs: nowMs });
    history.pages += 1;
    const latest = history.from === null;
    const params = latest ? ['LATEST', this.#channel, '*', String(history.last ? PAGE : FIRST)] : ['AFTER', this.#channel, `timestamp=${justBefore(history.from)}`, String(PAGE)];
    out.push({ do: 'send', line: writeLine('CHATHISTORY', params) });
  }

  #batch({ params }, nowMs, out) {
    const history = this.#history;
    if (history === null) return;
    const [reference, type] = params;
    if (reference.startsWith('+') && type === 'chathistory') history.reference = reference.slice(1);
    else if (history.reference !== null && reference === `-${history.reference}`) this.#pageEnded(nowMs, out);
  }

  #past(line, chars) {
    const history = this.#history;
    history.chars += chars;
    history.lines += 1;
    if (line.command !== 'PRIVMSG' && line.command !== 'USERNOTICE') return;
    const message = messageOf(line);
    if (message === null || history.ids.has(message.id)) return;
    history.ids.add(message.id);
    history.fresh += 1;
    history.found.push(message);
  }

  #pageEnded(nowMs, out) {
    const history = this.#history;
    const full = history.lines >= PAGE || history.chars >= FULL_PAGE_CHARS;
    if (history.from === null || history.fresh === 0 || !full) {
      this.#caughtUp(nowMs, out);
    } else if (history.pages < MAX_PAGES) {
      history.from = history.found.at(-1).time ?? history.from;
      this.#ask(nowMs, out);
    } else {
      // Too much to read: the newest, and a word about the rest.
      out.push({ do: 'history', messages: history.found }, { do: 'gap' });
      Object.assign(history, { found: [], from: null, last: true });
      this.#ask(nowMs, out);
    }
  }

  #caughtUp(nowMs, out) {
    const { found } = this.#history ?? { found: [] };
    const waiting = this.#waiting;
    this.#history = null;
    this.#waiting = [];
    this.state = 'live';
    out.push({ do: 'history', messages: found });
    for (const message of found) this.#heard(message);
    out.push(...waiting);
    for (const text of this.#unsure) {
      const arrived = [...found, ...waiting.map(({ message }) => message)].some((one) => one?.login === this.me.login && one.text === text);
      if (!arrived) out.push({ do: 'unsent', text, why: 'The connection was lost before your message was sent.' });
    }
    this.#unsure = [];
    out.push({ do: 'state' });
  }

  #heard({ id, time }) {
    if (time === null || this.#recent.some((one) => one.id === id)) return;
    this.#recent.push({ id, time });
    if (this.#recent.length > OVERLAP) this.#recent.shift();
  }

  // Now, or once what was missed is there.
  #tell(action, out) {
    if (this.state !== 'catching-up') {
      out.push(action);
      return;
    }
    this.#waiting.push(action);
    if (this.#waiting.length > MAX_WAITING) this.#waiting.shift();
  }

  #said(line, nowMs, out) {
    const message = messageOf(line);
    if (message === null) return;
    const label = line.tags.get('label');
    const own = this.me.login !== null && message.login === this.me.login;
    if (label !== undefined) this.#asked.delete(label);
    if (own && line.command === 'PRIVMSG') {
      this.#spokeMs = nowMs;
      this.wait = null;
      this.#slow(nowMs);
    }
    this.#heard(message);
    if (this.me.moderates) this.#noLongerHeld(message.id, out);
    this.#tell({ do: 'message', message, own }, out);
    if (own) out.push({ do: 'state' });
  }

  // Slow mode counts from the reader's last message, whenever it is turned on.
  #slow(nowMs) {
    if (this.wait?.why === 'timeout' && this.wait.untilMs > nowMs) return;
    const slowMs = this.me.exempt || this.#spokeMs === null ? 0 : this.room.slowS * 1000;
    this.wait = slowMs > 0 ? { untilMs: this.#spokeMs + slowMs, why: 'slow' } : null;
  }

  #noLongerHeld(target, out) {
    this.#tell({ do: 'remove', removal: { what: 'message', id: heldId(target) } }, out);
  }

  #mayTalkIn(seconds, why, nowMs) {
    if (seconds > 0) this.wait = { untilMs: nowMs + seconds * 1000, why };
  }

  #removed(line, nowMs, out) {
    const removal = removalOf(line);
    if (removal.what === 'user' && removal.login === this.me.login && removal.seconds !== null) {
      this.#mayTalkIn(removal.seconds, 'timeout', nowMs);
    }
    this.#tell({ do: 'remove', removal }, out);
  }

  #notice(line, nowMs, out) {
    const [to, text = ''] = line.params;
    const id = line.tags.get('msg-id') ?? '';
    if (to === '*' && this.#credential !== null && DENIED.test(text)) {
      this.#credential = null;
      out.push({ do: 'signed-out', why: 'Your sign-in has expired or is not valid here.' });
      return;
    }
    if (id === 'gap') {
      if (this.state === 'live') this.#catchUp(nowMs, out);
      return;
    }
    const target = line.tags.get('target-msg-id');
    if (id === 'held_for_review' && target) {
      this.#tell({ do: 'message', message: heldOf(line), own: false }, out);
      return;
    }
    if (id === 'held_denied' && target) this.#noLongerHeld(target, out);
    const label = line.tags.get('label');
    const asked = this.#asked.get(label);
    if (asked) this.#asked.delete(label);
    const refused = id.startsWith('msg_') && asked && !isCommand(asked.text);
    const seconds = waitS(text);
    if (id === 'msg_slowmode' && seconds !== null) this.#mayTalkIn(seconds, 'slow', nowMs);
    if (id === 'msg_timedout' && seconds !== null) this.#mayTalkIn(seconds, 'timeout', nowMs);
    if (refused) out.push({ do: 'unsent', text: asked.text, why: text });
    else out.push({ do: 'notice', text, own: Boolean(asked) });
    out.push({ do: 'state' });
  }

  #userState(line, out) {
    if (this.me.login === null) return;
    this.me = selfOf(line, this.me);
    out.push({ do: 'state' });
  }

  #isHere({ params }) {
    return params[0] === this.#channel;
  }

  static events = {
    start(_event, nowMs, out) {
      this.#connect(0, nowMs, out);
    },

    open(_event, nowMs, out) {
      this.#heardMs = nowMs;
      this.#sinceMs = nowMs;
      this.#pinged = false;
      const send = (...line) => out.push({ do: 'send', line: writeLine(...line) });
      send('CAP', ['REQ', CAPS]);
      const who = this.#credential;
      if (who?.token) send('PASS', [`oauth:${who.token}`]);
      // Where no token says how a name is written, the nick does.
      send('NICK', [who ? (who.token ? who.login : who.display) : `justinfan${1000 + Math.floor(this.#random() * 9_000_000)}`]);
    },

    closed(_event, nowMs, out) {
      this.#drop();
      this.#connect(backoffMs(this.#attempt, this.#random()), nowMs, out);
      this.#attempt += 1;
    },

    tick(_event, nowMs, out) {
      if (this.state === 'waiting') return;
      for (const [label, { text, askedMs }] of this.#asked) {
        if (nowMs - askedMs < VERDICT_MS) continue;
        this.#asked.delete(label);
        out.push({ do: 'unsent', text, why: 'The server did not answer.' });
      }
      if (this.state === 'catching-up' && nowMs - this.#history.askedMs > CATCH_UP_MS) {
        out.push({ do: 'gap' });
        this.#caughtUp(nowMs, out);
      }
      const silentMs = nowMs - this.#heardMs;
      const unanswered = this.state === 'connecting' && nowMs - this.#sinceMs > CONNECT_MS;
      if (unanswered || silentMs > GONE_MS) {
        out.push({ do: 'disconnect' });
        EVENTS.closed.call(this, null, nowMs, out);
      } else if (silentMs > PING_MS && !this.#pinged) {
        this.#pinged = true;
        out.push({ do: 'send', line: writeLine('PING', ['page']) });
      }
    },

    // Another identity, or none: a connection has one for its life.
    'sign-in'({ credential }, nowMs, out) {
      this.#credential = credential;
      this.wait = null;
      this.#leave(nowMs, out);
    },

    // The same room elsewhere.
    move(_event, nowMs, out) {
      this.#leave(nowMs, out);
    },

    say({ text }, nowMs, out) {
      const said = text.trim();
      if (said === '') return;
      if (this.state !== 'live' && this.state !== 'catching-up') {
        out.push({ do: 'unsent', text, why: 'Chat is not connected. Try again in a moment.' });
        return;
      }
      if (this.#asked.size >= MAX_ASKED) {
        out.push({ do: 'unsent', text, why: 'Wait for your last messages to be sent.' });
        return;
      }
      this.#label += 1;
      const label = `m${this.#label}`;
      this.#asked.set(label, { text: said, askedMs: nowMs });
      out.push({ do: 'send', line: writeLine('PRIVMSG', [this.#channel, said], { label }) });
    },

    line({ text }, nowMs, out) {
      this.#heardMs = nowMs;
      this.#pinged = false;
      const line = parseLine(text);
      if (line === null) return;
      const batch = line.tags.get('batch');
      if (batch !== undefined && this.#history?.reference === batch) {
        this.#past(line, text.length);
        return;
      }
      const handler = LINES[line.command];
      if (handler) handler.call(this, line, nowMs, out);
    },

    // The page is about to connect, after the pause.
    connecting(_event, nowMs, out) {
      this.state = 'connecting';
      this.#sinceMs = nowMs;
      this.#heardMs = nowMs;
      out.push({ do: 'state' });
    },
  };

  static lines = {
    '001'(line, _nowMs, out) {
      this.#welcome(line, out);
    },
    PING(line, _nowMs, out) {
      out.push({ do: 'send', line: writeLine('PONG', [line.params[0] ?? 'page']) });
    },
    RECONNECT(_line, nowMs, out) {
      out.push({ do: 'disconnect' });
      this.#drop();
      this.#connect(1 + Math.round(this.#random() * RECONNECT_MS), nowMs, out);
      out.push({ do: 'edge-leaves' });
    },
    ROOMSTATE(line, nowMs, out) {
      if (this.#isHere(line)) this.#roomState(line, nowMs, out);
    },
    USERSTATE(line, _nowMs, out) {
      if (this.#isHere(line)) this.#userState(line, out);
    },
    BATCH(line, nowMs, out) {
      this.#batch(line, nowMs, out);
    },
    FAIL(line, nowMs, out) {
      if (line.params[0] === 'CHATHISTORY' && this.state === 'catching-up') this.#caughtUp(nowMs, out);
    },
    PRIVMSG(line, nowMs, out) {
      if (this.#isHere(line)) this.#said(line, nowMs, out);
    },
    USERNOTICE(line, nowMs, out) {
      if (this.#isHere(line)) this.#said(line, nowMs, out);
    },
    CLEARCHAT(line, nowMs, out) {
      if (this.#isHere(line)) this.#removed(line, nowMs, out);
    },
    CLEARMSG(line, nowMs, out) {
      if (this.#isHere(line)) this.#removed(line, nowMs, out);
    },
    NOTICE(line, nowMs, out) {
      this.#notice(line, nowMs, out);
    },
  };
}

const EVENTS = ChatSession.events;
const LINES = ChatSession.lines;

export const isCommand = (text) => /^[/.][A-Za-z]/.test(text) && !/^[/.]me /.test(text);

// The server tells apart to the millisecond and leaves out what it names.
function justBefore(time) {
  const ms = Date.parse(time);
  return new Date(Math.max(0, ms - 1)).toISOString();
}
