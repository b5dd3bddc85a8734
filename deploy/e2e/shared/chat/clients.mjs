// Clients that others wrote, each through the same life in one room: it joins,
// talks both ways, is timed out, is banned, recovers, and comes back by itself when
// its edge is replaced. Who moderates and who reads along sit at another edge.
//
//   node clients.mjs KEYS-FILE DIRECTORY
//
// Edge 1 serves WebSocket on ports 80 and 443, IRC on 6667 and, over TLS, 6697;
// edge 2 on 8080 and 6668. The script that starts this replaces edge 1 when it reads
// `restart`, and answers by a file `restarted`.

import { createHmac } from 'node:crypto';
import { spawn } from 'node:child_process';
import { appendFileSync, existsSync, readFileSync, readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { ChatClient as Dank } from '@mastondzn/dank-twitch-irc';
import { ChatClient as Twurple } from '@twurple/chat';
import IRC from 'irc-framework';
import tmi from 'tmi.js';

const [, , keysFile, dir] = process.argv;
const CHANNEL = 'demo';
const ROOM = `#${CHANNEL}`;
// The longest that anything here may take before it counts as lost.
const PATIENCE_MS = 20_000;
// Long enough for a word to be said within it on a busy machine.
const TIMEOUT_S = 5;

const [kid, , secret] = readFileSync(keysFile, 'utf8').trim().split(/\s+/);
const base64url = (bytes) => Buffer.from(bytes).toString('base64url');

function jwt(login) {
  const header = base64url(JSON.stringify({ alg: 'HS256', typ: 'JWT', kid }));
  const body = { sub: `id-${login}`, aud: 'chat', exp: Math.floor(Date.now() / 1000) + 600, login };
  const signed = `${header}.${base64url(JSON.stringify(body))}`;
  return `${signed}.${createHmac('sha256', Buffer.from(secret, 'base64url')).update(signed).digest('base64url')}`;
}

/** The form that survives tmi.js's lowercasing. */
function base32(text) {
  let bits = '';
  for (const byte of Buffer.from(text)) bits += byte.toString(2).padStart(8, '0');
  return bits.match(/.{1,5}/g)
    .map((five) => 'abcdefghijklmnopqrstuvwxyz234567'[parseInt(five.padEnd(5, '0'), 2)])
    .join('');
}

const cleanups = [];

function end(status) {
  for (const cleanup of cleanups) cleanup();
  process.exit(status);
}

function fail(why) {
  console.error(`clients.mjs: ${why}`);
  end(1);
}

async function until(what, condition) {
  const over = Date.now() + PATIENCE_MS;
  while (!condition()) {
    if (Date.now() > over) fail(`not in time: ${what}`);
    await sleep(10);
  }
}

/** What every client is made into: what it says, and what it was told. */
function actor(login, say) {
  return { login, say, texts: [], refusals: 0, timeouts: 0, bans: 0, joined: false };
}

const quiet = { info() {}, warn() {}, error() {}, setLevel() {} };

async function tmiJs(login, port, secure = false) {
  const identity = login === null ? undefined : { username: login, password: `oauth:${base32(jwt(login))}` };
  const client = new tmi.Client({
    options: { skipUpdatingEmotesets: true },
    connection: { server: '127.0.0.1', port, secure, reconnect: true, reconnectInterval: 500 },
    logger: quiet,
    identity,
    channels: [ROOM],
  });
  const made = actor(login ?? 'reader', (text) => client.say(ROOM, text).catch(() => {}));
  client.on('message', (_, tags, text, self) => self || made.texts.push(`${tags.username}: ${text}`));
  client.on('timeout', (_, user) => { made.timeouts += user === login; });
  client.on('ban', (_, user) => { made.bans += user === login; });
  client.on('notice', (_, id) => { made.refusals += /^msg_(banned|timedout)$/.test(id); });
  client.on('roomstate', () => { made.joined = true; });
  await client.connect();
  return Object.assign(made, { client });
}

// Twitch's own service for tokens, which twurple asks whose a token is: a bot that
// talks to another server answers for it.
const { fetch } = globalThis;
globalThis.fetch = async (url, options) => {
  if (!String(url).startsWith('https://id.twitch.tv/oauth2/validate')) return fetch(url, options);
  const token = new Headers(options.headers).get('authorization').split(' ')[1];
  const { sub, login } = JSON.parse(Buffer.from(token.split('.')[1], 'base64url').toString());
  return Response.json({ client_id: 'millrace', login, scopes: ['chat:read', 'chat:edit'], user_id: sub, expires_in: 600 });
};

/** Its token comes from a provider, as its interface asks. */
async function twurple(login) {
  const token = { accessToken: jwt(login), refreshToken: null, scope: ['chat:read', 'chat:edit'], expiresIn: null, obtainmentTimestamp: 0, userId: `id-${login}` };
  const client = new Twurple({
    authProvider: {
      clientId: 'millrace',
      getCurrentScopesForUser: () => token.scope,
      getAccessTokenForUser: async () => token,
      getAccessTokenForIntent: async () => token,
      getAnyAccessToken: async () => token,
    },
    hostName: '127.0.0.1',
    ssl: false,
    channels: [CHANNEL],
    logger: { minLevel: 'critical' },
  });
  const made = actor(login, (text) => client.say(CHANNEL, text).catch(() => {}));
  client.onMessage((_, user, text) => made.texts.push(`${user}: ${text}`));
  client.onTimeout((_, user) => { made.timeouts += user === login; });
  client.onBan((_, user) => { made.bans += user === login; });
  // It takes msg_banned for a join that failed, and tells nobody.
  client.irc.onNamedMessage('NOTICE', (message) => {
    made.refusals += /^msg_(banned|timedout)$/.test(message.tags.get('msg-id') ?? '');
  });
  client.onJoin(() => { made.joined = true; });
  client.connect();
  return made;
}

async function dank(login) {
  const client = new Dank({
    username: login,
    password: jwt(login),
    connection: { type: 'tcp', host: '127.0.0.1', port: 6667, secure: false },
  });
  const made = actor(login, (text) => client.say(CHANNEL, text).catch(() => { made.refusals += 1; }));
  client.on('PRIVMSG', (message) => made.texts.push(`${message.senderUsername}: ${message.messageText}`));
  client.on('CLEARCHAT', (message) => {
    if (message.targetUsername !== login) return;
    if (message.isTimeout()) made.timeouts += 1; else made.bans += 1;
  });
  client.on('NOTICE', (message) => { made.refusals += /^msg_(banned|timedout)$/.test(message.messageID ?? ''); });
  client.on('JOIN', (message) => { made.joined ||= message.joinedUsername === login; });
  client.on('error', (error) => { if (process.env.ONLY) console.error(error); });
  client.connect();
  client.join(CHANNEL).catch(() => {});
  return made;
}

/** IRCv3: echo-message, batches, labels; no capability of Twitch's. */
async function framework(login) {
  const client = new IRC.Client();
  const made = actor(login, (text) => client.say(ROOM, text));
  client.on('registered', () => client.join(ROOM));
  client.on('join', (event) => { made.joined ||= event.nick === login; });
  client.on('privmsg', (event) => {
    if (event.target === ROOM && event.nick !== login) made.texts.push(`${event.nick}: ${event.message}`);
  });
  client.on('notice', (event) => {
    made.refusals += /not sent|timed out|banned/i.test(event.message);
  });
  client.connect({
    host: '127.0.0.1',
    port: 6667,
    nick: login,
    username: login,
    gecos: login,
    password: `oauth:${jwt(login)}`,
    enable_echomessage: true,
    auto_reconnect: true,
    auto_reconnect_max_wait: 1_000,
    auto_reconnect_max_retries: 50,
  });
  return made;
}

/** Driven as a person's scripts drive it: its pipe in, its log out. */
async function weechat(login) {
  const home = `${dir}/weechat`;
  const pipe = `${home}/pipe`;
  const commands = [
    `/set fifo.file.path "${pipe}"`,
    '/fifo enable',
    '/set logger.file.flush_delay 0',
    '/set irc.server_default.autoreconnect_delay 1',
    '/set irc.look.smart_filter off',
    `/server add mill 127.0.0.1/6697 -nicks=${login} -username=${login} -password=oauth:${jwt(login)} -autojoin=${ROOM}`,
    '/set irc.server.mill.ssl on',
    '/set irc.server.mill.ssl_verify off',
    '/connect mill',
  ];
  const child = spawn('weechat-headless', ['--dir', home, ...commands.flatMap((command) => ['-r', command])], {
    stdio: 'ignore',
    env: { ...process.env, HOME: dir },
  });
  cleanups.push(() => child.kill('SIGKILL'));
  child.on('exit', (code) => fail(`WeeChat ended: ${code}`));
  const read = (kind) => {
    const logs = existsSync(`${home}/logs`) ? readdirSync(`${home}/logs`) : [];
    const log = logs.find((name) => name.endsWith(kind));
    return log ? readFileSync(`${home}/logs/${log}`, 'utf8') : '';
  };
  const room = () => read(`mill.${ROOM}.weechatlog`);
  const made = actor(login, (text) => {
    if (existsSync(pipe)) appendFileSync(pipe, `irc.mill.${ROOM} *${text}\n`);
  });
  // A line of the log: time, who, text.
  Object.defineProperties(made, {
    joined: { get: () => /has joined/.test(room()) },
    texts: {
      get: () => room().split('\n').map((line) => line.split('\t')).filter((parts) => parts.length === 3)
        .map(([, who, text]) => `${who.replace(/^[@+%&~]/, '')}: ${text}`),
    },
    refusals: {
      get: () => (room() + read('mill.weechatlog')).split('\n').filter((line) => /not sent|timed out|banned/i.test(line)).length,
    },
  });
  return made;
}

const makers = { tmi: (login) => tmiJs(login, 443, true), twurple, dank, framework, weechat };
const only = process.env.ONLY?.split(',') ?? Object.keys(makers);
const demo = await tmiJs('demo', 8080);
const reader = await tmiJs(null, 8080);
await until('demo and a reader in the room', () => demo.joined && reader.joined);
const actors = [];
for (const kind of only) actors.push(Object.assign(await makers[kind](kind), { kind }));

const said = (who, text) => reader.texts.includes(`${who}: ${text}`);

/** Says something, and again if it must, until it is read at the other edge. */
async function getsThrough({ login, say }, text, every = PATIENCE_MS) {
  const over = Date.now() + PATIENCE_MS;
  while (Date.now() < over) {
    say(text);
    const next = Date.now() + every;
    while (Date.now() < Math.min(next, over)) {
      if (said(login, text)) return;
      await sleep(10);
    }
  }
  fail(`not in time: ${login} is read at the other edge: ${text}`);
}

async function silenced(one, what) {
  const before = one.refusals;
  one.say(`${what} ${one.login}`);
  await until(`${one.login} is told of its ${what}`, () => one.refusals > before);
  if (said(one.login, `${what} ${one.login}`)) fail(`${one.login} was read in spite of its ${what}`);
}

/** Until it is silenced; when its voice comes back. */
async function talks(one) {
  const { login } = one;
  await until(`${login} in the room`, () => one.joined);
  await getsThrough(one, `hello from ${login}`);
  demo.say(`hello ${login}`);
  await until(`${login} hears`, () => one.texts.includes(`demo: hello ${login}`));
  await demo.client.timeout(ROOM, login, TIMEOUT_S, 'spam');
  const over = Date.now() + TIMEOUT_S * 1_000 + 100;
  await silenced(one, 'time-out');
  return over;
}

async function isBanned(one) {
  const { login } = one;
  await demo.client.ban(ROOM, login, 'spam');
  await silenced(one, 'ban');
  await demo.client.unban(ROOM, login);
  await getsThrough(one, `free, ${login}`);
  // Those that speak Twitch's dialect are told who was sent off.
  const twitch = ['tmi', 'twurple', 'dank'].includes(one.kind);
  if (twitch && (one.timeouts !== 1 || one.bans !== 1)) fail(`${login} saw ${one.timeouts} time-outs and ${one.bans} bans of its own`);
  console.log(`ok ${login}: joined, talked, was timed out and banned, recovered`);
}

// One after another: a moderator's command is answered by a notice without a name.
const ends = [];
for (const one of actors) ends.push(await talks(one));
await Promise.all(actors.map(async (one, at) => {
  await sleep(Math.max(0, ends[at] - Date.now()));
  await getsThrough(one, `back, ${one.login}`);
}));
for (const one of actors) await isBanned(one);

console.log('restart');
await until('another edge', () => existsSync(`${dir}/restarted`));
await Promise.all(actors.map(async (one) => {
  await getsThrough(one, `again, ${one.login}`, 1_500);
  demo.say(`welcome back, ${one.login}`);
  await until(`${one.login} hears again`, () => one.texts.includes(`demo: welcome back, ${one.login}`));
  console.log(`ok ${one.login}: came back after RECONNECT`);
}));
end(0);
