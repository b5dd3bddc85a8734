// Places to publish to, as /ingests tells of them, and what a streamer copies from
// the page. Pure. What a server says is checked before any of it is shown or copied.

const MAX_INGESTS = 256;
const KEY = '/{stream_key}';
// As an origin's flags take it: nothing that a shell or OBS could misread.
const SERVER = /^rtmps?:\/\/[A-Za-z0-9.:[\]-]+\/live$/;
const STATES = ['available', 'full', 'draining', 'unavailable'];

// Where a key belongs and none is typed yet.
export const NO_KEY = 'YOUR_STREAM_KEY';

const isNumber = (value) => typeof value === 'number' && Number.isFinite(value);

function server(template, scheme) {
  if (typeof template !== 'string' || !template.endsWith(KEY)) return null;
  const url = template.slice(0, -KEY.length);
  return url.startsWith(`${scheme}://`) && SERVER.test(url) ? url : null;
}

// The list in the server's order; entries that make no sense are left out.
export function readIngests(body) {
  const told = Array.isArray(body?.ingests) ? body.ingests.slice(0, MAX_INGESTS) : [];
  const seen = new Set();
  return told.flatMap((entry) => {
    const plain = server(entry?.url_template, 'rtmp');
    if (plain === null || typeof entry.name !== 'string' || seen.has(plain)) return [];
    seen.add(plain);
    return [{
      name: entry.name.slice(0, 128),
      plain,
      secure: server(entry.url_template_secure, 'rtmps'),
      distanceKm: isNumber(entry.distance_km) && entry.distance_km >= 0 ? entry.distance_km : null,
      load: isNumber(entry.load) ? Math.min(Math.max(entry.load, 0), 1) : 0,
      state: STATES.includes(entry.state) ? entry.state : 'unavailable',
    }];
  });
}

// As exact as it is of use to a person.
export function distanceWords(km) {
  if (!isNumber(km)) return '';
  if (km < 25) return 'close by';
  const step = km < 200 ? 10 : km < 1000 ? 50 : 100;
  return `about ${(Math.round(km / step) * step).toLocaleString('en')} km away`;
}

export function stateWords({ state, load }) {
  if (state === 'full') return 'full';
  if (state === 'draining') return 'going down soon';
  if (state === 'unavailable') return 'out of reach';
  if (load < 0.6) return 'plenty of room';
  return load < 0.9 ? 'busy' : 'nearly full';
}

// The one to choose for who has not chosen: the first that takes publishers.
export function suggested(ingests) {
  return ingests.find(({ state }) => state === 'available') ?? ingests[0] ?? null;
}

// About 10 km: near enough for a list, and nobody's address.
export function placeQuery({ latitude, longitude }) {
  const round = (degrees) => degrees.toFixed(1);
  return `?lat=${round(latitude)}&lon=${round(longitude)}`;
}

export function serverOf(ingest, secure) {
  return secure && ingest.secure !== null ? ingest.secure : ingest.plain;
}

// What a person typed or pasted: keys have no spaces in them.
export const keyOf = (typed) => typed.replace(/\s+/g, '');

// One word for a POSIX shell, whatever is in it.
export function shellWord(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

export function ffmpegCommand(url, key) {
  const target = shellWord(`${url}/${key || NO_KEY}`);
  return `ffmpeg -re -i film.mp4 -c:v libx264 -preset veryfast -b:v 3M -maxrate 3M -bufsize 3M -g 60 -c:a aac -b:a 160k -f flv ${target}`;
}

export const masked = (key) => '\u2022'.repeat(Math.min(key.length, 24));
