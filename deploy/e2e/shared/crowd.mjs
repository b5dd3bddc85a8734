// Many peers of one edge's HTTP port, none of them a viewer.
//
//   node crowd.mjs idle PORT COUNT FILE    one request each, then silence until FILE is there
//   node crowd.mjs queries PORT COUNT PATH requests that differ in a made-up parameter
//   node crowd.mjs slow PORT COUNT PATH FILE   ask for PATH and read what came every 8 s until FILE is there
//   node crowd.mjs flood PORT COUNT        connections at once, each with one request
//
// Prints what they got: a line `STATUS COUNT` for each status, 0 for none, and
// `peak N` where connections are held, when all of them are.

import { existsSync } from 'node:fs';
import { connect } from 'node:net';

const [mode, port, count, ...rest] = process.argv.slice(2);
const statuses = new Map();
const saw = (status) => statuses.set(status, (statuses.get(status) ?? 0) + 1);
const request = (path) => `GET ${path} HTTP/1.1\r\nHost: edge\r\n\r\n`;
const statusOf = (text) => Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0);

// Addresses of their own, as many strangers have; one is allowed 2,048.
const open = (i) => connect({ port: Number(port), host: '127.0.0.1', localAddress: `127.1.0.${1 + (i % 200)}` });

function until(file) {
  return new Promise((resolve) => {
    const timer = setInterval(() => {
      if (!existsSync(file)) return;
      clearInterval(timer);
      resolve();
    }, 100);
  });
}

// One connection: sends its request, and resolves with the status of the answer
// or 0 where the connection ended without one. It stays open.
function ask(i, path, read = () => {}) {
  return new Promise((resolve) => {
    const socket = open(i);
    let text = '';
    socket.on('connect', () => socket.write(request(path)));
    socket.on('data', (data) => {
      if (text.length < 16) {
        text += data.subarray(0, 16).toString('latin1');
        if (text.length >= 12) resolve(statusOf(text));
      }
      read(socket);
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(statusOf(text)));
  });
}

async function all(make) {
  const number = Number(count);
  for (let from = 0; from < number; from += 250) {
    const some = Array.from({ length: Math.min(250, number - from) }, (_, i) => make(from + i));
    for (const status of await Promise.all(some)) saw(status);
  }
  process.stdout.write(`peak ${number}\n`);
}

// Pipelined on a few connections; what comes back is counted by its status lines.
function queries(path) {
  const each = Math.ceil(Number(count) / 4);
  const work = Array.from({ length: 4 }, (_, i) => new Promise((resolve, reject) => {
    const socket = open(i);
    let sent = 0;
    let got = 0;
    let tail = '';
    const more = () => {
      const batch = [];
      for (let k = 0; k < 200 && sent < each; k++, sent++) batch.push(request(`${path}?q${i}${sent}=${Math.random()}&_HLS_x=${sent}`));
      if (batch.length > 0) socket.write(batch.join(''));
    };
    socket.on('connect', more);
    socket.on('data', (data) => {
      const text = tail + data.toString('latin1');
      let end = 0;
      for (const match of text.matchAll(/HTTP\/1\.1 (\d{3}) /g)) {
        saw(Number(match[1]));
        got += 1;
        end = match.index + match[0].length;
      }
      tail = text.slice(Math.max(end, text.length - 12));
      if (got >= each) {
        socket.destroy();
        resolve();
      } else if (got === sent) more();
    });
    socket.on('error', reject);
    socket.on('close', () => (got >= each ? resolve() : reject(new Error(`ended after ${got}`))));
  }));
  return Promise.all(work);
}

switch (mode) {
  case 'idle':
    await all((i) => ask(i, '/api/v1/channels'));
    await until(rest[0]);
    break;
  case 'flood':
    for (const status of await Promise.all(Array.from({ length: Number(count) }, (_, i) => ask(i, '/api/v1/channels')))) saw(status);
    break;
  case 'slow':
    await all((i) => ask(i, rest[0], (socket) => {
      socket.pause();
      setTimeout(() => socket.resume(), 8000);
    }));
    await until(rest[1]);
    break;
  case 'queries':
    await queries(rest[0]);
    break;
  default:
    process.stderr.write('crowd.mjs: idle, queries, slow or flood\n');
    process.exit(2);
}
for (const [status, number] of [...statuses].sort()) process.stdout.write(`${status} ${number}\n`);
process.exit(0);
