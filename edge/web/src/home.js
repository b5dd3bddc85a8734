// The list of live channels: asked for every few seconds, and patched in place
// so that neither the focus nor a half-made click is lost.

import { badge, bestVideo, countOf, isAudioOnly, readChannels } from './core/channels.js';
import { duration, rendition, viewers, DASH } from './core/format.js';
import { backoffMs } from './core/backoff.js';

const REFRESH_MS = 4000;
const list = document.getElementById('channels');
const lead = document.getElementById('lead');
const cards = new Map();
let failures = 0;

function element(tag, className, text) {
  const node = document.createElement(tag);
  node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function makeCard(name) {
  const item = element('li', 'card');
  const link = element('a', 'card-link');
  link.href = `/watch/${name}`;
  const chip = element('span', 'chip');
  const title = element('span', 'card-name', name);
  const picture = element('span', 'card-picture');
  const meta = element('span', 'card-meta');
  link.append(chip, title, picture, meta);
  item.append(link);
  return { item, chip, picture, meta };
}

function pictureOf(channel) {
  const video = bestVideo(channel);
  if (video) return rendition(video);
  return isAudioOnly(channel) ? 'Sound only' : '';
}

function metaOf(channel) {
  const parts = channel.title === '' ? [] : [channel.title];
  if (channel.viewers !== null) parts.push(viewers(channel.viewers));
  if (channel.liveSinceMs !== null) parts.push(`live for ${duration(Date.now() - channel.liveSinceMs)}`);
  return parts.join(' \u00b7 ');
}

function show(channels, count) {
  const names = new Set(channels.map(({ name }) => name));
  for (const [name, { item }] of cards) {
    if (names.has(name)) continue;
    item.remove();
    cards.delete(name);
  }
  channels.forEach((channel, i) => {
    let card = cards.get(channel.name);
    if (!card) {
      card = makeCard(channel.name);
      cards.set(channel.name, card);
    }
    put(card.chip, badge(channel));
    const picture = pictureOf(channel);
    put(card.picture, picture === DASH ? '' : picture);
    put(card.meta, metaOf(channel));
    if (list.children[i] !== card.item) list.insertBefore(card.item, list.children[i] ?? null);
  });
  list.hidden = channels.length === 0;
  document.body.dataset.empty = String(channels.length === 0);
  put(
    lead,
    count === 0
      ? 'Nobody is live right now. Channels appear here as soon as they start.'
      : count === 1
        ? 'One channel is on the air.'
        : count > channels.length
          ? `${count} channels are on the air; these are the most watched.`
          : `${count} channels are on the air.`,
  );
}

async function refresh() {
  try {
    const response = await fetch('/api/v1/channels', { cache: 'no-store', signal: AbortSignal.timeout(10_000) });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const body = await response.json();
    const channels = readChannels(body);
    show(channels, countOf(body, channels));
    failures = 0;
  } catch {
    put(lead, 'The server does not answer. The page keeps trying.');
    failures += 1;
  }
  setTimeout(refresh, failures > 0 ? backoffMs(failures, Math.random()) : REFRESH_MS);
}

refresh();
