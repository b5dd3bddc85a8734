// The colour of a name, readable on a light and on a dark ground. In: what the
// user chose, or nothing, and the login. Out: for each ground the colour nearest
// to the choice that has a contrast of at least 4.5 to it (WCAG 2).

export const CONTRAST = 4.5;
// The darkest light ground and the lightest dark one that a line may lie on.
export const LIGHT_GROUND = '#dcebe9';
export const DARK_GROUND = '#1f373a';

const PALETTE = ['#b5472b', '#17696f', '#7a4fbf', '#2f7d3b', '#b3408a', '#2f6fb3', '#8a6a12', '#c2364f', '#4a6fa5', '#5a7d1f', '#a2522d', '#3d8f86'];
const STEP = 0.02;

function rgb(hex) {
  const value = parseInt(hex.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255].map((byte) => byte / 255);
}

const hex = (parts) => `#${parts.map((part) => Math.round(part * 255).toString(16).padStart(2, '0')).join('')}`;

function luminance(colour) {
  const [r, g, b] = rgb(colour).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

export function contrast(one, other) {
  const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

// Mixes with black or white until it can be read; both ends always can.
function readable(colour, ground, end) {
  const from = rgb(colour);
  const to = rgb(end);
  for (let share = 0; share < 1; share += STEP) {
    const mixed = hex(from.map((part, i) => part + share * (to[i] - part)));
    if (contrast(mixed, ground) >= CONTRAST) return mixed;
  }
  return end;
}

function hash(text) {
  let sum = 5381;
  for (let i = 0; i < text.length; i++) sum = (sum * 33 + text.charCodeAt(i)) >>> 0;
  return sum;
}

// { light, dark }
export function nameColours(chosen, login) {
  const colour = /^#[0-9a-f]{6}$/i.test(chosen ?? '') ? chosen : PALETTE[hash(login) % PALETTE.length];
  return { light: readable(colour, LIGHT_GROUND, '#000000'), dark: readable(colour, DARK_GROUND, '#ffffff') };
}
