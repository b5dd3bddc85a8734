// What the page says about the state of a channel, in one place so that the
// overlay, the badge and the live region never disagree.

const WORDS = {
  starting: {
    waiting: ['Getting ready', 'The picture will start in a moment.'],
    server: ['Getting ready', 'The server is waiting for this channel. The page keeps asking.'],
    network: ['No answer from the server', 'Check your connection. The page keeps trying.'],
  },
  live: { default: ['Live', ''], sound: ['Sound only', 'This channel has no picture.'] },
  interrupted: {
    publisher: ['Interrupted', 'The publisher is reconnecting. The picture comes back by itself.'],
    server: ['Interrupted', 'The server lost its source. The picture comes back by itself.'],
    network: ['Connection lost', 'No answer from the server. The page keeps trying.'],
    player: ['One moment', 'The player is starting over.'],
    past: ['Back to live', 'That moment is not kept any more.'],
  },
  offline: {
    default: ['Offline', 'This channel is not live. Leave the page open: it starts by itself.'],
    network: ['No answer from the server', 'Check your connection. The page keeps trying.'],
    forbidden: ['Not for this link', 'The link to this page has expired or is for another channel. Ask for a new one.'],
  },
  ended: {
    default: ['The broadcast has ended', 'Leave the page open: the next one starts by itself.'],
    network: ['The broadcast has ended', 'The server does not answer now. The page keeps trying.'],
  },
};

export const BADGES = {
  starting: 'Starting',
  live: 'Live',
  interrupted: 'Interrupted',
  offline: 'Offline',
  ended: 'Ended',
};

// What plays, for the strip of figures.
export function modeWords({ mode, native, unfit }) {
  if (mode === 'fast') return 'Fast';
  return unfit ? 'LL-HLS (slow network)' : native ? 'HLS' : 'LL-HLS';
}

export function words(state, reason) {
  const choices = WORDS[state];
  const [title, detail] = choices[reason] ?? choices.default ?? Object.values(choices)[0];
  return { title, detail };
}
