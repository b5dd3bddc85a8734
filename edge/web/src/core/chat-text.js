// A message's text, cut into pieces to show: words, emotes, mentions, links.
// Nothing here is HTML: a piece is a kind and a text, and the page makes nodes of
// it. Positions are counted in code points, as Twitch's `emotes` tag does.

// A message has at most 500 characters.
export const MAX_PIECES = 250;
const MAX_EMOTES = 1000;
const MAX_NAME_CHARS = 64;
const MAX_EMOJI_CHARS = 16;
const MAX_URL_CHARS = 512;
const LINK = /^https?:\/\/[^\s/?#]+\S*$/i;

// The set of `GET /api/v1/chat`, by name: { image } or { emoji }. What is
// malformed is left out.
export function readEmotes(body) {
  const set = new Map();
  const given = body?.emotes;
  if (given === null || typeof given !== 'object') return set;
  for (const [name, value] of Object.entries(given).slice(0, MAX_EMOTES)) {
    if (typeof value !== 'string' || name === '' || name.length > MAX_NAME_CHARS || /\s/.test(name)) continue;
    const isImage = /^https:\/\/[^\s]+$/.test(value) || /^\/[^/\s][^\s]*$/.test(value);
    if (isImage && value.length <= MAX_URL_CHARS) set.set(name, { name, image: value });
    else if (!isImage && value !== '' && value.length <= MAX_EMOJI_CHARS) set.set(name, { name, emoji: value });
  }
  return set;
}

// `id:from-to,from-to/id:from-to`, as stretches in order; whatever overlaps, lies
// outside or names nothing we know is text.
function tagged(tag, points, set) {
  const found = [];
  for (const one of tag.split('/')) {
    const at = one.lastIndexOf(':');
    if (at < 0) continue;
    for (const range of one.slice(at + 1).split(',')) {
      const match = /^(\d{1,4})-(\d{1,4})$/.exec(range);
      if (!match) continue;
      const [from, to] = [Number(match[1]), Number(match[2]) + 1];
      if (from >= to || to > points.length) continue;
      const emote = set.get(one.slice(0, at)) ?? set.get(points.slice(from, to).join(''));
      if (emote) found.push({ from, to, emote });
    }
  }
  found.sort((a, b) => a.from - b.from);
  let end = 0;
  return found.filter(({ from, to }) => {
    const free = from >= end;
    if (free) end = to;
    return free;
  });
}

// Where the server marked no emotes, whole words that are names of the set.
function byWord(points, set) {
  const found = [];
  for (let from = 0; from < points.length; from++) {
    if (points[from] === ' ') continue;
    let to = from;
    while (to < points.length && points[to] !== ' ') to++;
    const emote = set.get(points.slice(from, to).join(''));
    if (emote) found.push({ from, to, emote });
    from = to;
  }
  return found;
}

function isMention(word, login) {
  if (login === null) return false;
  const name = /^@?([A-Za-z0-9_]{1,25})[.,:;!?)]*$/.exec(word)?.[1];
  return name !== undefined && name.toLowerCase() === login;
}

function words(text, login, pieces) {
  for (const word of text.split(/( +)/)) {
    if (word === '') continue;
    const last = pieces.at(-1);
    if (isMention(word, login)) pieces.push({ kind: 'mention', text: word });
    else if (LINK.test(word)) pieces.push({ kind: 'link', text: word });
    else if (last?.kind === 'text') last.text += word;
    else pieces.push({ kind: 'text', text: word });
  }
}

// [{ kind: 'text' | 'mention' | 'link' | 'emote', text, emote? }]. `login` is the
// reader's own, or null. Beyond MAX_PIECES the rest is one piece of text.
export function pieces(text, { tag = '', set = new Map(), login = null } = {}) {
  const points = [...text];
  const stretches = set.size === 0 ? [] : tag === '' ? byWord(points, set) : tagged(tag, points, set);
  const cut = [];
  let at = 0;
  for (const { from, to, emote } of stretches) {
    words(points.slice(at, from).join(''), login, cut);
    cut.push({ kind: 'emote', text: points.slice(from, to).join(''), emote });
    at = to;
  }
  words(points.slice(at).join(''), login, cut);
  if (cut.length <= MAX_PIECES) return cut;
  const rest = cut.slice(MAX_PIECES - 1).map((piece) => piece.text).join('');
  return [...cut.slice(0, MAX_PIECES - 1), { kind: 'text', text: rest }];
}

export const mentions = (cut) => cut.some(({ kind }) => kind === 'mention');
