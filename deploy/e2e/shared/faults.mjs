// An edge's answers with one fault in them, to see that `loadtest check` finds it.
//
//   node faults.mjs list                 a line each: NAME hls|dash RULE[,RULE]...
//   node faults.mjs PORT http://EDGE     /NAME/live/... is the edge's /live/... with that fault
//
// Everything that no fault touches is the edge's own, bytes and times; what is under
// no fault's name is passed on. Faults keep what they remember per track.

import http from 'node:http';
import { gzipSync } from 'node:zlib';

// --- Text ---

// Each line of a media playlist with the number of its segment.
function lines(text, edit) {
  let msn = Number(/^#EXT-X-MEDIA-SEQUENCE:(\d+)/m.exec(text)?.[1] ?? 0);
  return text
    .split('\n')
    .map((line) => {
      const edited = edit(line, msn);
      if (line !== '' && !line.startsWith('#')) msn += 1;
      return edited;
    })
    .filter((line) => line !== null)
    .join('\n');
}
const without = (start) => (text) => lines(text, (line) => (line.startsWith(start) ? null : line));
const later = (of, ms) => Date.now() - (of.state.began ??= Date.now()) > ms;

function shiftDates(text, offset) {
  return lines(text, (line, msn) => {
    const date = /^#EXT-X-PROGRAM-DATE-TIME:(.*)$/.exec(line)?.[1];
    if (date === undefined) return line;
    return `#EXT-X-PROGRAM-DATE-TIME:${new Date(Date.parse(date) + offset(msn)).toISOString()}`;
  });
}

// A delta update that leaves out all but two segments.
function skipped(text) {
  const all = [...text.matchAll(/^#EXTINF:.*\n[^#].*\n/gm)];
  const last = all.at(-3);
  const from = text.search(/^#EXT-X-(MAP|PROGRAM-DATE-TIME|DISCONTINUITY$)/m);
  const to = last.index + last[0].length;
  return `${text.slice(0, from)}#EXT-X-SKIP:SKIPPED-SEGMENTS=${all.length - 2}\n${text.slice(to)}`;
}

// --- Boxes ---

// Where boxes of that name have their name; what is inside of mdat may look like one.
function* boxes(bytes, name, start = 0, end = bytes.length) {
  const inside = new Set(['moof', 'traf', 'moov', 'mvex', 'trak']);
  for (let at = start; at + 8 <= end; ) {
    const size = bytes.readUInt32BE(at);
    const is = bytes.toString('latin1', at + 4, at + 8);
    if (size < 8) return;
    if (is === name) yield at + 4;
    if (inside.has(is)) yield* boxes(bytes, name, at + 8, at + size);
    at += size;
  }
}
function each(bytes, name, change) {
  for (const at of boxes(bytes, name)) change(at);
  return bytes;
}
// A box put first into another, and all around it made larger.
function insert(bytes, into, box) {
  const [at] = boxes(bytes, into);
  const grown = new Set([...boxes(bytes, 'moov'), at]);
  for (const grows of grown) bytes.writeUInt32BE(bytes.readUInt32BE(grows - 4) + box.length, grows - 4);
  return Buffer.concat([bytes.subarray(0, at + 4), box, bytes.subarray(at + 4)]);
}
function box(name, body) {
  const out = Buffer.alloc(8 + body.length);
  out.writeUInt32BE(out.length, 0);
  out.write(name, 4, 'latin1');
  body.copy(out, 8);
  return out;
}
const flipLast = (bytes) => {
  bytes[bytes.length - 1] ^= 1;
  return bytes;
};

// --- Faults ---

// `media`: a media playlist's text. `multivariant`, `manifest`: theirs. `init`, `part`,
// `segment`, `bytes` (both): media as a whole. `stream`: a chunk (moof and mdat) of it
// while it is sent. `ask`: another path to ask for, or false for the answer `gone`.
// `head`: status and headers. `slow`: how many ms before the first byte, `trickle`:
// before the second half, `hold`: nothing before all.
const hls = {
  'target-duration': { rules: 'H1,H9,T3', media: (t) => t.replace(/(TARGETDURATION:)\d+/, '$11') },
  extinf: { rules: 'H1,H11', media: (t) => t.replace(/#EXTINF:([\d.]+)/g, (_, s) => `#EXTINF:${(Number(s) + 0.2).toFixed(5)}`) },
  'too-little-media': { rules: 'H2', media: (t) => t.replace(/PART-HOLD-BACK=[\d.]+/, 'PART-HOLD-BACK=300') },
  'long-parts': { rules: 'H4', media: (t) => t.replace(/PART-TARGET=([\d.]+)/, (_, s) => `PART-TARGET=${(s * 0.8).toFixed(5)}`) },
  'short-parts': { rules: 'H4', media: (t) => t.replace(/PART-TARGET=([\d.]+)/, (_, s) => `PART-TARGET=${(s * 1.3).toFixed(5)}`).replace(/PART-HOLD-BACK=([\d.]+)/, (_, s) => `PART-HOLD-BACK=${(s * 1.3).toFixed(3)}`) },
  'no-independent': { rules: 'H5', media: (t) => t.replaceAll(',INDEPENDENT=YES', '') },
  'part-hold-back': { rules: 'H6', media: (t) => t.replace(/PART-HOLD-BACK=[\d.]+/, 'PART-HOLD-BACK=0.7') },
  'hold-back': { rules: 'H7', media: (t) => t.replace(/([:,])HOLD-BACK=[\d.]+/, '$1HOLD-BACK=1.5') },
  'control-changes': { rules: 'H7', media: (t, of) => (later(of, 4000) ? t.replace(/([:,])HOLD-BACK=([\d.]+)/, (_, c, s) => `${c}HOLD-BACK=${Number(s) + 1}`) : t) },
  'part-target-changes': { rules: 'H8', media: (t, of) => (later(of, 4000) ? t.replace(/PART-TARGET=([\d.]+)/, (_, s) => `PART-TARGET=${(Number(s) + 0.001).toFixed(5)}`) : t) },
  'old-parts-gone': {
    rules: 'H9',
    media: (t, of) => {
      const listed = new Set([...t.matchAll(/^#EXT-X-PART:.*URI="([^"]*)"/gm)].map((found) => found[1]));
      if (!t.includes('#EXT-X-SKIP')) {
        for (const uri of of.state.listed ?? []) if (!listed.has(uri)) (of.state.gone ??= new Set()).add(uri);
        of.state.listed = listed;
      }
      return t;
    },
    ask: (of) => ![...(of.state.gone ?? [])].some((uri) => of.path.endsWith(uri)),
  },
  'no-discontinuity-sequence': { rules: 'H10', media: without('#EXT-X-DISCONTINUITY-SEQUENCE') },
  'renamed-segments': { rules: 'H10', media: (t, of) => (later(of, 4000) ? t.replace(/^([^#].*\.m4s)$/gm, '$1?again') : t) },
  'dates-jitter': { rules: 'H11', media: (t) => shiftDates(t, (msn) => (msn % 2) * 7) },
  'dates-apart': { rules: 'H11', media: (t, of) => (of.track === 'a0' ? shiftDates(t, () => 50) : t) },
  'no-hint': { rules: 'H12', media: without('#EXT-X-PRELOAD-HINT') },
  'wrong-hint': { rules: 'H12', media: (t) => t.replace(/(PRELOAD-HINT:.*\d+\.)(\d+)(\.m4s")/, (_, a, n, b) => a + (Number(n) + 1) + b) },
  'no-reports': { rules: 'H13', media: without('#EXT-X-RENDITION-REPORT') },
  'old-reports': { rules: 'H13', media: (t) => t.replace(/LAST-MSN=(\d+)/g, (_, n) => `LAST-MSN=${n - 3}`) },
  'old-version': { rules: 'H14', media: (t) => t.replace(/(EXT-X-VERSION:)\d+/, '$17') },
  event: { rules: 'H14', media: (t) => t.replace('#EXT-X-PART-INF', '#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-PART-INF') },
  'no-resolution': { rules: 'H15', multivariant: (t) => t.replace(/RESOLUTION=\d+x\d+,?/g, '') },
  redirects: { rules: 'H15,T5', head: (head, of) => of.kind === 'segment' && Object.assign(head, { status: 302, location: '/' }) },
  'early-reload': {
    rules: 'R1',
    media: (t, of) => {
      if (!of.query.includes('_HLS_part')) return t;
      const before = of.state.before ?? t;
      of.state.before = t;
      return before;
    },
  },
  'part-without-number': { rules: 'R2', ask: (of) => (of.query.includes('_HLS_part') && !of.query.includes('_HLS_msn') ? of.path : true) },
  'any-number': { rules: 'R2', ask: (of) => (/_HLS_msn=(x|-1)/.test(of.query) || of.query.includes('_HLS_part=-') ? of.path : true) },
  'far-ahead': { rules: 'R3', head: (head, of) => head.status === 400 && /_HLS_msn=\d+$/.test(of.query) && Object.assign(head, { status: 503 }) },
  'long-delta': { rules: 'R5', ask: (of) => (of.query.includes('_HLS_skip') ? of.path : true), media: (t, of) => (of.query.includes('_HLS_skip') ? skipped(t) : t) },
  'other-delta': { rules: 'R5', media: (t, of) => (of.query.includes('_HLS_skip') ? t.replace(/^([^#].*\.m4s)$/gm, '$1?again') : t) },
  trickle: { rules: 'R6', trickle: (of) => (of.hinted ? 500 : 0) },
  'hint-bytes': { rules: 'R6', part: (bytes, of) => (of.hinted ? flipLast(bytes) : bytes) },
  'future-part': { rules: 'R6', head: (head, of) => of.kind === 'part' && head.status === 404 && Object.assign(head, { status: 200 }) },
  'not-gzipped': { rules: 'T2', plain: true },
  'no-store': { rules: 'T3', head: (head, of) => of.kind === 'part' && Object.assign(head, { 'cache-control': 'no-store' }) },
  'plain-text': { rules: 'T4', head: (head, of) => of.kind === 'segment' && Object.assign(head, { 'content-type': 'text/plain' }) },
  'no-cors': { rules: 'T5', head: (head, of) => of.kind === 'part' && delete head['access-control-allow-origin'] },
  'no-range': { rules: 'T5', ranges: false },
  mehd: { rules: 'C1', init: (bytes) => insert(bytes, 'mvex', box('mehd', Buffer.alloc(8))) },
  'edit-list': { rules: 'C5', init: (bytes) => insert(bytes, 'trak', box('edts', box('elst', Buffer.alloc(8)))) },
  'base-is-not-moof': { rules: 'C2', bytes: (bytes) => each(bytes, 'tfhd', (at) => (bytes[at + 5] &= ~2)) },
  'tfdt-jumps': {
    rules: 'C3',
    bytes: (bytes) => {
      // The same chunk of a part and of its segment, by what both say of their time.
      return each(bytes, 'tfdt', (at) => {
        const time = bytes.readBigUInt64BE(at + 8);
        if (time % 7n === 0n) bytes.writeBigUInt64BE(time + 1n, at + 8);
      });
    },
  },
  'other-bytes': { rules: 'C4', segment: flipLast },
  codecs: { rules: 'C6', multivariant: (t) => t.replace(/avc1\.[0-9a-f]{6}/gi, 'avc1.640020') },
};

const dash = {
  profile: { rules: 'D1', manifest: (t) => t.replace('low-latency-live-v5', 'live-v5') },
  'no-speeds': { rules: 'D2', manifest: (t) => t.replace(/<PlaybackRate[^>]*>/, '') },
  latency: { rules: 'D2', manifest: (t) => t.replace(/(<Latency[^>]*target=")\d+/, '$19000') },
  'no-clock': { rules: 'D3,D4', manifest: (t) => t.replace(/<UTCTiming[^>]*>\s*<\/MPD>/, '</MPD>') },
  'start-moves': { rules: 'D3', manifest: (t, of) => (later(of, 3000) ? t.replace(/(availabilityStartTime="[^".Z]*)[^"]*"/, '$1.001Z"') : t) },
  'no-reference': { rules: 'D4', manifest: (t) => t.replace(/<ProducerReferenceTime[\s\S]*?<\/ProducerReferenceTime>/g, '') },
  'reference-off': { rules: 'D4', manifest: (t) => t.replace(/(wallClockTime=")([^"]*)/g, (_, a, date) => a + new Date(Date.parse(date) + 400).toISOString()) },
  complete: { rules: 'D5', manifest: (t) => t.replaceAll(' availabilityTimeComplete="false"', '') },
  'no-offset': { rules: 'D5', manifest: (t) => t.replace(/availabilityTimeOffset="[\d.]*"/g, 'availabilityTimeOffset="0"') },
  'no-resync': { rules: 'D6', manifest: (t) => t.replace(/<Resync[^>]*>/g, '') },
  'in-one-piece': { rules: 'D7', hold: (of) => of.kind === 'segment' },
  'late-byte': { rules: 'D7', slow: (of) => (of.kind === 'segment' ? 1200 : 0) },
  numbers: { rules: 'D7,D8', manifest: (t) => t.replace(/startNumber="(\d+)"/g, (_, n) => `startNumber="${n - 1}"`) },
  'media-time': { rules: 'D8', stream: (bytes) => each(bytes, 'tfdt', (at) => bytes.writeBigUInt64BE(bytes.readBigUInt64BE(at + 8) + 9_000n, at + 8)) },
  'manifest-not-gzipped': { rules: 'T2', plain: true },
  'manifest-as-text': { rules: 'T4', head: (head, of) => of.kind === 'manifest' && Object.assign(head, { 'content-type': 'text/xml' }) },
  'manifest-without-cors': { rules: 'T5', head: (head, of) => of.kind === 'manifest' && delete head['access-control-allow-origin'] },
};
const faults = { 'none-hls': { rules: '' }, 'none-dash': { rules: '' }, ...hls, ...dash };
const kindOf = (name) => (name in dash || name === 'none-dash' ? 'dash' : 'hls');

if (process.argv[2] === 'list') {
  for (const [name, fault] of Object.entries(faults)) console.log(name, kindOf(name), fault.rules);
  process.exit(0);
}

// --- The server ---

const port = Number(process.argv[2]);
const edge = new URL(process.argv[3]);
const agent = new http.Agent({ keepAlive: true, maxSockets: Infinity });
const states = new Map();

function described(target) {
  const [path, query = ''] = target.split('?');
  const file = path.split('/').at(-1);
  const track = /\/([av]\d+)(?:\.m3u8|\/)/.exec(path)?.[1] ?? '';
  let kind = 'other';
  if (file === 'index.m3u8') kind = 'multivariant';
  else if (file.endsWith('.m3u8')) kind = 'media';
  else if (file.endsWith('.mpd')) kind = 'manifest';
  else if (file.startsWith('init')) kind = 'init';
  else if (/^\d+\.\d+\.m4s$/.test(file)) kind = 'part';
  else if (/^\d+\.m4s$/.test(file)) kind = 'segment';
  return { path, query, kind, track };
}

// Hands over whole chunks, each up to the end of an mdat.
function chunks(edit, send) {
  let held = Buffer.alloc(0);
  return (data) => {
    held = Buffer.concat([held, data]);
    let at = 0;
    let end = 0;
    while (at + 8 <= held.length) {
      const size = held.readUInt32BE(at);
      if (size < 8 || at + size > held.length) break;
      at += size;
      if (held.toString('latin1', at - size + 4, at - size + 8) === 'mdat') end = at;
    }
    if (end > 0) send(edit(Buffer.from(held.subarray(0, end))));
    held = held.subarray(end);
  };
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function whole(answer) {
  const pieces = [];
  for await (const piece of answer) pieces.push(piece);
  return Buffer.concat(pieces);
}

function upstream(path, headers) {
  return new Promise((done, failed) => {
    const asked = http.request({ host: edge.hostname, port: edge.port, path, headers, agent }, done);
    asked.on('error', failed);
    asked.end();
  });
}

async function serve(request, response) {
  const name = request.url.split('/')[1];
  const fault = faults[name];
  const target = fault ? request.url.slice(name.length + 1) : request.url;
  const of = { ...described(target), hinted: false };
  const key = `${name} ${of.track}`;
  if (!states.has(key)) states.set(key, {});
  of.state = states.get(key);
  of.hinted = of.kind === 'part' && of.state.hint !== undefined && of.path.endsWith(of.state.hint);
  let path = target;
  const ask = fault?.ask?.(of) ?? true;
  if (typeof ask === 'string') path = ask;
  const headers = { host: edge.host };
  if (request.headers.range && fault?.ranges !== false) headers.range = request.headers.range;
  const answer = await upstream(ask === false ? '/live/gone' : path, headers);
  const head = { status: answer.statusCode };
  for (const name of ['content-type', 'cache-control', 'access-control-allow-origin', 'content-range', 'content-encoding']) {
    if (answer.headers[name] !== undefined) head[name] = answer.headers[name];
  }
  const known = answer.statusCode === 200;
  fault?.head?.(head, of);
  const { status, ...rest } = head;
  const slow = fault?.slow?.(of) ?? 0;
  if (slow > 0) await pause(slow);
  if (known && of.kind === 'segment' && !fault?.segment && !fault?.bytes && !fault?.hold?.(of)) {
    response.writeHead(status, rest);
    const send = fault?.stream ? chunks(fault.stream, (data) => response.write(data)) : (data) => response.write(data);
    for await (const data of answer) send(data);
    response.end();
    return;
  }
  let body = await whole(answer);
  if (known) {
    const edit = fault?.[of.kind] ?? (['part', 'segment'].includes(of.kind) ? (fault?.bytes ?? fault?.stream) : undefined);
    if (['media', 'multivariant', 'manifest'].includes(of.kind)) {
      let text = body.toString();
      if (edit) text = edit(text, of);
      if (of.kind === 'media') of.state.hint = /PRELOAD-HINT:TYPE=PART,URI="([^"]*)"/.exec(text)?.[1];
      body = Buffer.from(text);
      if (!fault?.plain && /gzip/.test(request.headers['accept-encoding'] ?? '')) {
        body = gzipSync(body);
        rest['content-encoding'] = 'gzip';
      }
    } else if (edit) {
      body = edit(body, of);
    }
  }
  rest['content-length'] = body.length;
  response.writeHead(status, rest);
  const trickle = fault?.trickle?.(of) ?? 0;
  if (trickle > 0) {
    response.write(body.subarray(0, body.length / 2));
    await pause(trickle);
    response.end(body.subarray(body.length / 2));
  } else {
    response.end(body);
  }
}

http
  .createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
    serve(request, response).catch(() => response.destroy());
  })
  .listen(port, '127.0.0.1');
