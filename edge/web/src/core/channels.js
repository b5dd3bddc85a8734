// The channel list of `GET /api/v1/channels` made safe to show. Whatever is
// missing or of the wrong type is left out; a channel without a valid name is
// dropped, since there would be nothing to link to, and so is one that has
// ended, which a server lists for as long as its last playlist is on show.

import { BADGES } from './words.js';

const NAME = /^[a-z0-9_]{1,32}$/;

export function isChannelName(name) {
  return typeof name === 'string' && NAME.test(name);
}

export function channelOfPath(pathname) {
  const match = /^\/watch\/([a-z0-9_]{1,32})$/.exec(pathname);
  return match ? match[1] : null;
}

const numberOr = (value, otherwise) =>
  typeof value === 'number' && Number.isFinite(value) ? value : otherwise;

export function readChannels(body) {
  const list = Array.isArray(body?.channels) ? body.channels : [];
  return list
    .filter((channel) => isChannelName(channel?.name) && channel.state !== 'ended')
    .map((channel) => ({
      name: channel.name,
      title: typeof channel.title === 'string' ? channel.title : '',
      away: channel.state === 'lost',
      liveSinceMs: numberOr(channel.live_since_ms, null),
      viewers: numberOr(channel.viewers, null),
      tracks: (Array.isArray(channel.tracks) ? channel.tracks : []).filter(
        (track) => track !== null && typeof track === 'object',
      ),
    }))
    .sort((a, b) => (b.viewers ?? 0) - (a.viewers ?? 0) || a.name.localeCompare(b.name));
}

// How many are on the air, of which the list has a page: `shown` is what
// readChannels made of it.
export function countOf(body, shown) {
  const listed = Array.isArray(body?.channels) ? body.channels.length : 0;
  return shown.length + Math.max(0, numberOr(body?.total, listed) - listed);
}

// One that starts is as good as live: its page waits for the first picture.
export function badge({ away }) {
  return away ? BADGES.interrupted : BADGES.live;
}

// The best picture of a channel, or null where it carries only sound.
export function bestVideo(channel) {
  const videos = channel.tracks.filter((track) => track.kind === 'video');
  if (videos.length === 0) return null;
  return videos.reduce((best, track) =>
    numberOr(track.height, 0) > numberOr(best.height, 0) ? track : best,
  );
}

export function isAudioOnly(channel) {
  return channel.tracks.length > 0 && channel.tracks.every((track) => track.kind === 'audio');
}
