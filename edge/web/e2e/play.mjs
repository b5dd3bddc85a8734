// Watches one channel in a real Chromium and prints what a viewer saw.
//
//   node e2e/play.mjs BASE_URL CHANNEL SECONDS [--expect-playing] [--json]
//        [--frames FILE] [--screenshot FILE] [--size WxH] [--dark]
//        [--first-frame-within SECONDS] [--ticks FILE] [--until-file FILE] [--fast]
//
// The page is opened once and never reloaded. SECONDS count from its first
// presented frame, or from the opening where there is none. With --json one line
// goes to stdout; without, the same in words. --expect-playing exits 1 unless a
// frame was presented and the picture still moves at the end.
//
// --fast turns the page's fast mode on, as a viewer who chose it before.
//
// `frame_log` holds one entry for each presented frame:
// [epoch ms of its presentation, media time in s, programme date time in ms or
// null]. --frames FILE writes it there and leaves it out of the line.
//
// For a page that outlives what a script does to its servers: --ticks FILE gets a
// line of JSON four times a second, and --until-file FILE ends the watching when
// FILE appears, or after SECONDS.

import { existsSync } from 'node:fs';
import { appendFile, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { fail, launch } from './chromium.mjs';

const SAMPLE_MS = 250;
const STALL_MS = 500;

function arguments_() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      'expect-playing': { type: 'boolean' },
      json: { type: 'boolean' },
      frames: { type: 'string' },
      screenshot: { type: 'string' },
      size: { type: 'string', default: '1280x800' },
      dark: { type: 'boolean' },
      fast: { type: 'boolean' },
      'first-frame-within': { type: 'string', default: '30' },
      ticks: { type: 'string' },
      'until-file': { type: 'string' },
    },
  });
  const [base, channel, seconds] = positionals;
  const [width, height] = values.size.split('x').map(Number);
  if (!base || !channel || !(Number(seconds) > 0) || !(width > 0 && height > 0)) {
    fail('usage: play.mjs BASE_URL CHANNEL SECONDS [--expect-playing] [--json] [--frames FILE] [--screenshot FILE] [--size WxH] [--dark] [--first-frame-within SECONDS] [--ticks FILE] [--until-file FILE] [--fast]');
  }
  return { ...values, base, channel, seconds: Number(seconds), width, height };
}

// Runs in the page before its own scripts: logs every presented frame. The
// programme time is that of the frame, not of the position it was asked at.
function logFrames() {
  window.playLog = { frames: [] };
  const attach = (video) => {
    const onFrame = (_now, metadata) => {
      const date = window.millrace?.stats().playingDate ?? null;
      const programme = date === null ? null : date + (metadata.mediaTime - video.currentTime) * 1000;
      window.playLog.frames.push([
        Math.round((performance.timeOrigin + metadata.expectedDisplayTime) * 10) / 10,
        metadata.mediaTime,
        programme === null ? null : Math.round(programme * 10) / 10,
      ]);
      video.requestVideoFrameCallback(onFrame);
    };
    video.requestVideoFrameCallback(onFrame);
  };
  document.addEventListener('DOMContentLoaded', () => attach(document.querySelector('video')));
}

function sample() {
  const { video, stats } = window.millrace;
  const { frames } = window.playLog;
  return {
    now: performance.timeOrigin + performance.now(),
    // Of this document: another one after a reload.
    opened: performance.timeOrigin,
    position: video.currentTime,
    frames: frames.length,
    frame: frames.at(-1) ?? null,
    stats: stats(),
  };
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function watch(page, options) {
  const consoleErrors = [];
  page.on('console', (message) => message.type() === 'error' && consoleErrors.push(message.text()));
  page.on('pageerror', (error) => consoleErrors.push(`uncaught: ${error.message}`));
  await page.addInitScript(logFrames);
  if (options.fast) await page.addInitScript(() => localStorage.setItem('millrace.mode', 'fast'));
  const openedMs = Date.now();
  await page.goto(`${options.base.replace(/\/$/, '')}/watch/${options.channel}`);
  await page.waitForFunction(() => window.millrace !== undefined);
  const samples = [];
  let endMs = openedMs + Math.max(Number(options['first-frame-within']), options.seconds) * 1000;
  let playing = false;
  while (Date.now() < endMs) {
    const taken = await page.evaluate(sample);
    samples.push(taken);
    if (options.ticks) await appendFile(options.ticks, `${JSON.stringify(taken)}\n`);
    if (options['until-file'] && existsSync(options['until-file'])) break;
    if (!playing && taken.frames > 0) {
      playing = true;
      endMs = Date.now() + options.seconds * 1000;
    }
    await sleep(SAMPLE_MS);
  }
  if (options.screenshot) await page.screenshot({ path: options.screenshot });
  const frameLog = await page.evaluate(() => window.playLog.frames);
  return { openedMs, samples, frameLog, consoleErrors };
}

// Gaps between presented frames, up to the last sample.
function stallsOf(samples, frameLog) {
  const shown = frameLog.map(([ms]) => ms);
  if (shown.length > 0) shown.push(Math.max(samples.at(-1).now, shown.at(-1)));
  const gaps = shown.slice(1).map((ms, i) => Math.round(ms - shown[i]));
  return gaps.filter((ms) => ms >= STALL_MS);
}

function quantile(values, q) {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] * 1000) / 1000;
}

function summarise({ openedMs, samples, frameLog, consoleErrors }) {
  const states = [];
  for (const { now, stats } of samples) {
    if (states.at(-1)?.state !== stats.state) {
      states.push({ t: Math.round(now - openedMs), state: stats.state, reason: stats.reason });
    }
  }
  const stalls = stallsOf(samples, frameLog);
  const latencies = samples.map(({ stats }) => stats).filter(({ state, latency }) => state === 'live' && latency !== null).map(({ latency }) => latency);
  const programme = frameLog.filter(([, , date]) => date !== null).map(([shown, , date]) => (shown - date) / 1000);
  const last = samples.at(-1);
  const documents = new Set(samples.map(({ opened }) => opened));
  // A channel of sound alone presents no frames; there the position must move.
  const moves = frameLog.length > 0 ? last.now - frameLog.at(-1)[0] < 1000 : last.position > (samples.at(-5)?.position ?? last.position);
  return {
    time_to_first_frame_ms: frameLog.length > 0 ? Math.round(frameLog[0][0] - openedMs) : null,
    playing_at_end: last.stats.state === 'live' && moves,
    stalls: stalls.length,
    stalled_ms: stalls.reduce((sum, ms) => sum + ms, 0),
    latency_p50: quantile(latencies, 0.5),
    latency_max: quantile(latencies, 1),
    latency_target: last.stats.edgeLatencyTarget,
    programme_latency_p50: quantile(programme, 0.5),
    programme_latency_p99: quantile(programme, 0.99),
    dropped: last.stats.dropped,
    frames: frameLog.length,
    loads: last.stats.loads,
    documents: documents.size,
    level: last.stats.level,
    mode: last.stats.mode,
    states,
    console_errors: consoleErrors,
  };
}

const options = arguments_();
const browser = await launch();
let result;
try {
  const page = await browser.newPage({
    viewport: { width: options.width, height: options.height },
    colorScheme: options.dark ? 'dark' : 'light',
  });
  const seen = await watch(page, options);
  result = summarise(seen);
  if (options.frames) await writeFile(options.frames, JSON.stringify(seen.frameLog));
  else if (options.json) result.frame_log = seen.frameLog;
} catch (error) {
  process.stderr.write(`play.mjs: ${error.message.split('\n')[0]}\n`);
  process.exitCode = 1;
} finally {
  await browser.close();
}
if (!result) process.exit();
if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);
else for (const [name, value] of Object.entries(result)) process.stdout.write(`${name}: ${JSON.stringify(value)}\n`);
if (options['expect-playing'] && !result.playing_at_end) process.exit(1);
