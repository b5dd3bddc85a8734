// Numbers into words. Every function takes what a server or a player may have
// left out and then answers with a dash, never with "NaN" or "undefined".

export const DASH = '\u2013';

const isNumber = (value) => typeof value === 'number' && Number.isFinite(value);

export function seconds(value, digits = 2) {
  return isNumber(value) ? `${value.toFixed(digits)} s` : DASH;
}

export function bitrate(bitsPerSecond) {
  if (!isNumber(bitsPerSecond) || bitsPerSecond <= 0) return DASH;
  if (bitsPerSecond < 1e6) return `${Math.round(bitsPerSecond / 1e3)} kbit/s`;
  return `${(bitsPerSecond / 1e6).toFixed(1)} Mbit/s`;
}

// A level of hls.js, or a track of the channel list, in a few words.
export function rendition(level) {
  if (!level) return DASH;
  const parts = [];
  if (isNumber(level.height) && level.height > 0) parts.push(`${level.height}p`);
  if (isNumber(level.frameRate) && level.frameRate > 0) parts.push(`${Math.round(level.frameRate)} fps`);
  const rate = bitrate(level.bitrate ?? level.bandwidth);
  if (rate !== DASH) parts.push(rate);
  return parts.length > 0 ? parts.join(', ') : DASH;
}

export function duration(ms) {
  if (!isNumber(ms) || ms < 0) return DASH;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 1) return 'less than a minute';
  if (minutes < 60) return minutes === 1 ? '1 minute' : `${minutes} minutes`;
  const hours = Math.floor(minutes / 60);
  const rest = minutes % 60;
  return rest === 0 ? `${hours} h` : `${hours} h ${rest} min`;
}

export function viewers(count) {
  if (!isNumber(count) || count < 0) return '';
  return count === 1 ? '1 viewer' : `${Math.floor(count).toLocaleString('en')} viewers`;
}

export function frames(dropped, total) {
  if (!isNumber(dropped)) return DASH;
  return isNumber(total) && total > 0 ? `${dropped} / ${total}` : String(dropped);
}
