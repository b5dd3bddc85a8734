// Fast mode in a real Chromium: the switch, how far behind the camera the picture
// is, the way back, and a network that cannot hold it.
//
//   node e2e/fast.mjs BASE_URL CHANNEL SECONDS [--screenshots DIR]
//
// The page opens with LL-HLS, is switched to fast mode by its key and watched for
// SECONDS, then switched back. A second page asks for fast mode over streams that
// arrive in bursts of a second, and must end up with LL-HLS by itself. One line
// of JSON goes to stdout; exit status 1 where a step did not happen.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const ARGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--mute-audio',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
  '--autoplay-policy=no-user-gesture-required',
];
const STEP_MS = 30_000;
// Catching up from the beginning of a segment.
const SETTLE_MS = 4000;
const BURST_MS = 1000;

const { values, positionals } = parseArgs({ allowPositionals: true, options: { screenshots: { type: 'string' } } });
const [base, channel, seconds] = positionals;
if (!base || !channel || !(Number(seconds) > 0)) {
  process.stderr.write('usage: fast.mjs BASE_URL CHANNEL SECONDS [--screenshots DIR]\n');
  process.exit(2);
}
if (!existsSync(CHROMIUM)) {
  process.stderr.write(`fast.mjs: ${CHROMIUM} is missing: apt-get install chromium, or set CHROMIUM\n`);
  process.exit(2);
}

// Logs each presented frame: [epoch ms of its presentation, behind the camera in ms].
function logFrames() {
  window.frames_ = [];
  const attach = (video) => {
    const onFrame = (_now, { mediaTime, expectedDisplayTime }) => {
      const date = window.millrace?.stats().playingDate;
      const shown = performance.timeOrigin + expectedDisplayTime;
      if (date) window.frames_.push([shown, shown - date - (mediaTime - video.currentTime) * 1000]);
      video.requestVideoFrameCallback(onFrame);
    };
    video.requestVideoFrameCallback(onFrame);
  };
  document.addEventListener('DOMContentLoaded', () => attach(document.querySelector('video')));
}

// A network that holds everything back and lets it go once in BURST_MS.
function inBursts(burstMs) {
  const plain = window.fetch;
  window.fetch = async (url, options) => {
    const response = await plain(url, options);
    if (!String(url).includes('stream.mp4') || !response.ok) return response;
    let held = [];
    const hold = new TransformStream({
      start: (out) => {
        const timer = setInterval(() => {
          try {
            for (const one of held.splice(0)) out.enqueue(one);
          } catch {
            // The page has left.
            clearInterval(timer);
          }
        }, burstMs);
      },
      transform: (chunk) => { held.push(chunk); },
    });
    return new Response(response.body.pipeThrough(hold), { status: response.status, headers: response.headers });
  };
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const stats = (page) => page.evaluate(() => ({ ...window.millrace.stats(), frames_: window.frames_.length }));

async function until(page, what, holds) {
  const end = Date.now() + STEP_MS;
  for (let now = await stats(page); ; now = await stats(page)) {
    if (holds(now)) return now;
    if (Date.now() > end) throw new Error(`${what}: not in time, ${JSON.stringify(now)}`);
    await sleep(100);
  }
}

function quantile(values, q) {
  const sorted = [...values].sort((a, b) => a - b);
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]);
}

const moving = (page, mode) => async (what) => {
  const before = await until(page, what, (now) => now.mode === mode && now.state === 'live');
  return until(page, `${what}: frames`, (now) => now.mode === mode && now.frames_ > before.frames_ + 30);
};

async function open(browser, init) {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  const errors = [];
  page.on('pageerror', (error) => errors.push(error.message));
  await page.addInitScript(logFrames);
  await init(page);
  await page.goto(`${base.replace(/\/$/, '')}/watch/${channel}`);
  await page.waitForFunction(() => window.millrace !== undefined);
  return { page, errors };
}

const browser = await chromium.launch({ executablePath: CHROMIUM, args: ARGS });
const out = {};
try {
  const { page, errors } = await open(browser, async () => {});
  await moving(page, 'hls')('LL-HLS');
  const pressed = Date.now();
  await page.keyboard.press('d');
  await until(page, 'fast mode', (now) => now.mode === 'fast' && now.state === 'live');
  await until(page, 'its first frame', (now) => now.latency !== null && now.latency < 2 && now.buffer > 0);
  out.switch_ms = Date.now() - pressed;
  await sleep(SETTLE_MS);
  const from = Date.now();
  if (values.screenshots) {
    for (const [width, height] of [[1280, 800], [390, 844]]) {
      await page.setViewportSize({ width, height });
      await page.mouse.move(width / 2, 150 + Math.random() * 50);
      await sleep(300);
      await page.screenshot({ path: join(values.screenshots, `fast-${width}.png`) });
    }
  }
  await sleep(Number(seconds) * 1000);
  const all = await page.evaluate(() => window.frames_);
  const frames = all.filter(([shown]) => shown >= from);
  const behind = frames.map(([, ms]) => ms);
  out.frames = frames.length;
  out.behind_p50_ms = quantile(behind, 0.5);
  out.behind_p99_ms = quantile(behind, 0.99);
  out.longest_gap_ms = Math.round(Math.max(...frames.slice(1).map(([shown], i) => shown - frames[i][0])));
  const now = await stats(page);
  Object.assign(out, { mode: now.mode, target: now.edgeLatencyTarget, stalls: now.stalls, rate: now.rate });
  await page.keyboard.press('d');
  await moving(page, 'hls')('LL-HLS again');
  out.errors = errors;
  await page.close();

  const bursts = await open(browser, (fresh) => fresh.addInitScript(() => localStorage.setItem('millrace.mode', 'fast'))
    .then(() => fresh.addInitScript(inBursts, BURST_MS)));
  await until(bursts.page, 'the way out of fast mode', (stand) => stand.mode === 'hls' && stand.unfit);
  await moving(bursts.page, 'hls')('LL-HLS on a bad network');
  out.fell_back = true;
  out.errors.push(...bursts.errors);
} catch (error) {
  process.stderr.write(`fast.mjs: ${error.message}\n`);
  process.exitCode = 1;
} finally {
  await browser.close();
}
process.stdout.write(`${JSON.stringify(out)}\n`);
