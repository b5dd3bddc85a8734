// From IRC lines of a room to what a page shows of them. In: a parsed line. Out:
// plain objects, whose fields are checked; nothing in them is to be trusted as
// HTML.

const BADGES = ['broadcaster', 'moderator', 'vip', 'subscriber'];

const time = (text) => {
  const ms = Date.parse(text ?? '');
  return Number.isFinite(ms) ? ms : null;
};

// `epoch.offset`: the room's own order. An epoch may be more than a number holds.
function place(tag) {
  const match = /^(\d{1,20})\.(\d{1,15})$/.exec(tag ?? '');
  return match ? { epoch: match[1], offset: Number(match[2]) } : { epoch: '', offset: 0 };
}

// The badges that we draw, in the order in which they came.
export function badges(tag) {
  const sets = (tag ?? '').split(',').map((badge) => badge.split('/', 1)[0]);
  return sets.filter((set, at) => BADGES.includes(set) && sets.indexOf(set) === at);
}

const author = (line) => ({
  login: line.nick || line.tags.get('login') || '',
  display: line.tags.get('display-name') || line.nick || line.tags.get('login') || '',
  colour: line.tags.get('color') || null,
  badges: badges(line.tags.get('badges')),
});

// A PRIVMSG or a USERNOTICE as a message; null without an id, by which lines are
// told apart.
export function messageOf(line) {
  const { tags, params } = line;
  const id = tags.get('id') ?? tags.get('msgid') ?? null;
  if (id === null) return null;
  const said = params[1] ?? '';
  const action = /^\x01ACTION (.*?)\x01?$/s.exec(said);
  const notice = line.command === 'USERNOTICE';
  return {
    kind: notice ? 'notice' : 'message',
    id,
    ...place(tags.get('millrace/offset')),
    time: tags.get('time') ?? null,
    programMs: time(tags.get('millrace/programme-time')),
    ...author(line),
    text: action ? action[1] : said,
    action: action !== null,
    emotes: tags.get('emotes') ?? '',
    system: notice ? tags.get('system-msg') ?? '' : '',
    reply: tags.has('reply-parent-msg-id')
      ? { display: tags.get('reply-parent-display-name') ?? '', login: tags.get('reply-parent-user-login') ?? '', text: tags.get('reply-parent-msg-body') ?? '' }
      : null,
  };
}

// A NOTICE by which moderators see what is held for them; its id is not the
// message's, which is said under its own once it is approved.
export function heldOf(line) {
  const target = line.tags.get('target-msg-id') ?? '';
  const text = /^Held for review: [^:]*: (.*) \(\/approve \S+ or \/deny \S+\)$/s.exec(line.params[1] ?? '')?.[1];
  return {
    ...messageOf({ ...line, tags: new Map([...line.tags, ['id', heldId(target)]]) }),
    kind: 'held',
    target,
    login: line.tags.get('login') ?? '',
    display: line.tags.get('display-name') || line.tags.get('login') || '',
    text: text ?? line.params[1] ?? '',
  };
}

export const heldId = (target) => `held-${target}`;

// CLEARCHAT and CLEARMSG: what is to go.
export function removalOf(line) {
  const { tags, params } = line;
  if (line.command === 'CLEARMSG') return { what: 'message', id: tags.get('target-msg-id') ?? '', login: tags.get('login') ?? '' };
  if (params[1] === undefined) return { what: 'all' };
  const seconds = Number(tags.get('ban-duration'));
  return { what: 'user', login: params[1], seconds: tags.has('ban-duration') && seconds >= 0 ? seconds : null };
}

// ROOMSTATE over what was known: only what a line names changes.
export function roomOf(line, before) {
  const number = (name, otherwise) => {
    const value = Number(line.tags.get(name));
    return line.tags.has(name) && Number.isFinite(value) ? value : otherwise;
  };
  const followers = number('followers-only', before.followersMin ?? -1);
  return {
    slowS: Math.max(0, number('slow', before.slowS)),
    emoteOnly: number('emote-only', Number(before.emoteOnly)) === 1,
    subscribersOnly: number('subs-only', Number(before.subscribersOnly)) === 1,
    unique: number('r9k', Number(before.unique)) === 1,
    noLinks: number('millrace/no-links', Number(before.noLinks)) === 1,
    followersMin: followers < 0 ? null : followers,
  };
}

export const ANY_ROOM = { slowS: 0, emoteOnly: false, subscribersOnly: false, unique: false, noLinks: false, followersMin: null };

// The rules of a room in words, for who wants to write there.
export function rules(room) {
  const said = [];
  if (room.slowS > 0) said.push(`Slow mode, ${room.slowS} s`);
  if (room.emoteOnly) said.push('Emotes only');
  if (room.subscribersOnly) said.push('Subscribers only');
  if (room.followersMin !== null) said.push('Followers only');
  if (room.unique) said.push('No repeats');
  if (room.noLinks) said.push('No links');
  return said.join(' \u00b7 ');
}

// USERSTATE: what the reader is in the room.
export function selfOf(line, before) {
  const held = badges(line.tags.get('badges'));
  const moderates = held.includes('broadcaster') || held.includes('moderator') || line.tags.get('mod') === '1';
  return {
    ...before,
    display: line.tags.get('display-name') || before.display,
    colour: line.tags.get('color') || before.colour,
    badges: held,
    moderates,
    // Slow mode passes over these.
    exempt: moderates || held.includes('vip'),
  };
}

// How long a refusal lasts, if it says so in seconds.
export function waitS(notice) {
  const match = /(\d{1,7}) (?:more )?seconds/.exec(notice);
  return match ? Number(match[1]) : null;
}

export function durationWords(seconds) {
  const units = [[86_400, 'day'], [3600, 'hour'], [60, 'minute'], [1, 'second']];
  const [size, name] = units.find(([unit]) => seconds >= unit) ?? units.at(-1);
  const count = Math.round(seconds / size);
  return `${count} ${name}${count === 1 ? '' : 's'}`;
}
