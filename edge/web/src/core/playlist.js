// The little the page itself reads out of a playlist; hls.js reads the rest.

// The URI of the first media playlist a multivariant playlist names: a
// variant's, or a rendition's where every variant is only audio.
export function firstMediaUri(text) {
  const lines = text.split(/\r?\n/);
  for (let i = 0; i < lines.length; i++) {
    if (!lines[i].startsWith('#EXT-X-STREAM-INF')) continue;
    const uri = lines.slice(i + 1).find((line) => line !== '' && !line.startsWith('#'));
    if (uri) return uri.trim();
  }
  const rendition = /#EXT-X-MEDIA:.*\bURI="([^"]+)"/.exec(text);
  return rendition ? rendition[1] : null;
}

export function isPlaylist(text) {
  return text.startsWith('#EXTM3U');
}

export function isEnded(text) {
  return /^#EXT-X-ENDLIST\s*$/m.test(text);
}

// Whether a refreshed playlist can no longer be joined to the one before it:
// the source must then be loaded afresh. That is so for a new broadcast, whose
// sequence numbers jump forward, for an origin that restarted with an empty
// index, and for a page that slept for longer than the window.
export function isDisjoint(before, after) {
  if (!before) return false;
  return (
    after.startSN > before.endSN + 1 ||
    after.endSN < before.startSN ||
    after.targetduration !== before.targetduration
  );
}
