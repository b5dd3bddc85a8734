// Goes back in time on the watch page in a real Chromium, and returns to live.
//
//   node e2e/dvr.mjs BASE_URL CHANNEL [--back SECONDS] [--lost]
//        [--screenshots DIR] [--size WxH] [--dark]
//
// With the keys to SECONDS (65) before the live edge, where the picture must go
// on; with the badge to live; with a click on the bar back once more, and with
// `l` to live. --lost: the far end of the bar is a moment that nobody keeps any
// more, from which the page must find back by itself. One line of JSON says what
// was seen; anything else than that is an error on standard error and status 1.

import assert from 'node:assert/strict';
import { parseArgs } from 'node:util';
import { launch } from './chromium.mjs';

const STEP_S = 5;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    back: { type: 'string', default: '65' },
    lost: { type: 'boolean' },
    screenshots: { type: 'string' },
    size: { type: 'string', default: '1280x800' },
    dark: { type: 'boolean' },
  },
});
const [base, channel] = positionals;
const backS = Number(options.back);
const [width, height] = options.size.split('x').map(Number);

// Runs in the page before its own scripts: the media time of each frame shown.
function logFrames() {
  window.shown = [];
  document.addEventListener('DOMContentLoaded', () => {
    const video = document.querySelector('video');
    const onFrame = (_now, { mediaTime }) => {
      window.shown.push(mediaTime);
      video.requestVideoFrameCallback(onFrame);
    };
    video.requestVideoFrameCallback(onFrame);
  });
}

async function tour(page) {
  const seen = {};
  const errors = [];
  page.on('pageerror', (error) => errors.push(error.message));
  await page.addInitScript(logFrames);
  await page.goto(`${base}/watch/${channel}`);
  const stats = () => page.evaluate(() => ({ ...window.millrace.stats(), position: window.millrace.video.currentTime }));
  const until = (what, check, argument) =>
    page.waitForFunction(check, argument, { timeout: 25_000, polling: 50 }).catch(() => {
      throw new Error(`${what}: not in time`);
    });
  // So many frames were shown that belong between two media times.
  const shows = (what, from, to) =>
    until(what, ([from, to]) => window.shown.slice(-40).filter((at) => at >= from && at <= to).length >= 30, [from, to]);
  const forget = () => page.evaluate(() => void (window.shown.length = 0));
  const screenshot = async (name) => {
    await page.mouse.move(width / 2, 300);
    if (options.screenshots) await page.screenshot({ path: `${options.screenshots}/${name}.png` });
  };

  await until('the first frames', () => window.shown.length > 30);
  await until('the bar', () => window.millrace.stats().past !== null && !document.getElementById('past').hidden);
  const { past } = await stats();
  seen.window_s = Math.round(past.edge - past.start);
  await screenshot('live');

  await forget();
  const began = await stats();
  for (let pressed = 0; pressed * STEP_S < backS; pressed++) await page.keyboard.press('ArrowLeft');
  const there = await stats();
  assert.ok(began.position - there.position > backS - 3, 'the keys lead back');
  assert.equal(there.following, false);
  const pressedMs = Date.now();
  await shows('the picture of then', there.position, there.position + 5);
  seen.back_s = Math.round((began.position - there.position) * 10) / 10;
  // Thirty frames, and perhaps a second in which the publisher sent no picture.
  seen.picture_of_then_after_ms = Date.now() - pressedMs;
  assert.ok(seen.picture_of_then_after_ms < 3500, `the picture of then after ${seen.picture_of_then_after_ms} ms`);
  const badge = await page.textContent('#badge');
  assert.match(badge, /Go live/);
  const value = Number(await page.inputValue('#past-bar'));
  const text = await page.getAttribute('#past-bar', 'aria-valuetext');
  assert.ok(Math.abs(-value - backS) < 8, `the bar stands at ${value}`);
  assert.match(text, /^1 minute \d+ seconds? behind live$/);
  await screenshot('past');

  await forget();
  await page.mouse.move(width / 2, 300);
  await page.click('#badge');
  const live = () => until('live', () => {
    const { latency, following, state } = window.millrace.stats();
    return state === 'live' && following && latency < 4 && window.shown.length > 30;
  });
  await live();
  assert.equal(await page.getAttribute('#past-bar', 'aria-valuetext'), 'live');

  // A click at two thirds of the bar.
  await forget();
  await page.mouse.move(width / 2, 300);
  const box = await page.locator('#past-bar').boundingBox();
  await page.mouse.click(box.x + box.width * 0.67, box.y + box.height / 2);
  const clicked = await stats();
  assert.ok(began.position - clicked.position > 15, 'a click leads back');
  await shows('the picture after a click', clicked.position, clicked.position + 5);
  // On the bar the keys mean what they mean elsewhere.
  await page.focus('#past-bar');
  await page.keyboard.press('ArrowRight');
  const stepped = (await stats()).position - clicked.position;
  assert.ok(stepped > STEP_S - 0.5 && stepped < STEP_S + 5, `a step of ${stepped} s`);
  await forget();
  await page.keyboard.press('l');
  await live();

  if (options.lost) {
    await forget();
    await page.focus('#past-bar');
    await page.keyboard.press('Home');
    await until('the loss is named', () => /not kept/.test(document.getElementById('announce').textContent));
    await live();
    seen.found_back_from_a_lost_moment = true;
  }
  assert.deepEqual(errors, []);
  return seen;
}

const browser = await launch();
try {
  const refused = [];
  const page = await browser.newPage({
    viewport: { width, height },
    colorScheme: options.dark ? 'dark' : 'light',
  });
  page.on('response', (response) => response.status() >= 400 && refused.push(`${response.status()} ${response.url()}`));
  try {
    process.stdout.write(`${JSON.stringify(await tour(page))}\n`);
  } catch (error) {
    const last = await page.evaluate(() => window.millrace?.stats()).catch(() => null);
    process.stderr.write(`dvr.mjs: ${error.message.split('\n')[0]}\n${JSON.stringify(last)}\n${refused.join('\n')}\n`);
    process.exitCode = 1;
  }
} finally {
  await browser.close();
}
