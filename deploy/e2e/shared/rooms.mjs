// People in one room on two edges, by IRC over TCP: they talk while the origin that
// decides there is killed, others while the next one drains, and every reader's view
// is compared. The script that starts this does the killing: it is told by lines on
// standard output and answers by files.
//
//   node rooms.mjs IRC-PORT-1 IRC-PORT-2 DIRECTORY

import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const [, , port1, port2, dir] = process.argv;
const ports = [Number(port1), Number(port2)];
const ROOM = '#demo';
const PATIENCE_MS = 15_000;
// A lost node's rooms decide again within this.
const MOVED_MS = 5_000;
const SPEAKERS = 8;
// Below what one person may say in 30 s.
const TURNS = 18;
const PACE_MS = 400;
const KILL_AT_TURN = 6;
// While the next owner drains.
const LATER_SPEAKERS = 4;
const LATER_TURNS = 16;

function fail(why) {
  console.error(`rooms.mjs: ${why}`);
  process.exit(1);
}

async function until(what, condition, patience = PATIENCE_MS) {
  const end = Date.now() + patience;
  while (!condition()) {
    if (Date.now() > end) fail(`not in time: ${what}`);
    await sleep(5);
  }
}

/** Asks the script for something, and waits until it is done. */
async function ask(what) {
  console.log(what);
  await until(what, () => existsSync(`${dir}/${what}`));
}

/** A client, all that was said to it, and what of its own was acknowledged. */
async function client(nick, edge) {
  const socket = connect(ports[edge], '127.0.0.1');
  socket.setEncoding('utf8').setNoDelay(true);
  const made = { nick, said: [], acknowledged: [], notices: [], cleared: [], joined: false };
  const send = (line) => socket.write(`${line}\r\n`);
  let held = '';
  socket.on('data', (text) => {
    const lines = (held + text).split('\r\n');
    held = lines.pop();
    for (const line of lines) heard(line);
  });
  socket.on('error', (error) => fail(`${nick}: ${error.message}`));
  socket.on('close', () => made.done || fail(`${nick} was closed: ${held}`));
  const heard = (line) => {
    const [, tags = '', rest] = /^(?:@(\S+) )?(.*)$/.exec(line);
    const tag = (name) => tags.split(';').find((pair) => pair.startsWith(`${name}=`))?.slice(name.length + 1);
    const words = rest.split(' ');
    const command = words[0].startsWith(':') ? words[1] : words[0];
    const text = rest.includes(' :') ? rest.slice(rest.indexOf(' :') + 2) : '';
    if (command === 'PRIVMSG') made.said.push({ id: tag('id'), from: words[0].slice(1).split('!')[0], text });
    if (command === 'USERSTATE' && tag('id')) made.acknowledged.push({ id: tag('id'), at: Date.now() });
    if (command === 'NOTICE') made.notices.push({ id: tag('msg-id'), text });
    if (command === 'CLEARCHAT') made.cleared.push(text);
    if (command === 'ROOMSTATE') made.joined = true;
    if (command === 'PING') send(`PONG :${text}`);
  };
  send('CAP REQ :twitch.tv/tags twitch.tv/commands');
  send(`NICK ${nick}`);
  send(`JOIN ${ROOM}`);
  await until(`${nick} in the room`, () => made.joined);
  return Object.assign(made, {
    say: (text) => send(`PRIVMSG ${ROOM} :${text}`),
    leave: () => { made.done = true; socket.end(); },
  });
}

/**
 * People talk, and in mid-traffic the script does `what` to the room's owner. All that
 * they say is acknowledged, and is at every reader, once, in one order.
 */
async function goesOn(what, speakers, turns) {
  const traffic = speakers.map(async (speaker, n) => {
    await sleep((n * PACE_MS) / speakers.length);
    for (let turn = 0; turn < turns; turn += 1) {
      speaker.say(`${n}.${turn}`);
      await sleep(PACE_MS);
    }
  });
  await sleep(KILL_AT_TURN * PACE_MS);
  await ask(what);
  const goneAt = Date.now();
  await Promise.all(traffic);
  for (const speaker of speakers) {
    await until(`${speaker.nick}: an answer to everything`, () => speaker.acknowledged.length + speaker.notices.length >= turns);
  }

  const refused = speakers.flatMap((speaker) => speaker.notices);
  if (refused.length > 0) fail(`refused: ${JSON.stringify(refused[0])}`);
  const acknowledged = speakers.flatMap((speaker) => speaker.acknowledged.map(({ id }) => id));
  if (new Set(acknowledged).size !== speakers.length * turns) fail('an answer came twice');
  const nicks = speakers.map(({ nick }) => nick);
  const heard = (reader) => reader.said.filter(({ from }) => nicks.includes(from));
  for (const reader of readers) {
    await until('all that was acknowledged', () => heard(reader).length >= acknowledged.length);
    const ids = new Set(heard(reader).map(({ id }) => id));
    const lost = acknowledged.filter((id) => !ids.has(id));
    if (lost.length > 0) fail(`${lost.length} acknowledged messages were lost`);
    if (ids.size !== heard(reader).length) fail('a message came twice');
  }
  const [one, other] = readers.map((reader) => reader.said.map(({ id }) => id).join());
  if (one !== other) fail('the edges disagree on the order');
  for (const nick of nicks) {
    const own = readers[0].said.filter(({ from }) => from === nick).map(({ text }) => Number(text.split('.')[1]));
    if (own.join() !== Array.from({ length: turns }, (_, turn) => turn).join()) fail(`${nick} out of order: ${own}`);
  }
  console.log(`ok: ${what}: ${acknowledged.length} messages, each once and in one order at both edges`);

  // By edge: the longest that it acknowledged nothing.
  for (const edge of [0, 1]) {
    const times = speakers.filter((_, n) => n % 2 === edge).flatMap((speaker) => speaker.acknowledged.map(({ at }) => at));
    times.sort((a, b) => a - b);
    const next = times.find((at) => at > goneAt + 500);
    const gap = Math.max(...times.slice(1).map((at, n) => at - times[n]));
    console.log(`ok: ${what}: edge ${edge + 1} went on after ${next - goneAt} ms, silent for ${gap} ms at most`);
    if (gap > MOVED_MS) fail(`edge ${edge + 1} acknowledged nothing for ${gap} ms`);
  }
}

/** Forgets what moderation said so far, so that it can be waited for again. */
function forget(...whose) {
  for (const one of whose) Object.assign(one, { notices: [], cleared: [] });
}

/** A ban that is in force whoever owns the room, until it is lifted. */
async function ban() {
  demo.say('/ban eve');
  for (const reader of readers) await until('the ban', () => reader.cleared.includes('eve'));
}

async function banHeld(thanks) {
  eve.say('still here?');
  await until('the ban is remembered', () => eve.notices.some(({ id }) => id === 'msg_banned'));
  demo.say('/unban eve');
  await until('the ban is lifted', () => demo.notices.some(({ id }) => id === 'unban_success'));
  eve.say(thanks);
  await until('eve is heard', () => readers.every((reader) => reader.said.some(({ text }) => text === thanks)));
  forget(demo, eve, ...readers);
}

// The first edge's first parent is asked for the room before any other.
const readers = [await client('justinfan1', 0), await client('justinfan2', 1)];
const demo = await client('demo', 0);
const eve = await client('eve', 1);
await ban();
const speakers = [];
for (let n = 0; n < SPEAKERS; n += 1) speakers.push(await client(`speaker_${n}`, n % 2));
await goesOn('kill-owner', speakers, TURNS);
// The ban outlived its owner, whichever edge is asked; so does moderation.
await banHeld('thanks');
await ask('start-owner');
const late = await client('late', 0);
late.say('good evening');
await until('late is heard', () => readers.every((reader) => reader.said.some(({ text }) => text === 'good evening')));

// The other way round, and in peace.
await ban();
const others = [];
for (let n = 0; n < LATER_SPEAKERS; n += 1) others.push(await client(`other_${n}`, n % 2));
await goesOn('drain-owner', others, LATER_TURNS);
await banHeld('thanks again');
for (const one of [...readers, ...speakers, ...others, demo, eve, late]) one.leave();
console.log('ok: bans and unbans outlive their owner, which is welcome back');
