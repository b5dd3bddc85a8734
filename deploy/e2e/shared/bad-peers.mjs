// Bad RTMP peers, one after another, then some at once.
//
//   node bad-peers.mjs PORT
//
// Prints a line for each: its name, its own port, and how many milliseconds after
// its last byte the server closed it. Those that the server has to lose patience
// with come last, together.

import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';

const port = Number(process.argv[2]);

// C0, C1 and, without waiting for the answer, C2: a valid start for the peers
// that go wrong later.
const greeting = () => Buffer.concat([Buffer.from([3]), Buffer.alloc(8), randomBytes(1528), Buffer.alloc(8), randomBytes(1528)]);
// A message header of type 0 on chunk stream 2 or another.
const header = (stream, length, type) => Buffer.from([stream, 0, 0, 0, length >> 16, (length >> 8) & 255, length & 255, type, 0, 0, 0, 0]);

const peers = {
  garbage: () => Buffer.concat([Buffer.from('GET / HTTP/1.1\r\n\r\n'), randomBytes(4000)]),
  'chunk-garbage': () => Buffer.concat([greeting(), Buffer.alloc(4000, 0xc3)]),
  'oversized-chunk-size': () => Buffer.concat([greeting(), header(2, 4, 1), Buffer.from([0x7f, 0xff, 0xff, 0xff])]),
  'zero-chunk-size': () => Buffer.concat([greeting(), header(2, 4, 1), Buffer.alloc(4)]),
  'huge-message': () => Buffer.concat([greeting(), header(3, 0xffffff, 9), randomBytes(128)]),
  'amf-nest': () => {
    const body = Buffer.concat([Buffer.from([2, 0, 7]), Buffer.from('connect'), Buffer.from([0, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]), Buffer.alloc(104, Buffer.from([3, 0, 1, 97]))]);
    return Buffer.concat([greeting(), header(3, body.length, 20), body]);
  },
};
const quitters = {
  'truncated-handshake': () => Buffer.concat([Buffer.from([3]), randomBytes(100)]),
  'truncated-command': () => Buffer.concat([greeting(), header(3, 100, 20), randomBytes(20)]),
};
const silent = {
  'half-open': () => Buffer.from([3]),
  'half-open-after-handshake': greeting,
};

function meet(name, bytes, leaves) {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: false });
    let sentMs = 0;
    let own = 0;
    socket.on('connect', () => {
      own = socket.localPort;
      socket.write(bytes, () => {
        sentMs = Date.now();
        if (leaves) socket.end();
      });
    });
    socket.resume();
    socket.on('error', () => {});
    socket.on('close', () => {
      process.stdout.write(`${name} ${own} ${Date.now() - sentMs}\n`);
      resolve();
    });
  });
}

for (const [name, make] of Object.entries(peers)) await meet(name, make(), false);
for (const [name, make] of Object.entries(quitters)) await meet(name, make(), true);
await Promise.all(Array.from({ length: 6 }, (_, i) => Object.entries(silent)[i % 2]).map(([name, make]) => meet(name, make(), false)));
