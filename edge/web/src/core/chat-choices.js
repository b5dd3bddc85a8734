// What can be done with a line of chat, by click or by keyboard: links are opened,
// everybody mentions its author, moderators delete, time out and ban. It only says
// what is meant.

import { pieces } from './chat-text.js';

// As many as a menu has room for; more in one line are of use to nobody.
const MAX_LINKS = 8;

// [{ label, mention | open | command, grave? }]. `me` is the reader.
export function choices(line, me) {
  const found = [];
  if (me.login !== null) found.push({ label: `Mention ${line.display}`, mention: line.display });
  const links = new Set(pieces(line.text).filter(({ kind }) => kind === 'link').map(({ text }) => text));
  found.push(...[...links].slice(0, MAX_LINKS).map((open) => ({ label: `Open ${open}`, open })));
  // Nobody moderates the broadcaster, or themselves.
  if (!me.moderates || line.login === me.login || line.badges.includes('broadcaster')) return found;
  if (line.kind === 'message') found.push({ label: 'Delete message', command: `/delete ${line.id}` });
  if (line.kind === 'held') found.push({ label: 'Approve message', command: `/approve ${line.target}` }, { label: 'Deny message', command: `/deny ${line.target}` });
  return [
    ...found,
    { label: 'Time out for 1 minute', command: `/timeout ${line.login} 60` },
    { label: 'Time out for 10 minutes', command: `/timeout ${line.login} 600` },
    { label: `Ban ${line.display}`, command: `/ban ${line.login}`, grave: true },
  ];
}
