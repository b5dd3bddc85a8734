// The watch page's chat in a real Chromium, on two edges: who reads, who writes, who
// moderates, and what becomes of it when an edge goes.
//
//   node e2e/page-chat.mjs BASE_URL_1 BASE_URL_2 DIRECTORY [--screenshots DIR]
//
// The first edge names the second as its alternative; both sign in whoever comes.
// The script that starts this kills and starts edges: it is told by lines on
// standard output (`kill-edge-2` ...) and answers by files of that name in
// DIRECTORY. Prints a line for each thing that holds, exits 1 with the first that
// does not. No page is ever loaded again.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { launch } from './chromium.mjs';

const WITHIN_MS = 15_000;
const { values, positionals } = parseArgs({ allowPositionals: true, options: { screenshots: { type: 'string' } } });
const [one, two, dir] = positionals;

const began = Date.now();
const said = (text) => process.stdout.write(`${((Date.now() - began) / 1000).toFixed(1)} s: ${text}\n`);

async function until(page, what, check, argument) {
  const from = Date.now();
  await page.waitForFunction(check, argument, { timeout: WITHIN_MS, polling: 20 }).catch(async () => {
    const shown = await page.evaluate(() => JSON.stringify({ chat: window.millrace?.chat?.(), lines: [...document.querySelectorAll('.chat-line')].slice(-12).map((line) => line.textContent), state: document.getElementById('chat-state')?.textContent }));
    assert.fail(`${what}: not within ${WITHIN_MS} ms; the page says: ${shown}`);
  });
  return Date.now() - from;
}

// Asks the script for something, and waits until it is done.
async function ask(what) {
  process.stdout.write(`${what}\n`);
  const end = Date.now() + WITHIN_MS;
  while (!existsSync(join(dir, what))) {
    assert.ok(Date.now() < end, `${what}: nobody did`);
    await sleep(20);
  }
}

const texts = (page) => page.evaluate(() => [...document.querySelectorAll('.chat-line .line-text')].map((node) => node.textContent));
const has = (page, text, what = `sees "${text}"`) =>
  until(page, what, (wanted) => [...document.querySelectorAll('.chat-line .line-text')].some((node) => node.textContent === wanted), text);
const hasNot = (page, text, what) =>
  until(page, what, (wanted) => ![...document.querySelectorAll('.chat-line .line-text')].some((node) => node.textContent === wanted), text);

async function say(page, text) {
  await page.fill('#chat-text', text);
  await page.press('#chat-text', 'Enter');
}

const live = (page, what) => until(page, `${what} is in the room`, () => window.millrace?.chat().state === 'live');

// By the development page, as a person does.
async function signIn(page, name, role) {
  await page.click('#chat-sign-in-link');
  await page.fill('#login', name);
  await page.selectOption('#role', role);
  await page.click('form button');
  await page.waitForURL('**/watch/demo');
  await until(page, `${name} is signed in`, (login) => window.millrace?.chat().login === login && window.millrace.chat().state === 'live', name.toLowerCase());
}

const shot = async (page, name) => {
  if (values.screenshots) await page.screenshot({ path: join(values.screenshots, `${name}.png`) });
};

// So many messages by raw sockets of four moderators, a hundred a second.
function flood(page, count) {
  return page.evaluate(async (count_) => {
    const speakers = await Promise.all(['s1', 's2', 's3', 's4'].map(async (name) => {
      const { token } = await (await fetch(`/api/v1/chat/token?login=${name}&channel=demo&role=moderator`)).json();
      const socket = new WebSocket(`${location.origin.replace('http', 'ws')}/chat`, ['text.ircv3.net']);
      await new Promise((resolve) => {
        socket.onopen = () => ['CAP REQ :twitch.tv/commands', `PASS oauth:${token}`, `NICK ${name}`, 'JOIN #demo'].forEach((line) => socket.send(line));
        socket.onmessage = ({ data }) => data.includes(' ROOMSTATE ') && resolve();
      });
      return socket;
    }));
    for (let n = 0; n < count_; n += 1) {
      speakers[n % 4].send(`PRIVMSG #demo :flood ${n} of what many people say at once`);
      if (n % 4 === 3) await new Promise((resolve) => setTimeout(resolve, 40));
    }
    setTimeout(() => speakers.forEach((socket) => socket.close()), 500);
  }, count);
}

async function talks(reader, writer) {
  await say(writer, 'hello from the other edge');
  const own = await has(writer, 'hello from the other edge', 'the writer sees their own line');
  assert.ok(own < 1000, `own line after ${own} ms`);
  const inStep = await has(reader, 'hello from the other edge');
  const { latency } = await reader.evaluate(() => window.millrace.stats());
  said(`read at the other edge after ${inStep} ms, with the picture ${Math.round(latency * 1000)} ms behind`);
  assert.ok(inStep > 300 && inStep < latency * 1000 + 1500, 'the line waits for the picture');
  await reader.click('#chat-sync');
  await say(writer, 'and at once');
  const atOnce = await has(reader, 'and at once');
  said(`and after ${atOnce} ms where it does not wait`);
  assert.ok(atOnce < 700, `not at once: ${atOnce} ms`);
}

async function isText(pages, writer) {
  const evil = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script> javascript:alert(1)';
  await say(writer, evil);
  for (const page of pages) {
    await has(page, evil);
    const found = await page.evaluate(() => [window.pwned ?? null, document.querySelectorAll('.chat-line img, .chat-line script, .chat-line iframe').length, document.querySelectorAll('.chat-line a').length]);
    assert.deepEqual(found, [null, 0, 0], 'markup stays text');
  }
  await say(writer, 'see https://example.org/a?b=c wave @Mia');
  await until(pages[0], 'a link, an emote and a mention', () => {
    const line = [...document.querySelectorAll('.chat-line')].at(-1);
    const link = line.querySelector('a');
    return link?.href === 'https://example.org/a?b=c' && link.rel.includes('noopener') && line.querySelector('.emote-char')?.textContent === '\u{1F44B}';
  });
  said('what a stranger writes is text, links and emotes');
}

async function moderates(reader, writer, moderator) {
  await until(moderator, 'the mention is marked', () => [...document.querySelectorAll('.chat-line.spoken-to')].some((line) => line.textContent.includes('@Mia')));
  // Who only reads comes to a link by the keyboard, too.
  await reader.focus('#chat-lines');
  await reader.keyboard.press('ArrowUp');
  await reader.keyboard.press('Enter');
  const links = await reader.locator('#chat-menu [role=menuitem]').evaluateAll((items) => items.map(({ href, target, rel }) => [href, target, rel.includes('noopener')]));
  assert.deepEqual(links, [['https://example.org/a?b=c', '_blank', true]]);
  await reader.keyboard.press('Escape');
  // By the keyboard: the newest line, its menu, and back.
  await moderator.focus('#chat-lines');
  await moderator.keyboard.press('ArrowUp');
  await moderator.keyboard.press('Enter');
  const choices = await moderator.locator('#chat-menu [role=menuitem]').allTextContents();
  assert.deepEqual(choices, ['Mention Ann', 'Open https://example.org/a?b=c', 'Delete message', 'Time out for 1 minute', 'Time out for 10 minutes', 'Ban Ann']);
  await shot(moderator, 'menu-390-dark');
  await moderator.keyboard.press('ArrowDown');
  await moderator.keyboard.press('ArrowDown');
  await moderator.keyboard.press('Enter');
  for (const page of [reader, writer, moderator]) {
    await until(page, 'the deleted line goes', () => ![...document.querySelectorAll('.line-text')].some((node) => node.textContent.includes('example.org')));
  }
  // By a click.
  await moderator.locator('.line-name[data-login=ann]').last().click();
  await moderator.click('text=Time out for 1 minute');
  for (const page of [reader, writer, moderator]) await hasNot(page, 'and at once', 'the lines of who is timed out go');
  await until(writer, 'who is timed out is told', () => /Timed out, \d+ s/.test(document.getElementById('chat-wait').textContent));
  await say(writer, 'silenced');
  await until(writer, 'and gets the text back', () => document.getElementById('chat-text').value === 'silenced' && /timed out/.test(document.getElementById('chat-state').textContent));
  await say(moderator, '/untimeout ann');
  await until(moderator, 'the moderator is answered', () => /no longer/.test(document.getElementById('chat-state').textContent));
  said('a moderator deletes by keyboard and times out by click');
}

async function slows(reader, writer, moderator) {
  await say(moderator, '/slow 2');
  await until(reader, 'the rule is shown', () => document.getElementById('chat-rules').textContent === 'Slow mode, 2 s');
  // The room counts from the writer's last message, which is to be older than that.
  await sleep(2000);
  await say(writer, 'first');
  await until(writer, 'the countdown', () => document.getElementById('chat-wait').textContent === 'Slow mode, 2 s');
  await say(writer, 'second');
  await until(writer, 'it is too early', () => /write again in/.test(document.getElementById('chat-state').textContent));
  await until(writer, 'the countdown ends', () => document.getElementById('chat-wait').hidden);
  await writer.press('#chat-text', 'Enter');
  await has(reader, 'second');
  await say(moderator, '/slowoff');
  await until(reader, 'the rule is gone', () => document.getElementById('chat-rules').textContent === '');
  said('slow mode counts down');
}

async function survivesACut(writer, moderator) {
  await ask('kill-edge-2');
  await until(writer, 'the loss is told', () => window.millrace.chat().state === 'waiting');
  for (let n = 0; n < 5; n += 1) await say(moderator, `while away ${n}`);
  await has(moderator, 'while away 4');
  await ask('start-edge-2');
  await has(writer, 'while away 4');
  await live(writer, 'the writer');
  await say(writer, 'back again');
  for (const page of [writer, moderator]) await has(page, 'back again');
  const [here, there] = await Promise.all([texts(writer), texts(moderator)]);
  assert.deepEqual(here, there, 'a gap or a repeat');
  said('a killed edge costs no line and repeats none');
}

async function keepsUp(reader, writer, moderator) {
  await reader.evaluate(() => {
    const list = document.getElementById('chat-lines');
    list.style.height = '6rem';
    list.style.bottom = 'auto';
  });
  await reader.hover('#chat-lines');
  await reader.mouse.wheel(0, -400);
  await until(reader, 'the reader is up', () => !document.getElementById('chat-new').hidden);
  const before = (await texts(reader)).length;
  await flood(writer, 280);
  await until(reader, 'they are counted', () => /^2\d\d new messages$/.test(document.getElementById('chat-new').textContent));
  assert.equal((await texts(reader)).length, before, 'nothing moves under who reads');
  await reader.click('#chat-new');
  await has(reader, 'flood 279 of what many people say at once');
  const flooded = (all) => all.filter((text) => text.startsWith('flood ')).map((text) => Number(text.split(' ')[1]));
  await has(moderator, 'flood 279 of what many people say at once');
  const [r, m] = await Promise.all([texts(reader), texts(moderator)]);
  assert.equal(new Set(flooded(r)).size, 280, 'all of them, once');
  assert.deepEqual(flooded(r), flooded(m), 'one order');
  const { longestFrameMs, shown } = await moderator.evaluate(() => window.millrace.chat());
  said(`100 messages a second: ${shown} lines, the longest frame took ${longestFrameMs.toFixed(1)} ms`);
  assert.ok(shown <= 500);
}

async function moves(reader, writer, moderator) {
  await ask('kill-edge-1');
  for (const page of [reader, moderator]) {
    const ms = await until(page, 'the page goes to the other edge', (edge) => window.millrace.stats().edge === edge && window.millrace.chat().state === 'live', two);
    said(`moved to the other edge after ${ms} ms`);
  }
  await until(reader, 'the picture goes on', () => {
    const { state, latency } = window.millrace.stats();
    return state === 'live' && latency < 5 && !window.millrace.video.paused;
  });
  await say(writer, 'to the moved');
  await has(reader, 'to the moved');
  await say(moderator, 'still here');
  for (const page of [reader, writer]) await has(page, 'still here');
  const [r, w] = await Promise.all([texts(reader), texts(writer)]);
  assert.deepEqual(r.slice(-60), w.slice(-60), 'a gap or a repeat at the moved');
}

// An edge that drains says so: its pages are gone before it is.
async function leavesADrain(reader, moderator) {
  await ask('start-edge-1');
  const stalls = await reader.evaluate(() => window.millrace.stats().stalls);
  await ask('drain-edge-2');
  for (const page of [reader, moderator]) {
    await until(page, 'the page leaves the draining edge', (edge) => window.millrace.stats().edge === edge && window.millrace.chat().state === 'live', one);
  }
  await until(reader, 'the picture goes on after a drain', () => window.millrace.stats().state === 'live' && window.millrace.stats().latency < 5);
  await say(moderator, 'back where we came from');
  await has(reader, 'back where we came from');
  const after = await reader.evaluate(() => window.millrace.stats().stalls);
  said(`left a draining edge with ${after - stalls} stalls`);
}

// Pages of one browser behind one address are a viewer each, over both edges.
async function areCounted() {
  const end = Date.now() + WITHIN_MS;
  for (;;) {
    const { channels } = await (await fetch(`${one}/api/v1/channels`)).json();
    if (channels[0]?.viewers === 3) break;
    assert.ok(Date.now() < end, `${channels[0]?.viewers} viewers over both edges`);
    await sleep(250);
  }
  said('each page is a viewer of its own');
}

// At a phone the chat is below the picture, and nothing hangs over the edge.
async function fitsAPhone(page) {
  const { width, room, under, field } = await page.evaluate(() => ({
    width: document.documentElement.scrollWidth,
    room: innerWidth,
    under: document.getElementById('chat').getBoundingClientRect().top - document.getElementById('screen').getBoundingClientRect().bottom,
    field: document.getElementById('chat-text').getBoundingClientRect().width,
  }));
  assert.ok(width <= room && under >= 0 && field > 150, JSON.stringify({ width, room, under, field }));
  said('fits a phone');
}

const browser = await launch();
const errors = [];
try {
  const open = async (edge, width, height, colorScheme) => {
    // An origin of its own storage, so that three people fit in one browser.
    const context = await browser.newContext({ viewport: { width, height }, colorScheme });
    const page = await context.newPage();
    page.on('pageerror', (error) => errors.push(error.message));
    page.on('console', (message) => /Content Security Policy/.test(message.text()) && errors.push(message.text()));
    await page.goto(`${edge}/watch/demo`);
    return page;
  };
  const [reader, writer, moderator] = await Promise.all([open(one, 1280, 800, 'light'), open(two, 1280, 800, 'dark'), open(one, 390, 844, 'dark')]);
  await live(reader, 'the reader');
  await Promise.all([signIn(writer, 'Ann', ''), signIn(moderator, 'Mia', 'moderator')]);
  await until(reader, 'the picture', () => window.millrace.stats().state === 'live' && window.millrace.stats().playingDate !== null);
  assert.equal(await reader.locator('#chat-text').isVisible(), false, 'who has no name can\u2019t write');
  said('three people in one room');
  await moderator.click('#chat-sync');
  await talks(reader, writer);
  await isText([reader, writer, moderator], writer);
  await shot(reader, 'reader-1280-light');
  await shot(writer, 'writer-1280-dark');
  await fitsAPhone(moderator);
  await moderates(reader, writer, moderator);
  await slows(reader, writer, moderator);
  await survivesACut(writer, moderator);
  await keepsUp(reader, writer, moderator);
  await shot(moderator, 'moderator-390-dark');
  await areCounted();
  await moves(reader, writer, moderator);
  await leavesADrain(reader, moderator);
  assert.deepEqual(errors, []);
} catch (error) {
  process.stderr.write(`page-chat.mjs: ${error.message}\n`);
  process.exitCode = 1;
} finally {
  await browser.close();
}
