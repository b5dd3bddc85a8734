// Chat through tmi.js, unchanged, on two edges: joins, talks both ways, is timed
// out and banned, sees one order, and loses nothing when a link is cut or the
// origin is killed. The script that starts this does the cutting: it is told by
// lines on standard output and answers by files.
//
//   node chat.mjs PORT-1 PORT-2 KEYS-FILE DIRECTORY

import { createHmac } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import tmi from 'tmi.js';

const [, , port1, port2, keysFile, dir] = process.argv;
const ports = [Number(port1), Number(port2)];
const ROOM = '#demo';
// The longest that anything here may take before it counts as lost.
const PATIENCE_MS = 20_000;

const [kid, , secret] = readFileSync(keysFile, 'utf8').trim().split(/\s+/);

const base64url = (bytes) => Buffer.from(bytes).toString('base64url');

/** A token in the form that survives tmi.js's lowercasing: the JWT in base32. */
function token(login, claims = {}) {
  const header = base64url(JSON.stringify({ alg: 'HS256', typ: 'JWT', kid }));
  const body = { sub: `id-${login}`, aud: 'chat', exp: Math.floor(Date.now() / 1000) + 600, login, ...claims };
  const signed = `${header}.${base64url(JSON.stringify(body))}`;
  const mac = createHmac('sha256', Buffer.from(secret, 'base64url')).update(signed).digest('base64url');
  return base32(Buffer.from(`${signed}.${mac}`));
}

function base32(bytes) {
  let bits = '';
  for (const byte of bytes) bits += byte.toString(2).padStart(8, '0');
  return bits.match(/.{1,5}/g)
    .map((five) => 'abcdefghijklmnopqrstuvwxyz234567'[parseInt(five.padEnd(5, '0'), 2)])
    .join('');
}

function fail(why) {
  console.error(`chat.mjs: ${why}`);
  process.exit(1);
}

async function until(what, condition) {
  const end = Date.now() + PATIENCE_MS;
  while (!condition()) {
    if (Date.now() > end) fail(`not in time: ${what}`);
    await sleep(10);
  }
}

/** A tmi.js client and all that it was told. */
async function client(login, edge, claims) {
  const identity = login === null ? undefined : { username: login, password: `oauth:${token(login, claims)}` };
  const made = new tmi.Client({
    options: { skipUpdatingEmotesets: true, skipMembership: false },
    connection: { server: '127.0.0.1', port: ports[edge], secure: false, reconnect: true, reconnectInterval: 200 },
    logger: { info() {}, warn() {}, error() {}, setLevel() {} },
    identity,
    channels: [ROOM],
  });
  const seen = { messages: [], timeouts: [], bans: [], notices: [], cleared: 0 };
  made.on('message', (_, tags, text, self) => self || seen.messages.push({ id: tags.id, user: tags.username, text }));
  made.on('timeout', (_, user, __, seconds) => seen.timeouts.push({ user, seconds }));
  made.on('ban', (_, user) => seen.bans.push(user));
  made.on('notice', (_, id, text) => seen.notices.push({ id, text }));
  made.on('clearchat', () => { seen.cleared += 1; });
  let joined = false;
  made.on('roomstate', () => { joined = true; });
  await made.connect();
  await until(`${login ?? 'a reader'} in the room`, () => joined);
  return Object.assign(made, { seen });
}

const heard = (who, text) => who.seen.messages.some((message) => message.text === text);
const noticed = (who, id) => who.seen.notices.some((notice) => notice.id === id);

/** Asks the script for something, and waits until it is done. */
async function ask(what) {
  console.log(what);
  await until(what, () => existsSync(`${dir}/${what}`));
}

const ann = await client('ann', 0);
const bob = await client('bob', 1);
const demo = await client('demo', 0);
const readers = [await client(null, 0), await client(null, 1)];

// Both ways.
await ann.say(ROOM, 'hello from edge 1');
await bob.say(ROOM, 'hello from edge 2');
await until('ann hears bob', () => heard(ann, 'hello from edge 2'));
await until('bob hears ann', () => heard(bob, 'hello from edge 1'));
await ann.action(ROOM, 'waves');

// One order, whoever speaks where.
const speakers = [];
for (let n = 0; n < 8; n += 1) speakers.push(await client(`speaker_${n}`, n % 2));
await Promise.all(speakers.map(async (speaker, n) => {
  for (let turn = 0; turn < 12; turn += 1) {
    await speaker.say(ROOM, `order ${n}.${turn}`);
    await sleep(5);
  }
}));
const all = speakers.length * 12;
const ordered = (reader) => reader.seen.messages.filter((message) => message.text.startsWith('order '));
for (const reader of readers) await until('all of the order', () => ordered(reader).length >= all);
const [one, other] = readers.map((reader) => ordered(reader).map((message) => message.id).join());
if (one !== other) fail('the edges disagree on the order');
if (new Set(one.split(',')).size !== all) fail('messages came twice or not at all');
for (let n = 0; n < speakers.length; n += 1) {
  const own = ordered(readers[0]).filter((message) => message.user === `speaker_${n}`).map((message) => message.text);
  if (own.join() !== Array.from({ length: 12 }, (_, turn) => `order ${n}.${turn}`).join()) fail(`speaker ${n} out of order`);
}

// A time-out silences at both edges, for its time.
await demo.timeout(ROOM, 'bob', 2, 'spam');
for (const reader of readers) await until('the time-out', () => reader.seen.timeouts.some((out) => out.user === 'bob' && out.seconds === 2));
await bob.say(ROOM, 'silenced');
await until('bob is told', () => noticed(bob, 'msg_timedout'));
await sleep(2_000);
await bob.say(ROOM, 'back again');
await until('bob is back', () => readers.every((reader) => heard(reader, 'back again')));
if (readers.some((reader) => heard(reader, 'silenced'))) fail('a silenced message was heard');
if ((await ann.ban(ROOM, 'bob').catch((error) => error)) !== 'no_permission') fail('ann may ban');

/** Messages at both edges while something is broken; nothing is lost or doubled. */
async function survives(what, begin, end) {
  await ask(begin);
  const began = Date.now();
  for (let turn = 0; turn < 10; turn += 1) {
    await speakers[turn % 4].say(ROOM, `${what} ${turn}`);
    await sleep(100);
  }
  await ask(end);
  const told = (reader) => reader.seen.messages.filter((message) => message.text.startsWith(`${what} `));
  for (const reader of readers) await until(`${what}: all messages`, () => told(reader).length >= 10);
  await sleep(500);
  const [here, there] = readers.map((reader) => told(reader).map((message) => message.id).join());
  if (here !== there || told(readers[0]).length !== 10) {
    fail(`${what}: ${JSON.stringify(readers.map((reader) => told(reader).map((message) => message.text)))}`);
  }
  console.log(`ok ${what} (${Date.now() - began} ms)`);
}

await survives('cut', 'cut-link', 'mend-link');

// A ban outlives the origin.
await demo.ban(ROOM, 'bob');
for (const reader of readers) await until('the ban', () => reader.seen.bans.includes('bob'));
await survives('killed', 'kill-origin', 'start-origin');
bob.seen.notices.length = 0;
await bob.say(ROOM, 'let me in');
await until('bob is still banned', () => noticed(bob, 'msg_banned'));
await demo.unban(ROOM, 'bob');
await bob.say(ROOM, 'thank you');
await until('bob is back', () => readers.every((reader) => heard(reader, 'thank you')));
await demo.clear(ROOM);
for (const reader of readers) await until('the clear', () => reader.seen.cleared > 0);

// A token that was not signed here.
const stranger = new tmi.Client({
  options: { skipUpdatingEmotesets: true },
  connection: { server: '127.0.0.1', port: ports[0], secure: false, reconnect: false },
  logger: { info() {}, warn() {}, error() {}, setLevel() {} },
  identity: { username: 'ann', password: `oauth:${token('ann').slice(0, -2)}aa` },
});
const refused = await stranger.connect().then(() => 'let in', (error) => error);
if (!/authentication failed/i.test(refused)) fail(`a forged token: ${refused}`);

writeFileSync(`${dir}/done`, '');
console.log('ok');
process.exit(0);
