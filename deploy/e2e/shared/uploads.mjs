// A server for what ffmpeg uploads (PUT) while it makes it: whoever asks for a file
// that is still coming gets what there is and then the rest as it comes, as an origin
// of low-latency DASH does.
//
//   node uploads.mjs PORT

import http from 'node:http';
import { gzipSync } from 'node:zlib';

// { pieces, done, readers } by path.
const files = new Map();

const types = [
  [/\.m3u8$/, 'application/vnd.apple.mpegurl'],
  [/\.mpd$/, 'application/dash+xml'],
  [/\.(mp4|m4s)$/, 'video/mp4'],
];
const typeOf = (path) => types.find(([ending]) => ending.test(path))?.[1] ?? 'application/octet-stream';

function take(path, request, response) {
  const file = { pieces: [], done: false, readers: new Set() };
  // A list is one version or the next, never half of one.
  const whole = /\.(m3u8|mpd)$/.test(path);
  if (!whole) files.set(path, file);
  request.on('data', (piece) => {
    file.pieces.push(piece);
    for (const reader of file.readers) reader.write(piece);
  });
  request.on('end', () => {
    file.done = true;
    if (whole) files.set(path, file);
    for (const reader of file.readers) reader.end();
    response.writeHead(201).end();
  });
}

function give(path, request, response) {
  const headers = { 'access-control-allow-origin': '*' };
  if (path === '/time') {
    response.writeHead(200, headers).end(new Date().toISOString());
    return;
  }
  const file = files.get(path);
  if (!file || (!file.done && file.pieces.length === 0)) {
    response.writeHead(404, { ...headers, 'cache-control': 'max-age=1' }).end();
    return;
  }
  headers['content-type'] = typeOf(path);
  const text = /\.(m3u8|mpd)$/.test(path);
  headers['cache-control'] = text ? 'max-age=1' : 'max-age=31536000, immutable';
  if (!file.done) {
    response.writeHead(200, headers);
    for (const piece of file.pieces) response.write(piece);
    file.readers.add(response);
    response.on('close', () => file.readers.delete(response));
    return;
  }
  let body = Buffer.concat(file.pieces);
  let status = 200;
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  if (text && /gzip/.test(request.headers['accept-encoding'] ?? '')) {
    body = gzipSync(body);
    headers['content-encoding'] = 'gzip';
  } else if (range) {
    const last = range[2] === '' ? body.length - 1 : Number(range[2]);
    headers['content-range'] = `bytes ${range[1]}-${last}/${body.length}`;
    body = body.subarray(Number(range[1]), last + 1);
    status = 206;
  }
  headers['content-length'] = body.length;
  response.writeHead(status, headers).end(body);
}

http
  .createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
    const path = request.url.split('?')[0];
    if (request.method === 'PUT') take(path, request, response);
    else if (request.method === 'DELETE') {
      files.delete(path);
      response.writeHead(204).end();
    } else give(path, request, response);
  })
  .listen(Number(process.argv[2]), '127.0.0.1');
