// IRC lines as an edge's chat speaks them (RFC 1459, IRCv3 message tags), one a
// frame and without an end. In: a line. Out: its parts, or null for what is no
// line. Tags are a Map, so that no name of a tag means anything to JavaScript.

// The server's lines are shorter: 8 KiB of tags and 2 KiB of text.
export const MAX_LINE_CHARS = 16_384;

const UNESCAPED = { ':': ';', s: ' ', '\\': '\\', r: '\r', n: '\n' };
const ESCAPED = { ';': '\\:', ' ': '\\s', '\\': '\\\\', '\r': '\\r', '\n': '\\n' };
const COMMAND = /^(?:[A-Za-z]+|\d{3})$/;

const unescape = (value) => value.replace(/\\(.?)/gs, (_match, c) => UNESCAPED[c] ?? c);
const escape = (value) => value.replace(/[; \\\r\n]/g, (c) => ESCAPED[c]);

function readTags(text) {
  const tags = new Map();
  for (const pair of text.split(';')) {
    if (pair === '') continue;
    const at = pair.indexOf('=');
    if (at < 0) tags.set(pair, '');
    else tags.set(pair.slice(0, at), unescape(pair.slice(at + 1)));
  }
  return tags;
}

// { tags, source, nick, command, params }
export function parseLine(text) {
  if (typeof text !== 'string' || text.length > MAX_LINE_CHARS) return null;
  let rest = text.replace(/[\r\n]+$/, '');
  const word = () => {
    const at = rest.indexOf(' ');
    const taken = at < 0 ? rest : rest.slice(0, at);
    rest = at < 0 ? '' : rest.slice(at).replace(/^ +/, '');
    return taken;
  };
  const tags = rest.startsWith('@') ? readTags(word().slice(1)) : new Map();
  const source = rest.startsWith(':') ? word().slice(1) : '';
  const command = word();
  if (!COMMAND.test(command)) return null;
  const params = [];
  while (rest !== '') {
    if (rest.startsWith(':')) {
      params.push(rest.slice(1));
      break;
    }
    params.push(word());
  }
  return { tags, source, nick: source.split('!', 1)[0], command: command.toUpperCase(), params };
}

// A line to send. The last parameter may hold anything but an end of line, which
// becomes a space; `tags` is an object.
export function writeLine(command, params = [], tags = {}) {
  const pairs = Object.entries(tags).map(([key, value]) => (value === '' ? key : `${key}=${escape(String(value))}`));
  const words = [command, ...params.slice(0, -1)];
  if (params.length > 0) words.push(`:${params.at(-1)}`);
  const line = words.join(' ').replace(/[\r\n\0]+/g, ' ');
  return pairs.length > 0 ? `@${pairs.join(';')} ${line}` : line;
}
