// People in one room over IRC, as the watch page reads it (core/chat-session.js):
// each comes back when its edge sends it away, and catches up. Says what became of
// every line that was said.
//
//   node rolling.mjs ROOM DIRECTORY PORT...
//
// Readers and speakers are dealt out to the ports. Touch DIRECTORY/enough to end;
// the last line of standard output is the verdict in JSON.

import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { ChatSession } from '../../../edge/web/src/core/chat-session.js';

const [, , room, dir, ...ports] = process.argv;
const READERS_A_PORT = 3;
const SPEAKERS_A_PORT = 2;
// Below what one person may say in 30 s.
const PACE_MS = 2000;
const PATIENCE_MS = 8000;
const LOOK_MS = 3000;

/** One who reads, and may speak. */
class Person {
  read = [];
  seen = new Set();
  gaps = 0;
  connections = 0;
  unsent = [];
  #port;
  #socket = null;
  #over = false;

  constructor(port, login) {
    this.#port = Number(port);
    this.session = new ChatSession(room, login === null ? null : { login, display: login });
    this.dispatch({ type: 'start' });
    this.timer = setInterval(() => this.dispatch({ type: 'tick' }), 250);
  }

  dispatch(event) {
    if (this.#over) return;
    for (const action of this.session.on(event, performance.now())) this.#act(action);
  }

  #act(action) {
    switch (action.do) {
      case 'connect': setTimeout(() => this.#connect(), action.afterMs); break;
      case 'disconnect': this.#disconnect(); break;
      case 'send': this.#socket?.write(`${action.line}\r\n`); break;
      // A catch-up begins before what was last heard, and what came meanwhile is told
      // after it: the page's log, too, goes by ids.
      case 'message': this.#hear(action.message); break;
      case 'history': for (const message of action.messages) this.#hear(message); break;
      case 'gap': this.gaps += 1; break;
      case 'unsent': this.unsent.push(action.text); break;
      default:
    }
  }

  #hear(message) {
    if (this.seen.has(message.id)) return;
    this.seen.add(message.id);
    this.read.push(message.text);
  }

  #connect() {
    if (this.#over) return;
    this.dispatch({ type: 'connecting' });
    const socket = connect(this.#port, '127.0.0.1');
    this.#socket = socket;
    socket.setEncoding('utf8').setNoDelay(true);
    let held = '';
    const own = (event) => this.#socket === socket && this.dispatch(event);
    socket.on('connect', () => { this.connections += 1; own({ type: 'open' }); });
    socket.on('data', (text) => {
      const lines = (held + text).split('\r\n');
      held = lines.pop();
      for (const line of lines) own({ type: 'line', text: line });
    });
    socket.on('error', () => {});
    socket.on('close', () => own({ type: 'closed' }));
  }

  #disconnect() {
    const socket = this.#socket;
    this.#socket = null;
    socket?.destroy();
  }

  leave() {
    this.#over = true;
    clearInterval(this.timer);
    this.#disconnect();
  }
}

async function until(condition, patience = PATIENCE_MS) {
  const end = Date.now() + patience;
  while (!condition()) {
    if (Date.now() > end) return false;
    await sleep(20);
  }
  return true;
}

const people = ports.flatMap((port, at) => [
  ...Array.from({ length: READERS_A_PORT }, () => new Person(port, null)),
  ...Array.from({ length: SPEAKERS_A_PORT }, (_, n) => new Person(port, `speaker_${at}_${n}`)),
]);
const speakers = people.filter((person) => person.session.signedIn);
if (!(await until(() => people.every((person) => person.session.state === 'live')))) {
  console.error('rolling.mjs: not everybody is in the room');
  process.exit(1);
}
console.log('talking');

// A line that an edge's end kept from being sent is said again, as a person would
// who has looked whether it is not there after all.
const said = [];
let saidAgain = 0;
await Promise.all(speakers.map(async (speaker, n) => {
  await sleep((n * PACE_MS) / speakers.length);
  for (let turn = 0; !existsSync(`${dir}/enough`); turn += 1) {
    const text = `${n}.${turn}`;
    said.push(text);
    speaker.dispatch({ type: 'say', text });
    await sleep(PACE_MS);
    for (const again of speaker.unsent.splice(0)) {
      await until(() => speaker.session.state === 'live');
      if (await until(() => speaker.read.includes(again), LOOK_MS)) continue;
      saidAgain += 1;
      speaker.dispatch({ type: 'say', text: again });
    }
  }
}));
await until(() => speakers.every((speaker) => speaker.unsent.length === 0 && speaker.session.state === 'live'));
await until(() => people.every((person) => said.every((text) => person.read.includes(text))));

const order = people[0].read.filter((text) => said.includes(text)).join();
const verdict = {
  people: people.length,
  said: said.length,
  saidAgain,
  lost: people.reduce((sum, { read }) => sum + said.filter((text) => !read.includes(text)).length, 0),
  // Decided twice under two ids.
  repeated: people.reduce((sum, { read }) => sum + read.length - new Set(read).size, 0),
  orders: new Set(people.map(({ read }) => read.filter((text) => said.includes(text)).join())).size,
  gaps: people.reduce((sum, { gaps }) => sum + gaps, 0),
  connections: people.reduce((sum, { connections }) => sum + connections, 0),
};
for (const person of people) person.leave();
console.log(JSON.stringify(verdict));
process.exit(verdict.lost === 0 && order !== '' ? 0 : 1);
