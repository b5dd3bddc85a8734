// A viewer at a phone and one at a desk, through a channel's whole evening, in a
// real Chromium.
//
//   node e2e/viewer.mjs BASE_URL CHANNEL COMMAND...
//
// COMMAND publishes to the channel until it is killed; it is run twice. Prints a
// line for each thing that holds, and exits 1 with the first that does not. No
// page is ever reloaded.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { fail, launch } from './chromium.mjs';

const WITHIN_MS = 20_000;
const [base, channel, ...publish] = process.argv.slice(2);
if (publish.length === 0) fail('usage: viewer.mjs BASE_URL CHANNEL COMMAND...');

let publisher = null;
function goOnAir() {
  publisher = spawn(publish[0], publish.slice(1), { stdio: 'ignore' });
}
function leave() {
  publisher?.kill('SIGKILL');
  publisher = null;
}

const said = (text) => process.stdout.write(`${text}\n`);

// Waits in the page until `check` is true there.
async function until(page, what, check, argument) {
  await page.waitForFunction(check, argument, { timeout: WITHIN_MS }).catch(async () => {
    const shown = await page.evaluate(() => document.body.innerText);
    assert.fail(`${what}: not within ${WITHIN_MS} ms; the page says: ${shown}`);
  });
  said(what);
}

const notice = (page, title, detail) =>
  until(page, `says "${title}"`, ([wanted, words]) => {
    const visible = !document.getElementById('notice').hidden;
    const read = (id) => document.getElementById(id).textContent;
    return visible && read('notice-title') === wanted && read('notice-detail').includes(words);
  }, [title, detail]);

const plays = (page, what) =>
  until(page, what, () => window.millrace.stats().state === 'live' && window.millrace.video.currentTime > 0 && !window.millrace.video.paused);

// Nothing hangs over the edge, and what is to be pressed can be.
async function fits(page, what) {
  const found = await page.evaluate(() => {
    const pressed = [...document.querySelectorAll('a, button, select, input')].filter((node) => node.checkVisibility({ opacityProperty: true }));
    const outside = pressed.filter((node) => {
      const { left, right, width } = node.getBoundingClientRect();
      return width === 0 || left < 0 || right > innerWidth;
    });
    return { width: document.documentElement.scrollWidth, room: innerWidth, pressed: pressed.length, outside: outside.map((node) => node.id || node.textContent) };
  });
  assert.ok(found.width <= found.room, `${what}: ${found.width} px wide in ${found.room} px`);
  assert.deepEqual(found.outside, [], `${what}: outside`);
  assert.ok(found.pressed > 1, `${what}: nothing to press`);
  said(`${what}: fits ${found.room} px`);
}

// Contrast of text to its ground by WCAG 2, which asks for 4.5.
async function legible(page, what, ids) {
  const ratios = await page.evaluate((ids_) => {
    const paint = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const light = (colour) => {
      paint.fillStyle = colour;
      paint.fillRect(0, 0, 1, 1);
      const [r, g, b] = [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3).map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (node) => {
      for (let at = node; at; at = at.parentElement) {
        const { backgroundColor } = getComputedStyle(at);
        if (backgroundColor !== 'rgba(0, 0, 0, 0)') return backgroundColor;
      }
      return 'white';
    };
    return ids_.map((id) => {
      const node = document.getElementById(id);
      const [a, b] = [light(getComputedStyle(node).color), light(ground(node))].sort((x, y) => y - x);
      return (a + 0.05) / (b + 0.05);
    });
  }, ids);
  ids.forEach((id, i) => assert.ok(ratios[i] >= 4.5, `${what}: #${id} has a contrast of ${ratios[i].toFixed(1)}`));
  said(`${what}: legible`);
  return page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
}

async function keyboard(page) {
  const video = (read) => page.evaluate(read);
  await page.keyboard.press('k');
  assert.equal(await video(() => millrace.video.paused), true, 'k pauses');
  await page.keyboard.press(' ');
  assert.equal(await video(() => millrace.video.paused), false, 'space plays');
  await page.keyboard.press('m');
  assert.equal(await video(() => millrace.video.muted), false, 'm turns the sound on');
  // On the page they scroll, in the player they change the volume.
  await page.keyboard.press('ArrowDown');
  assert.equal(await video(() => millrace.video.volume), 1, 'down is the page\'s own');
  await page.click('#keys-toggle');
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press('m');
  assert.equal(await video(() => millrace.video.muted), false, 'letters can be turned off');
  await page.focus('#play');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('ArrowDown');
  assert.ok(Math.abs((await video(() => millrace.video.volume)) - 0.9) < 0.01, 'down is quieter');
  await page.keyboard.press('ArrowUp');
  assert.ok(Math.abs((await video(() => millrace.video.volume)) - 0.95) < 0.01, 'up is louder');
  await page.click('#keys-toggle');
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press('s');
  assert.equal(await page.locator('#figures').isVisible(), false, 's hides the figures');
  await page.keyboard.press('s');
  assert.equal(await page.locator('#figures').isVisible(), true, 's shows the figures');
  await until(page, 'there is something to go back to', () => millrace.video.currentTime - millrace.video.buffered.start(0) > 5.5);
  await page.keyboard.press('ArrowLeft');
  await until(page, 'a viewer who went back is offered the way to the edge', () => document.getElementById('badge-text').textContent === 'Go live' && !document.getElementById('badge').disabled);
  await page.keyboard.press('l');
  await until(page, 'l goes live', () => document.getElementById('badge-text').textContent === 'Live');
  await page.keyboard.press('f');
  await until(page, 'f fills the screen', () => document.fullscreenElement !== null);
  await page.keyboard.press('f');
  await until(page, 'f leaves it', () => document.fullscreenElement === null);
  // Tab comes to every control, and shows where it is.
  await page.evaluate(() => document.activeElement.blur());
  const reached = [];
  for (let n = 0; n < 16; n++) {
    await page.keyboard.press('Tab');
    reached.push(await page.evaluate(() => {
      const { id, tagName } = document.activeElement;
      const { outlineStyle } = getComputedStyle(document.activeElement);
      return tagName === 'BODY' || outlineStyle !== 'none' ? id : `${id} without an outline`;
    }));
  }
  for (const id of ['play', 'mute', 'volume', 'figures-toggle', 'fullscreen']) assert.ok(reached.includes(id), `Tab reaches ${id}: ${reached}`);
  said('the keyboard does it all');
}

const browser = await launch();
try {
  const open = async (path, width, height, colorScheme) => {
    const page = await browser.newPage({ viewport: { width, height }, colorScheme });
    page.on('pageerror', (error) => process.stdout.write(`uncaught: ${error.message}\n`) && (process.exitCode = 1));
    await page.goto(`${base}${path}`);
    return page;
  };
  const phone = await open(`/watch/${channel}`, 390, 844, 'dark');
  const desk = await open(`/watch/${channel}`, 1280, 800, 'light');
  const list = await open('/', 390, 844, 'light');
  const opened = await phone.evaluate(() => performance.timeOrigin);
  const lead = (what, words) => until(list, what, (text) => document.getElementById('lead').textContent.startsWith(text), words);

  await notice(phone, 'Offline', 'not live');
  await lead('the list is empty in words', 'Nobody is live');
  await fits(phone, 'offline, phone');

  goOnAir();
  await plays(phone, 'comes on by itself at the phone');
  await plays(desk, 'comes on by itself at the desk');
  await lead('the list says so', 'One channel');
  await until(list, 'with a link to it', (name) => document.querySelector('#channels a')?.pathname === `/watch/${name}`, channel);
  await fits(phone, 'live, phone');
  await fits(desk, 'live, desk');
  await fits(list, 'list, phone');
  const texts = ['channel', 'chip', 'meta', 'figure-latency'];
  const dark = await legible(phone, 'dark', texts);
  const light = await legible(desk, 'light', texts);
  assert.notEqual(dark, light, 'light and dark differ');
  await keyboard(desk);
  await phone.fill('#chat-name', 'ann');
  await phone.click('#chat-join button');
  await until(phone, 'who has joined types into the chat, not at the player', () => document.activeElement.id === 'chat-text');

  leave();
  await notice(phone, 'Interrupted', 'publisher is reconnecting');
  await until(list, 'the list says that it is away', () => document.querySelector('.chip')?.textContent === 'Interrupted');
  await notice(phone, 'The broadcast has ended', 'by itself');
  await lead('the list does not hold on to it', 'Nobody is live');
  await fits(phone, 'ended, phone');

  goOnAir();
  await plays(phone, 'comes back by itself at the phone');
  await plays(desk, 'comes back by itself at the desk');
  assert.equal(await phone.evaluate(() => performance.timeOrigin), opened, 'the page was loaded again');
} catch (error) {
  process.stderr.write(`viewer.mjs: ${error.message}\n`);
  process.exitCode = 1;
} finally {
  leave();
  await browser.close();
}
