// The browser of the end-to-end tests.

import { existsSync } from 'node:fs';
import { basename } from 'node:path';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const CHROMIUM_ARGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--mute-audio',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
  '--autoplay-policy=no-user-gesture-required',
];

export function fail(message) {
  process.stderr.write(`${basename(process.argv[1])}: ${message}\n`);
  process.exit(2);
}

export async function launch() {
  if (!existsSync(CHROMIUM)) fail(`${CHROMIUM} is missing: apt-get install chromium, or set CHROMIUM`);
  let playwright;
  try {
    playwright = await import('playwright-core');
  } catch {
    fail('playwright-core is missing: run deploy/web --test');
  }
  return playwright.chromium.launch({ executablePath: CHROMIUM, args: CHROMIUM_ARGS });
}
