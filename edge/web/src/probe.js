// Asks whether a channel can be played, without a player. A multivariant
// playlist alone does not tell: an ended broadcast keeps its own for a while,
// so the first media playlist is read as well.

import { firstMediaUri, isEnded, isPlaylist } from './core/playlist.js';

const TIMEOUT_MS = 20_000;

async function get(url) {
  const response = await fetch(url, { cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS) });
  return { status: response.status, text: response.ok ? await response.text() : '', url };
}

function outcomeOf(status) {
  if (status === 403) return 'forbidden';
  return status === 404 || status === 410 ? 'absent' : 'unavailable';
}

// 'live', 'ended', 'absent' (404), 'forbidden' (403), 'unavailable' (503 and the like) or
// 'unreachable' (no answer).
export async function probe(url) {
  try {
    const top = await get(url);
    if (top.status !== 200) return outcomeOf(top.status);
    if (!isPlaylist(top.text)) return 'unavailable';
    const uri = firstMediaUri(top.text);
    if (uri === null) return isEnded(top.text) ? 'ended' : 'live';
    const media = await get(new URL(uri, new URL(url, location.href)).href);
    if (media.status !== 200) return outcomeOf(media.status);
    if (!isPlaylist(media.text)) return 'unavailable';
    return isEnded(media.text) ? 'ended' : 'live';
  } catch {
    return 'unreachable';
  }
}
