// The streamer's page: asks for the places to publish to every so often, and makes
// lines to copy of the chosen one and of a key that never leaves this page. Where the
// browser is, is asked only on a click.

import { backoffMs } from './core/backoff.js';
import { NO_KEY, distanceWords, ffmpegCommand, keyOf, masked, placeQuery, readIngests, serverOf, stateWords, suggested } from './core/ingests.js';

const REFRESH_MS = 15_000;
const REQUEST_MS = 10_000;
const COPIED_MS = 2000;

const byId = (id) => document.getElementById(id);
const rows = new Map();
let ingests = [];
// The address that a person chose; null for whatever is best.
let chosen = null;
let query = '';
let failures = 0;
let timer = 0;

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function element(tag, className) {
  const node = document.createElement(tag);
  node.className = className;
  return node;
}

const selected = () => ingests.find(({ plain }) => plain === chosen) ?? suggested(ingests);
const key = () => keyOf(byId('key').value);
const isShown = () => byId('show').getAttribute('aria-pressed') === 'true';

function makeRow(ingest) {
  const row = element('label', 'ingest');
  const input = document.createElement('input');
  input.type = 'radio';
  input.name = 'ingest';
  input.addEventListener('change', () => {
    chosen = ingest.plain;
    showLines();
  });
  const name = element('span', 'ingest-name');
  const distance = element('span', 'ingest-distance');
  const state = element('span', 'ingest-state');
  row.append(input, name, distance, state);
  return { row, input, name, distance, state };
}

// Patched in place, so that neither the focus nor a half-made click is lost.
function showList() {
  const now = new Set(ingests.map(({ plain }) => plain));
  for (const [plain, { row }] of rows) {
    if (now.has(plain)) continue;
    row.remove();
    rows.delete(plain);
  }
  const list = byId('ingests');
  const held = document.activeElement;
  ingests.forEach((ingest, at) => {
    let parts = rows.get(ingest.plain);
    if (!parts) {
      parts = makeRow(ingest);
      rows.set(ingest.plain, parts);
    }
    put(parts.name, ingest.name);
    put(parts.distance, distanceWords(ingest.distanceKm));
    put(parts.state, stateWords(ingest));
    parts.row.dataset.state = ingest.state;
    if (list.children[at] !== parts.row) list.insertBefore(parts.row, list.children[at] ?? null);
  });
  // A row that was moved has lost it.
  if (held !== document.activeElement && list.contains(held)) held.focus();
}

// Lines break between its words and not at their hyphens.
function showCommand(text) {
  const code = byId('command');
  if (code.textContent === text) return;
  const words = text.split(' ').flatMap((word) => {
    const part = element('span', 'word');
    part.textContent = word;
    return [' ', part];
  });
  code.replaceChildren(...words.slice(1));
}

function showLines() {
  const ingest = selected();
  byId('steps').hidden = ingest === null;
  if (ingest === null) return;
  for (const [plain, { input }] of rows) input.checked = plain === ingest.plain;
  byId('secure-row').hidden = ingest.secure === null;
  const server = serverOf(ingest, byId('secure').checked);
  const shown = isShown() ? key() : masked(key());
  put(byId('server'), server);
  put(byId('obs-key'), shown || NO_KEY);
  showCommand(ffmpegCommand(server, isShown() ? key() : '').replace(NO_KEY, () => shown || NO_KEY));
  byId('copy-key').disabled = key() === '';
}

function show(list) {
  ingests = list;
  const open = list.filter(({ state }) => state === 'available').length;
  const known = list.some(({ distanceKm }) => distanceKm !== null);
  put(
    byId('lead'),
    list.length === 0
      ? 'This server knows no place to stream to. Ask whoever runs it where to send your stream.'
      : open === 0
        ? 'No place takes new streams right now. The page keeps looking.'
        : known
          ? 'Pick a place to stream to; the nearest comes first. Then copy the settings into your encoder.'
          : 'Pick a place to stream to, then copy the settings into your encoder.',
  );
  byId('locate').hidden = !('geolocation' in navigator) || !window.isSecureContext || list.length < 2;
  showList();
  showLines();
}

async function refresh() {
  clearTimeout(timer);
  const asked = query;
  try {
    const response = await fetch(`/ingests${asked}`, { cache: 'no-store', signal: AbortSignal.timeout(REQUEST_MS) });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const list = readIngests(await response.json());
    // Another answer is on its way by now.
    if (asked !== query) return;
    show(list);
    failures = 0;
  } catch {
    put(byId('lead'), 'The server does not answer. The page keeps trying.');
    failures += 1;
  }
  clearTimeout(timer);
  timer = setTimeout(refresh, failures > 0 ? backoffMs(failures, Math.random()) : REFRESH_MS);
}

function locate() {
  put(byId('located'), 'Asking your browser\u2026');
  navigator.geolocation.getCurrentPosition(
    ({ coords }) => {
      query = placeQuery(coords);
      put(byId('located'), 'Sorted by your position, rounded to about 10 km.');
      refresh();
    },
    () => put(byId('located'), 'Your browser did not tell where you are; the order stays as it is.'),
    { timeout: REQUEST_MS, maximumAge: 3_600_000 },
  );
}

// Without TLS browsers have no clipboard interface.
async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = element('textarea', 'unseen');
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand('copy');
  area.remove();
  if (!copied) throw new Error('not copied');
}

function copies(id, text, what) {
  const button = byId(id);
  const label = button.firstChild;
  let back = 0;
  button.addEventListener('click', async () => {
    let said = `${what} copied`;
    try {
      await copyText(text());
      button.dataset.copied = 'true';
      label.textContent = 'Copied';
    } catch {
      said = 'The browser did not let the page copy: select the text instead';
    }
    button.focus();
    put(byId('said'), '');
    put(byId('said'), said);
    clearTimeout(back);
    back = setTimeout(() => {
      delete button.dataset.copied;
      label.textContent = 'Copy';
    }, COPIED_MS);
  });
}

const serverNow = () => serverOf(selected(), byId('secure').checked);
copies('copy-server', serverNow, 'Server');
copies('copy-key', key, 'Stream key');
copies('copy-command', () => ffmpegCommand(serverNow(), key()), 'Command');
byId('key').addEventListener('input', showLines);
byId('secure').addEventListener('change', showLines);
byId('locate').addEventListener('click', locate);
byId('show').addEventListener('click', () => {
  const shown = !isShown();
  byId('show').setAttribute('aria-pressed', String(shown));
  put(byId('show'), shown ? 'Hide' : 'Show');
  byId('key').classList.toggle('secret', !shown);
  showLines();
});
// A page that comes back from the browser's cache comes back without the key.
window.addEventListener('pagehide', () => {
  byId('key').value = '';
  showLines();
});
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible') refresh();
});
refresh();
