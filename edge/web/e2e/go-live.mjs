// The streamer's page in a real Chromium: two places, a key that goes nowhere, and
// what is copied.
//
//   node e2e/go-live.mjs BASE_URL PICTURES-DIR
//
// The first place without a position is Amsterdam; near Boston it is Chicago.
// Prints a line for each thing that holds, and exits 1 with the first that does not.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { fail, launch } from './chromium.mjs';

const [base, pictures] = process.argv.slice(2);
if (!pictures) fail('usage: go-live.mjs BASE_URL PICTURES-DIR');
mkdirSync(pictures, { recursive: true });
const KEY = 'k3y-of-a-test_that-goes-nowhere';
const said = (text) => process.stdout.write(`${text}\n`);

const browser = await launch();
const context = await browser.newContext({
  viewport: { width: 1280, height: 860 },
  geolocation: { latitude: 42.3601, longitude: -71.0589 },
});
const page = await context.newPage();
const asked = [];
const wrong = [];
page.on('request', (request) => asked.push(`${request.method()} ${request.url()} ${request.postData() ?? ''}`));
page.on('console', (message) => message.type() === 'error' && wrong.push(message.text()));
page.on('pageerror', (error) => wrong.push(String(error)));

const names = () => page.locator('.ingest-name').allTextContents();
async function fits(what) {
  const { width, room } = await page.evaluate(() => ({ width: document.documentElement.scrollWidth, room: innerWidth }));
  assert.ok(width <= room, `${what}: ${width} px wide in ${room} px`);
}

await page.goto(`${base}/`);
await page.getByRole('link', { name: 'Go live' }).click();
await page.locator('.ingest').nth(1).waitFor();
assert.deepEqual(await names(), ['Europe: Amsterdam', 'US: Chicago']);
const server = () => page.locator('#server').textContent();
assert.match(await server(), /^rtmps:\/\/127\.0\.0\.1:\d+\/live$/);
await page.getByLabel('Encrypted (RTMPS)').uncheck();
const amsterdam = await server();
assert.match(amsterdam, /^rtmp:\/\/127\.0\.0\.1:\d+\/live$/);
assert.ok((await page.locator('#command').textContent()).endsWith(` ${amsterdam}/YOUR_STREAM_KEY`));
assert.ok(await page.locator('#copy-key').isDisabled());
said('the list, the server and the command are shown');

// The keyboard alone: through the places, to the key.
await page.locator('.ingest input').first().focus();
await page.keyboard.press('ArrowDown');
const chicago = await server();
assert.notEqual(chicago, amsterdam);
assert.ok(!(await page.locator('#secure-row').isVisible()), 'Chicago has no TLS');
await page.keyboard.press('ArrowUp');
assert.equal(await server(), amsterdam);
said('arrow keys choose');

await page.getByRole('textbox', { name: 'Your stream key' }).fill(` ${KEY} `);
assert.doesNotMatch(await page.locator('main').innerText(), new RegExp(KEY), 'shown without being asked');
await context.grantPermissions(['clipboard-read', 'clipboard-write']);
const copied = async (name, say) => {
  await page.getByRole('button', { name, exact: true }).click();
  await page.locator('#said', { hasText: say }).waitFor({ state: 'attached' });
  return page.evaluate(() => navigator.clipboard.readText());
};
assert.equal(await copied('Copy the server', 'Server copied'), amsterdam);
assert.equal(await copied('Copy the stream key', 'Stream key copied'), KEY);
assert.ok((await copied('Copy the ffmpeg command', 'Command copied')).endsWith(` ${amsterdam}/${KEY}`));
said('what is copied is whole');
await page.getByRole('button', { name: 'Show' }).click();
assert.equal(await page.locator('#obs-key').textContent(), KEY);
await page.getByRole('button', { name: 'Hide' }).click();
await page.screenshot({ path: `${pictures}/light.png`, fullPage: true });
await fits('1280 px');

// Refused at first: the page says so and goes on.
const locate = page.getByRole('button', { name: 'Sort by where I am' });
assert.ok(!asked.some((line) => line.includes('lat=')), 'asked for a position without a click');
await locate.click();
await page.locator('#located', { hasText: 'did not tell' }).waitFor();
await context.grantPermissions(['geolocation']);
await locate.click();
await page.waitForFunction(() => document.querySelector('.ingest-name').textContent === 'US: Chicago');
assert.ok(asked.some((line) => line.includes('/ingests?lat=42.4&lon=-71.1')), 'the position is rounded');
assert.match(await page.locator('.ingest-distance').first().textContent(), /^about 1,[34]00 km away$/);
// What was chosen stays chosen.
assert.equal(await server(), amsterdam);
said('a position sorts, once it is given');

await page.emulateMedia({ colorScheme: 'dark' });
await page.setViewportSize({ width: 360, height: 740 });
await fits('360 px');
await page.screenshot({ path: `${pictures}/phone-dark.png`, fullPage: true });
said('fits a phone');

const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href]));
assert.ok(!kept.includes(KEY), 'the key is kept');
assert.ok(!asked.some((line) => line.includes(KEY)), 'the key was sent');
await page.reload();
assert.equal(await page.locator('#key').inputValue(), '', 'the key outlives the page');
assert.deepEqual(wrong, []);
said('the key went nowhere');
await browser.close();
