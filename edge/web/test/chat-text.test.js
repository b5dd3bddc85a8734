import assert from 'node:assert/strict';
import { test } from 'node:test';
import { badges, durationWords, messageOf, removalOf, roomOf, rules, ANY_ROOM, waitS } from '../src/core/chat-line.js';
import { MAX_PIECES, mentions, pieces, readEmotes } from '../src/core/chat-text.js';
import { contrast, CONTRAST, DARK_GROUND, LIGHT_GROUND, nameColours } from '../src/core/colour.js';
import { MAX_LINE_CHARS, parseLine, writeLine } from '../src/core/irc.js';

test('lines: every part is where it belongs', () => {
  const line = parseLine('@a=1;b=x\\:y\\sz\\\\;c;d= :ann!ann@host PRIVMSG #demo :hello  :you\r\n');
  assert.deepEqual([...line.tags], [['a', '1'], ['b', 'x;y z\\'], ['c', ''], ['d', '']]);
  assert.equal(line.nick, 'ann');
  assert.equal(line.command, 'PRIVMSG');
  assert.deepEqual(line.params, ['#demo', 'hello  :you']);
  assert.deepEqual(parseLine('PING').params, []);
  assert.deepEqual(parseLine('ping  a  b :').params, ['a', 'b', '']);
});

test('lines: what is none is none', () => {
  for (const text of ['', '   ', '@a=1', ':ann', '<b>x</b>', 'P1NG', null, 7, 'x'.repeat(MAX_LINE_CHARS + 1)]) {
    assert.equal(parseLine(text), null, String(text).slice(0, 20));
  }
  const odd = parseLine('@__proto__=1;constructor=2 PING');
  assert.equal(odd.tags.get('__proto__'), '1');
  assert.equal({}.constructor, Object);
});

test('lines: what is written stays one line', () => {
  assert.equal(writeLine('JOIN', ['#demo']), 'JOIN :#demo');
  assert.equal(writeLine('PRIVMSG', ['#demo', 'a\r\nQUIT :b'], { label: 'm 1' }), '@label=m\\s1 PRIVMSG #demo :a QUIT :b');
  const said = parseLine(writeLine('PRIVMSG', ['#demo', ':) hi'], { label: 'm1' }));
  assert.deepEqual(said.params, ['#demo', ':) hi']);
});

const SET = readEmotes({ emotes: { Kappa: '/emotes/kappa.png', wave: '\u{1F44B}', far: 'https://cdn.example/far.webp' } });
const shape = (cut) => cut.map(({ kind, text }) => `${kind}:${text}`);

test('emotes: a set is checked', () => {
  assert.deepEqual([...SET.keys()], ['Kappa', 'wave', 'far']);
  const bad = readEmotes({ emotes: { '': 'x', 'a b': 'x', js: 'javascript:alert(1)//', proto: '//evil.example/x.png', http: 'http://x.example/a.png', data: 'data:image/png;base64,AAAA', n: 7, ok: ':)' } });
  assert.deepEqual([...bad.keys()], ['ok']);
  for (const body of [null, 7, {}, { emotes: null }, { emotes: 'x' }]) assert.equal(readEmotes(body).size, 0);
});

test('emotes: positions count code points', () => {
  const text = '\u{1F600} Kappa \u{1F600} wave';
  assert.deepEqual(shape(pieces(text, { tag: 'Kappa:2-6/wave:10-13', set: SET })), ['text:\u{1F600} ', 'emote:Kappa', 'text: \u{1F600} ', 'emote:wave']);
  assert.deepEqual(shape(pieces('Kappa', { tag: '25:0-4', set: SET })), ['emote:Kappa'], 'an id of another kind');
  for (const tag of ['Kappa:0-9', 'Kappa:4-0', 'Kappa:x-4', 'nobody:0-3', 'Kappa', ':', 'Kappa:-1-3', 'Kappa:0-4.5']) {
    assert.deepEqual(shape(pieces('text', { tag, set: SET })), ['text:text'], tag);
  }
  assert.deepEqual(shape(pieces('KappaKappa', { tag: 'Kappa:0-4,2-6,5-9', set: SET })), ['emote:Kappa', 'emote:Kappa'], 'no overlap');
});

test('emotes: without a tag, whole words', () => {
  assert.deepEqual(shape(pieces('Kappa  xKappa wave', { set: SET })), ['emote:Kappa', 'text:  xKappa ', 'emote:wave']);
});

test('text: mentions and links are pieces, markup is text', () => {
  const cut = pieces('hey @Ann, see https://example.org/a?b=c now, ann! annie', { login: 'ann' });
  assert.deepEqual(shape(cut), ['text:hey ', 'mention:@Ann,', 'text: see ', 'link:https://example.org/a?b=c', 'text: now, ', 'mention:ann!', 'text: annie']);
  assert.ok(mentions(cut));
  assert.ok(!mentions(pieces('hey bob', { login: 'ann' })));
  assert.ok(!mentions(pieces('ann', { login: null })));
  const html = '<img src=x onerror=alert(1)> javascript:alert(1) https:// http:///x';
  assert.deepEqual(shape(pieces(html, { login: 'ann' })), [`text:${html}`]);
});

test('text: pieces are bounded and lose nothing', () => {
  const text = 'ann x '.repeat(400);
  const cut = pieces(text, { login: 'ann' });
  assert.equal(cut.length, MAX_PIECES);
  assert.equal(cut.map((piece) => piece.text).join(''), text);
});

test('colours: every choice can be read on both grounds', () => {
  for (const chosen of ['#000000', '#ffffff', '#FF0000', '#00ff00', '#0000FF', '#777777', '#1e90ff', '#ffff00', null, '', 'red', '#12345', '#+12345']) {
    for (const login of ['ann', 'bob', '', 'x'.repeat(25)]) {
      const { light, dark } = nameColours(chosen, login);
      assert.ok(contrast(light, LIGHT_GROUND) >= CONTRAST, `${chosen} ${login} ${light}`);
      assert.ok(contrast(dark, DARK_GROUND) >= CONTRAST, `${chosen} ${login} ${dark}`);
      for (const colour of [light, dark]) assert.match(colour, /^#[0-9a-f]{6}$/);
    }
  }
  assert.equal(nameColours('#000000', 'ann').light, '#000000', 'what can be read is left alone');
  assert.ok(new Set(['a', 'b', 'c', 'd', 'e'].map((login) => nameColours(null, login).light)).size > 2);
});

test('room: lines become what a page shows', () => {
  const line = (text) => parseLine(text);
  const said = messageOf(line('@id=7;time=2026-11-25T20:50:13.250Z;millrace/offset=1795639813250.3;millrace/programme-time=2026-11-25T20:50:13.250Z;badges=moderator/1,odd/3,subscriber/12;color=#1E90FF;display-name=Ann;reply-parent-msg-id=5;reply-parent-display-name=Bob :ann!ann@h PRIVMSG #demo :\x01ACTION waves\x01'));
  assert.deepEqual(
    [said.epoch, said.offset, said.programMs, said.text, said.action, said.display, said.reply.display],
    ['1795639813250', 3, 1_795_639_813_250, 'waves', true, 'Ann', 'Bob'],
  );
  assert.deepEqual(said.badges, ['moderator', 'subscriber']);
  assert.equal(messageOf(line(':ann PRIVMSG #demo :without an id')), null);
  const bare = messageOf(line('@id=8;millrace/offset=x;time=soon :ann PRIVMSG #demo'));
  assert.deepEqual([bare.epoch, bare.offset, bare.programMs, bare.text, bare.display], ['', 0, null, '', 'ann']);
  assert.deepEqual(removalOf(line('CLEARCHAT #demo')), { what: 'all' });
  assert.deepEqual(removalOf(line('@ban-duration=60 CLEARCHAT #demo :bob')), { what: 'user', login: 'bob', seconds: 60 });
  assert.deepEqual(removalOf(line('CLEARCHAT #demo :bob')), { what: 'user', login: 'bob', seconds: null });
  assert.deepEqual(removalOf(line('@target-msg-id=7;login=bob CLEARMSG #demo :bad')), { what: 'message', id: '7', login: 'bob' });
  assert.deepEqual(badges(undefined), []);
});

test('room: a ROOMSTATE changes what it names', () => {
  const all = roomOf(parseLine('@emote-only=0;followers-only=-1;r9k=0;slow=5;subs-only=1 ROOMSTATE #demo'), ANY_ROOM);
  assert.equal(rules(all), 'Slow mode, 5 s \u00b7 Subscribers only');
  const one = roomOf(parseLine('@slow=0;followers-only=10 ROOMSTATE #demo'), all);
  assert.equal(rules(one), 'Subscribers only \u00b7 Followers only');
  assert.equal(rules(roomOf(parseLine('@slow=x ROOMSTATE #demo'), ANY_ROOM)), '');
});

test('refusals say how long they last', () => {
  assert.equal(waitS('This room is in slow mode. You will be able to talk again in 4 seconds.'), 4);
  assert.equal(waitS('You are timed out for 598 more seconds.'), 598);
  assert.equal(waitS('No.'), null);
  assert.deepEqual([1, 59, 60, 600, 7200, 86_400].map(durationWords), ['1 second', '59 seconds', '1 minute', '10 minutes', '2 hours', '1 day']);
});
