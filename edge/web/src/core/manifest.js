// The little that fast mode reads out of a manifest of our own: which tracks
// there are, when media time zero was, and whether it is over. It is no parser
// of manifests; whatever is missing makes null of all of it.

const attribute = (tag, name) => new RegExp(`\\s${name}="([^"]*)"`).exec(tag)?.[1] ?? null;

function seconds(text) {
  const match = /^PT(\d+(?:\.\d+)?)S$/.exec(text ?? '');
  return match ? Number(match[1]) : null;
}

// { ended, zeroMs, tracks: [{ id, kind, type }] } of the newest period. `zeroMs`
// is the Unix time of media time zero, `type` what a SourceBuffer is made with.
export function readManifest(text) {
  const root = /<MPD\s[^>]*>/.exec(text)?.[0];
  const period = text.slice(text.lastIndexOf('<Period'));
  const startS = seconds(attribute(period.slice(0, period.indexOf('>')), 'start'));
  if (!root || startS === null) return null;
  const tracks = [];
  let zeroMs = null;
  for (const set of period.split('<AdaptationSet').slice(1)) {
    const kind = attribute(set.slice(0, set.indexOf('>')), 'contentType');
    const representation = /<Representation\s[^>]*>/.exec(set)?.[0] ?? '';
    const template = /<SegmentTemplate\s[^>]*>/.exec(set)?.[0] ?? '';
    const id = attribute(representation, 'id');
    const codecs = attribute(representation, 'codecs');
    const timescale = Number(attribute(template, 'timescale'));
    const offset = Number(attribute(template, 'presentationTimeOffset'));
    if (!kind || !id || !codecs || !(timescale > 0) || !(offset >= 0)) return null;
    // One track of a kind: the first is the publisher's own.
    if (tracks.some((track) => track.kind === kind)) continue;
    tracks.push({ id, kind, type: `${kind}/mp4; codecs="${codecs}"` });
    zeroMs ??= (startS - offset / timescale) * 1000;
  }
  if (tracks.length === 0) return null;
  return { ended: attribute(root, 'mediaPresentationDuration') !== null, zeroMs, tracks };
}
