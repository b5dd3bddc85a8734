import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ChatSession, FIRST, GONE_MS, MAX_ASKED, MAX_PAGES, MAX_WAITING, PAGE, PING_MS } from '../src/core/chat-session.js';

const time = (n) => new Date(1_795_639_813_000 + n * 1000).toISOString();
const said = (n, { login = 'bob', text = `text ${n}`, tags = '' } = {}) =>
  `@${tags}id=id-${n};time=${time(n)};millrace/offset=7.${n};millrace/programme-time=${time(n)} :${login}!${login}@h PRIVMSG #demo :${text}`;

class Rig {
  nowMs = 0;
  sent = [];
  shown = [];
  others = [];

  constructor(credential = null) {
    this.session = new ChatSession('demo', credential, () => 0.5);
  }

  on(type, more = {}) {
    for (const action of this.session.on({ type, ...more }, this.nowMs)) {
      if (action.do === 'send') this.sent.push(action.line);
      else if (action.do === 'message') this.shown.push(action.message.id);
      else if (action.do === 'history') this.shown.push(...action.messages.map(({ id }) => id));
      else if (action.do !== 'state') this.others.push(action);
    }
    return this;
  }

  lines(...lines) {
    for (const text of lines) this.on('line', { text });
    return this;
  }

  // Up to ROOMSTATE; what is asked for then is in `sent`.
  joins() {
    this.on('start').on('open');
    this.lines(':s 001 ann :Welcome', '@badges=;mod=0 :s USERSTATE #demo', '@slow=0;subs-only=0;r9k=0;emote-only=0;followers-only=-1 :s ROOMSTATE #demo');
    return this;
  }

  page(reference, ...lines) {
    this.lines(`:s BATCH +${reference} chathistory :#demo`, ...lines.map((line) => line.replace('@', `@batch=${reference};`)), `:s BATCH -${reference}`);
    return this;
  }

  live() {
    this.joins().page('h1');
    this.sent = [];
    return this;
  }

  // The last CHATHISTORY that was asked for.
  get asked() {
    return this.sent.filter((line) => line.startsWith('CHATHISTORY')).at(-1);
  }

  take() {
    const { others } = this;
    this.others = [];
    return others;
  }
}

const ids = (from, to) => Array.from({ length: to - from }, (_, i) => `id-${from + i}`);
const range = (from, to, more) => Array.from({ length: to - from }, (_, i) => said(from + i, more));

test('reads without a name, writes with a token', () => {
  const anonymous = new Rig().on('start').on('open');
  assert.deepEqual(anonymous.sent.map((line) => line.split(' ')[0]), ['CAP', 'NICK']);
  assert.match(anonymous.sent[1], /^NICK :justinfan\d+$/);
  const ann = new Rig({ login: 'ann', token: 'a.b.c' }).on('start').on('open');
  assert.deepEqual(ann.sent.slice(1), ['PASS :oauth:a.b.c', 'NICK :ann']);
  ann.lines(':s 001 ann :Welcome');
  assert.equal(ann.sent.at(-1), 'JOIN :#demo');
  assert.equal(ann.session.state, 'joining');
  assert.equal(ann.session.me.login, 'ann');
  const bob = new Rig({ login: 'bob', display: 'Bob' }).on('start').on('open');
  assert.equal(bob.sent.at(-1), 'NICK :Bob');
});

test('the past comes first, once, and then what came meanwhile', () => {
  const rig = new Rig().joins();
  assert.equal(rig.asked, `CHATHISTORY LATEST #demo * :${FIRST}`);
  assert.equal(rig.session.state, 'catching-up');
  rig.lines(said(9), '@target-msg-id=id-2 :s CLEARMSG #demo :x');
  assert.deepEqual(rig.shown, []);
  rig.page('h1', ...range(1, 4));
  assert.deepEqual(rig.shown, ['id-1', 'id-2', 'id-3', 'id-9']);
  assert.deepEqual(rig.take().map((action) => action.do), ['connect', 'remove'], 'a removal after what it removes');
  assert.equal(rig.session.state, 'live');
  rig.lines(said(10));
  assert.equal(rig.shown.at(-1), 'id-10');
});

test('after a cut, what was missed is fetched from before what was heard', () => {
  const rig = new Rig().live();
  rig.lines(...range(1, 6)).on('closed');
  const [, again] = rig.take().map((action) => action.afterMs);
  assert.ok(again >= 1000 && again <= 5000, String(again));
  rig.shown = [];
  rig.joins();
  assert.equal(rig.asked, `CHATHISTORY AFTER #demo timestamp=${new Date(Date.parse(time(1)) - 1).toISOString()} :${PAGE}`);
  rig.lines(said(9));
  rig.page('h2', ...range(1, 9));
  assert.deepEqual(rig.shown, [...ids(1, 9), 'id-9'], 'told from the overlap on; the log knows what it has');
});

test('pages are asked for until there is no more', () => {
  const rig = new Rig().live();
  rig.lines(said(1)).on('closed').joins();
  rig.page('p1', ...range(1, 1 + PAGE));
  assert.match(rig.asked, new RegExp(`timestamp=${new Date(Date.parse(time(PAGE)) - 1).toISOString()}`));
  assert.equal(rig.session.state, 'catching-up');
  rig.page('p2', ...range(PAGE, PAGE + 30));
  assert.equal(rig.session.state, 'live');
  assert.deepEqual(rig.shown.slice(1), ids(1, PAGE + 30));
});

test('too long a past is cut, and said to be', () => {
  const rig = new Rig().live();
  rig.lines(said(1)).on('closed').joins();
  rig.take();
  for (let n = 0; n < MAX_PAGES; n++) rig.page(`p${n}`, ...range(1 + n * (PAGE - 1), 1 + n * (PAGE - 1) + PAGE));
  assert.deepEqual(rig.take().map((action) => action.do), ['gap']);
  assert.equal(rig.asked, `CHATHISTORY LATEST #demo * :${PAGE}`);
  rig.page('last', ...range(5000, 5100));
  assert.equal(rig.session.state, 'live');
  assert.equal(rig.shown.at(-1), 'id-5099');
});

test('a history that does not come is not waited for', () => {
  const rig = new Rig().joins().lines(said(3));
  rig.nowMs = 6000;
  rig.on('tick');
  assert.deepEqual(rig.shown, ['id-3']);
  assert.equal(rig.session.state, 'live');
  const refused = new Rig().joins().lines(said(3), ':s FAIL CHATHISTORY INVALID_PARAMS LATEST :no');
  assert.deepEqual(refused.shown, ['id-3']);
});

test('a reader who was too slow fetches what it missed', () => {
  const rig = new Rig().live().lines(said(1), '@msg-id=gap :s NOTICE #demo :You were too slow.');
  assert.match(rig.asked, /^CHATHISTORY AFTER/);
  rig.lines(said(8)).page('g', ...range(1, 8));
  assert.deepEqual(rig.shown, ['id-1', ...ids(1, 8), 'id-8']);
});

test('what comes during a catch-up is bounded', () => {
  const rig = new Rig().joins();
  for (let n = 0; n < MAX_WAITING + 5; n++) rig.lines(said(n));
  rig.page('h1');
  assert.deepEqual(rig.shown, ids(5, MAX_WAITING + 5));
});

test('RECONNECT is followed at once, spread over a second', () => {
  const rig = new Rig().live();
  rig.take();
  rig.lines(':s RECONNECT');
  const [gone, again, told] = rig.take();
  assert.deepEqual([gone.do, again.do, told.do], ['disconnect', 'connect', 'edge-leaves']);
  assert.ok(again.afterMs <= 1001);
});

test('a silent connection is asked, and then given up', () => {
  const rig = new Rig().live();
  rig.take();
  rig.nowMs = PING_MS + 1;
  rig.on('tick').on('tick');
  assert.deepEqual(rig.sent, ['PING :page']);
  rig.lines(':s PONG s :page');
  rig.nowMs += GONE_MS;
  rig.on('tick');
  assert.deepEqual(rig.take(), []);
  rig.nowMs += 1;
  rig.on('tick');
  assert.deepEqual(rig.take().map((action) => action.do), ['disconnect', 'connect']);
  assert.equal(rig.session.state, 'waiting');
});

test('a token that is no good is given back, and reading goes on', () => {
  const rig = new Rig({ login: 'ann', token: 'a.b.c' }).on('start').on('open');
  rig.lines(':s NOTICE * :Login authentication failed').on('closed').on('open');
  assert.ok(rig.take().some((action) => action.do === 'signed-out'));
  assert.match(rig.sent.at(-1), /justinfan/);
  assert.equal(rig.session.signedIn, false);
});

test('what was said is told by its echo, a refusal gives it back', () => {
  const rig = new Rig({ login: 'ann', display: 'Ann' }).live();
  rig.take();
  rig.on('say', { text: ' hello ' });
  assert.deepEqual(rig.sent, ['@label=m1 PRIVMSG #demo :hello']);
  rig.lines(said(3, { login: 'ann', text: 'hello', tags: 'label=m1;' }));
  assert.deepEqual(rig.shown, ['id-3']);
  rig.on('say', { text: 'again' });
  rig.lines('@label=m2;msg-id=msg_slowmode :s NOTICE #demo :slow; talk again in 4 seconds.');
  assert.deepEqual(rig.take().map((action) => [action.do, action.text]), [['unsent', 'again']]);
  assert.deepEqual(rig.session.wait, { untilMs: 4000, why: 'slow' });
  rig.on('say', { text: '/timeout bob 60' });
  rig.lines('@label=m3;msg-id=timeout_success :s NOTICE #demo :bob has been timed out.');
  assert.deepEqual(rig.take().map((action) => [action.do, action.text]), [['notice', 'bob has been timed out.']]);
});

test('what was said without a verdict is found or given back', () => {
  const rig = new Rig({ login: 'ann', display: 'Ann' }).live();
  rig.on('say', { text: 'arrived' }).on('say', { text: 'lost' }).on('say', { text: '/ban bob' }).on('closed');
  rig.take();
  rig.joins().page('h2', said(4, { login: 'ann', text: 'arrived' }));
  assert.deepEqual(rig.take().filter((action) => action.do === 'unsent').map(({ text }) => text), ['lost']);
  const silent = new Rig({ login: 'ann', display: 'Ann' }).live();
  for (let n = 0; n <= MAX_ASKED; n++) silent.on('say', { text: `x${n}` });
  assert.equal(silent.sent.length, MAX_ASKED);
  assert.equal(silent.take().at(-1).do, 'unsent');
  silent.nowMs = 16_000;
  silent.lines(':s PING :x').on('tick');
  assert.equal(silent.take().filter((action) => action.do === 'unsent').length, MAX_ASKED);
});

test('slow mode counts from the last message, and not for moderators', () => {
  const rig = new Rig({ login: 'ann', display: 'Ann' }).live();
  rig.lines('@slow=10 :s ROOMSTATE #demo', said(1, { login: 'ann' }));
  assert.deepEqual(rig.session.wait, { untilMs: 10_000, why: 'slow' });
  rig.lines('@slow=3 :s ROOMSTATE #demo');
  assert.equal(rig.session.wait.untilMs, 3000);
  rig.lines('@slow=0 :s ROOMSTATE #demo');
  assert.equal(rig.session.wait, null);
  rig.lines('@slow=10 :s ROOMSTATE #demo', '@badges=moderator/1;mod=1 :s USERSTATE #demo', said(2, { login: 'ann' }));
  assert.equal(rig.session.wait, null);
  assert.ok(rig.session.me.moderates);
  rig.lines('@ban-duration=60 :s CLEARCHAT #demo :ann');
  assert.deepEqual(rig.session.wait, { untilMs: 60_000, why: 'timeout' });
  rig.lines('@slow=5 :s ROOMSTATE #demo');
  assert.equal(rig.session.wait.why, 'timeout', 'the longer of two');
});

test('slow mode that is turned on counts from the last message, too', () => {
  const rig = new Rig({ login: 'ann', display: 'Ann' }).live();
  rig.lines(said(1, { login: 'ann' }));
  rig.nowMs = 1000;
  rig.lines('@slow=10 :s ROOMSTATE #demo');
  assert.deepEqual(rig.session.wait, { untilMs: 10_000, why: 'slow' });
  rig.lines('@ban-duration=60 :s CLEARCHAT #demo :ann', said(2, { login: 'ann' }));
  assert.deepEqual(rig.session.wait, { untilMs: 11_000, why: 'slow' }, 'who was let speak is not timed out');
});

test('what is held is for moderators to decide on, and goes once it is', () => {
  const rig = new Rig({ login: 'mia', display: 'Mia' }).live();
  rig.lines('@badges=moderator/1;mod=1 :s USERSTATE #demo');
  rig.take();
  const held = (n) => `@msg-id=held_for_review;target-msg-id=id-${n};login=bob;display-name=Bob;millrace/offset=7.${n};time=${time(n)} :s NOTICE #demo :Held for review: bob: hm: (yes) (/approve id-${n} or /deny id-${n})`;
  const [told] = rig.session.on({ type: 'line', text: held(1) }, 0);
  const { id, kind, target, login, display, text } = told.message;
  assert.deepEqual([id, kind, target, login, display, text], ['held-id-1', 'held', 'id-1', 'bob', 'Bob', 'hm: (yes)']);
  rig.lines(said(1));
  assert.deepEqual(rig.take().map(({ removal }) => removal), [{ what: 'message', id: 'held-id-1' }]);
  rig.lines('@msg-id=held_denied;target-msg-id=id-2;login=bob :s NOTICE #demo :mia denied the held message of bob.');
  assert.deepEqual(rig.take().map((action) => action.removal?.id ?? action.text), ['held-id-2', 'mia denied the held message of bob.']);
});

test('another name is another connection in the same room', () => {
  const rig = new Rig().live();
  rig.lines(said(1));
  rig.take();
  rig.on('sign-in', { credential: { login: 'ann', display: 'Ann' } });
  assert.deepEqual(rig.take().map((action) => action.do), ['disconnect', 'connect']);
  rig.joins();
  assert.match(rig.asked, /AFTER/, 'what was shown stays');
});

test('what is for another room or means nothing changes nothing', () => {
  const rig = new Rig().live();
  rig.take();
  rig.lines('', 'garbage', '@id=1 :x!x@x PRIVMSG #other :hi', ':s CLEARCHAT #other', ':s BATCH -nobody', ':s 999 x', '@slow=9 :s ROOMSTATE #other', ':x!x@x PRIVMSG #demo :no id');
  assert.deepEqual([rig.shown, rig.take(), rig.session.room.slowS], [[], [], 0]);
});
