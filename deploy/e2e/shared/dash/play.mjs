// Plays manifests with dash.js and Shaka in a real Chromium, all at once, and
// prints what each showed.
//
//   node play.mjs SECONDS PLAYER=URL...      PLAYER is dashjs or shaka
//
// SECONDS count from the moment at which every player has shown a frame, which
// must come within 20 s. One line of JSON: for each, in the order given, the
// first frame after the opening, latency (programme time to presentation, of all
// and of the last frames) and gaps between frames from two seconds after the
// first on.

import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const require = createRequire(join(here, '../../../../edge/web/package.json'));
const { chromium } = require('playwright-core');
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const ARGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--mute-audio',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
  '--autoplay-policy=no-user-gesture-required',
];
const FIRST_FRAME_MS = 20_000;
const SETTLE_MS = 2000;
const TYPES = { '.html': 'text/html', '.js': 'text/javascript' };

const [seconds, ...wanted] = process.argv.slice(2);
const plays = wanted.map((one) => ({ player: one.split('=')[0], url: one.slice(one.indexOf('=') + 1) }));
if (!(Number(seconds) > 0) || plays.length === 0) {
  process.stderr.write('usage: play.mjs SECONDS PLAYER=URL...\n');
  process.exit(2);
}
if (!existsSync(CHROMIUM)) {
  process.stderr.write(`play.mjs: ${CHROMIUM} is missing: apt-get install chromium, or set CHROMIUM\n`);
  process.exit(2);
}

// The page comes from another origin than the media: CORS is part of the test.
const server = createServer(async ({ url }, response) => {
  const path = normalize(new URL(url, 'http://x').pathname);
  const file = path === '/page.html' ? join(here, path) : join(here, 'node_modules', path);
  try {
    const body = await readFile(file);
    response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream' }).end(body);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const base = `http://127.0.0.1:${server.address().port}/page.html`;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const round = (value) => Math.round(value * 1000) / 1000;

function quantile(values, q) {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return round(sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]);
}

function summarise({ player, url, opened, statuses }, { frames, errors, rates, version, latency }) {
  const steady = frames.filter(([at]) => at > frames[0][0] + SETTLE_MS);
  const gaps = steady.slice(1).map(([at], i) => at - steady[i][0]);
  const latencies = steady.map(([at, media]) => (at - media) / 1000);
  return {
    player,
    channel: url.split('/').at(-2),
    version,
    first_frame_ms: frames.length > 0 ? Math.round(frames[0][0] - opened) : null,
    frames: frames.length,
    latency_p50: quantile(latencies, 0.5),
    latency_p99: quantile(latencies, 0.99),
    latency_last: quantile(latencies.slice(-30), 0.5),
    own_latency: latency === null ? null : round(latency),
    longest_gap_ms: Math.round(Math.max(0, ...gaps)),
    stalls: gaps.filter((ms) => ms >= 500).length,
    rates: [Math.min(...rates), Math.max(...rates)].map(round),
    errors,
    statuses,
  };
}

const browser = await chromium.launch({ executablePath: CHROMIUM, args: ARGS });
let out = [];
try {
  const pages = await Promise.all(plays.map(async (play) => {
    // A window each: a page in the background would be throttled.
    const page = await (await browser.newContext()).newPage();
    const statuses = {};
    page.on('response', (response) => {
      const status = response.status();
      if (status >= 400) statuses[status] = (statuses[status] ?? 0) + 1;
    });
    await page.goto(`${base}?player=${play.player}&url=${encodeURIComponent(play.url)}`);
    return { ...play, page, opened: Date.now(), statuses };
  }));
  const until = Date.now() + FIRST_FRAME_MS;
  const shown = () => Promise.all(pages.map(({ page }) => page.evaluate(() => window.seen.frames.length > 0)));
  while (Date.now() < until && (await shown()).includes(false)) await sleep(100);
  await sleep(Number(seconds) * 1000);
  out = await Promise.all(pages.map(async (one) => {
    const seen = await one.page.evaluate(() => ({
      ...window.seen, rates: [...window.seen.rates], latency: window.latency?.() ?? null,
    }));
    return summarise(one, seen);
  }));
} finally {
  await browser.close();
  server.close();
}
process.stdout.write(`${JSON.stringify(out)}\n`);
