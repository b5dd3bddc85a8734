// Moderation, as people at two edges see it, by IRC over TCP. Asks its script for
// what it can't do itself by printing a word and waiting for a file of that name.
// usage: moderation.mjs PORT PORT INTERFACE-URL TOKEN DIR
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createConnection } from "node:net";
import { setTimeout as pause } from "node:timers/promises";

const [one, two, url, token, dir] = process.argv.slice(2);
const CAPS = "twitch.tv/tags twitch.tv/commands batch draft/chathistory";

const fail = (why) => {
  console.error(why);
  process.exit(1);
};
setTimeout(() => fail("it took longer than 40 s"), 40_000);

class Client {
  lines = [];
  passed = [];
  waiting = null;

  constructor(port, nick, room = "demo") {
    this.nick = nick;
    this.room = room;
    this.socket = createConnection(Number(port), "127.0.0.1");
    let rest = "";
    this.socket.on("data", (data) => {
      const lines = (rest + data).split("\r\n");
      rest = lines.pop();
      this.lines.push(...lines);
      this.waiting?.();
    });
    this.socket.on("error", (error) => fail(`${nick}: ${error}`));
    this.write(`CAP REQ :${CAPS}\r\nNICK ${nick}\r\nJOIN #${room}`);
  }

  write(line) {
    this.socket.write(`${line}\r\n`);
  }

  say(text) {
    this.write(`PRIVMSG #${this.room} :${text}`);
  }

  // The next line that holds all of these; what is before it is passed over.
  async hears(...words) {
    const deadline = Date.now() + 10_000;
    for (;;) {
      while (this.lines.length > 0) {
        const line = this.lines.shift();
        this.passed.push(line);
        if (words.every((word) => line.includes(word))) return line;
      }
      if (Date.now() > deadline) fail(`${this.nick} never heard ${words.join(" and ")}`);
      await Promise.race([new Promise((heard) => (this.waiting = heard)), pause(200)]);
    }
  }
}

const api = async (method, path, body) => {
  const headers = { authorization: `Bearer ${token}` };
  const answer = await fetch(url + path, { method, headers, body: body && JSON.stringify(body) });
  return [answer.status, await answer.json()];
};

const done = async (word) => {
  console.log(word);
  while (!existsSync(`${dir}/${word}`)) await pause(50);
};

const expect = (what, holds) => {
  if (!holds) fail(`not so: ${what}`);
};

const demo = new Client(one, "demo");
const ann = new Client(one, "ann");
const max = new Client(two, "max");
let bob = new Client(two, "bob");
const zoe = new Client(two, "zoe", "other");
for (const client of [demo, ann, max, bob, zoe]) await client.hears("ROOMSTATE #");

// The operator's files.
max.say("/mods");
await max.hears("msg-id=room_mods", "max");
ann.say("hi Kappa");
await bob.hears("emotes=25:3-7;", "PRIVMSG #demo :hi Kappa");
ann.say("such worstwords");
await ann.hears("@msg-id=msg_rejected_mandatory", "NOTICE #demo");

// Held for review.
max.say("/blockedterm hold hmm");
await max.hears("msg-id=blocked_term_added");
ann.say("hmm one");
await ann.hears("@msg-id=msg_rejected ");
const held = await max.hears("msg-id=held_for_review", "ann: hmm one");
max.say(`/approve ${held.match(/target-msg-id=([^;]+)/)[1]}`);
await max.hears("msg-id=held_approved");
await bob.hears("PRIVMSG #demo :hmm one");
await ann.hears("PRIVMSG #demo :hmm one");
ann.say("hmm two");
const denied = await demo.hears("msg-id=held_for_review", "ann: hmm two");
max.say(`/deny ${denied.match(/target-msg-id=([^;]+)/)[1]}`);
await ann.hears("@msg-id=msg_rejected_mandatory");
console.log("ok terms and review");

// Links.
max.say("/nolinks");
await bob.hears("millrace/no-links=1", "ROOMSTATE #demo");
bob.say("see example.com");
await bob.hears("@msg-id=msg_rejected_mandatory");
max.say("/permit bob");
await max.hears("msg-id=permit_success");
bob.say("see example.com");
await ann.hears("PRIVMSG #demo :see example.com");

// Roles, told at once and without a message.
demo.say("/mod ann");
await ann.hears("mod=1;", "USERSTATE #demo");
demo.say("/unmod ann");
await ann.hears("mod=0;", "USERSTATE #demo");
demo.say("/emoteonly");
await bob.hears("emote-only=1;", "ROOMSTATE");
bob.say("hello");
await bob.hears("@msg-id=msg_emoteonly");
bob.say("Kappa Kappa");
await ann.hears("emotes=25:0-4,6-10;");
demo.say("/emoteonlyoff");
await bob.hears("emote-only=0;", "ROOMSTATE");
demo.say("/raid other");
await demo.hears("msg-id=raid_success");
await zoe.hears("msg-id=raid;", "msg-param-login=demo", "USERNOTICE #other");
console.log("ok links, roles, emotes and a raid");

// The interface.
expect("a time-out by the interface", (await api("POST", "/timeouts", { login: "bob", seconds: 600 }))[0] === 200);
await ann.hears("ban-duration=600", "CLEARCHAT #demo :bob");
bob.say("why");
await bob.hears("@msg-id=msg_timedout");
const [, all] = await api("GET", "");
expect("its view of the room", all.bans_and_timeouts === 1 && all.settings.no_links && all.terms[0].term === "hmm");
expect("a mistake is told", (await api("POST", "/bans", { login: "a n" }))[0] === 400);
await done("new-roles");
await max.hears("mod=0;", "USERSTATE #demo");
max.say("/clear");
await max.hears("@msg-id=no_permission");
console.log("ok interface and a new roles file");

// The origin is killed, and with it the edge that might have remembered.
ann.say("last words");
await ann.hears("USERSTATE #demo");
for (const client of [max, bob, zoe]) client.socket.destroy();
await done("kill-origin");
bob = new Client(two, "bob");
await bob.hears("ROOMSTATE #demo");
bob.say("still here");
await bob.hears("@msg-id=msg_timedout");
expect("an earlier life is no news", !bob.passed.some((line) => line.includes("PRIVMSG")));
ann.say("first words");
await demo.hears("PRIVMSG #demo :first words");
ann.say("such worstwords, hmm");
await ann.hears("@msg-id=msg_rejected_mandatory");
const kim = new Client(two, "kim");
const state = await kim.hears("ROOMSTATE #demo");
expect("links are still blocked", state.includes("millrace/no-links=1"));
kim.write("CHATHISTORY LATEST #demo * 100");
await kim.hears("BATCH +h1");
// By bob all is hidden.
for (const text of ["hi Kappa", "hmm one", "last words", "first words"]) await kim.hears(`PRIVMSG #demo :${text}`);
const log = readdirSync(`${dir}/chat-log/demo`).flatMap((file) => {
  const lines = readFileSync(`${dir}/chat-log/demo/${file}`, "utf8").trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line));
});
const said = log.find((line) => line.type === "message" && line.text === "last words");
expect("a log with programme time", Math.abs(said.programme_ms - Date.now()) < 60_000);
console.log("ok a killed origin");
process.exit(0);
