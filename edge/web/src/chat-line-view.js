// One line of chat as nodes. Whatever a stranger wrote becomes text or, after a
// check, the address of a link or an image: never markup.

import { mentions, pieces } from './core/chat-text.js';
import { nameColours } from './core/colour.js';

export const LINK_REL = 'noopener noreferrer nofollow ugc';
const SVG = 'http://www.w3.org/2000/svg';
const BADGES = {
  broadcaster: ['Broadcaster', 'M3.5 6.5h9.5v11H3.5zm10.8 3.4 6.2-3.1v10.4l-6.2-3.1z'],
  moderator: ['Moderator', 'M12 2.8l7.6 2.9v5.6c0 4.6-3.1 8-7.6 9.9-4.5-1.9-7.6-5.3-7.6-9.9V5.7z'],
  vip: ['VIP', 'M6.2 4.5h11.6l4 5.2L12 20.5 2.2 9.7z'],
  subscriber: ['Subscriber', 'm12 2.8 2.8 5.9 6.4.8-4.7 4.4 1.2 6.4-5.7-3.2-5.7 3.2 1.2-6.4L2.8 9.5l6.4-.8z'],
};

export function element(tag, className, text) {
  const node = document.createElement(tag);
  node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

export function badge(name) {
  const [label, path] = BADGES[name];
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('class', `line-badge ${name}`);
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', label);
  const title = document.createElementNS(SVG, 'title');
  title.textContent = label;
  const shape = document.createElementNS(SVG, 'path');
  shape.setAttribute('d', path);
  svg.append(title, shape);
  return svg;
}

export function paintName(node, colour, login) {
  const { light, dark } = nameColours(colour, login);
  node.style.setProperty('--on-light', light);
  node.style.setProperty('--on-dark', dark);
}

function emoteNode({ text, emote }) {
  if (emote.emoji) {
    const node = element('span', 'emote-char', emote.emoji);
    node.setAttribute('role', 'img');
    node.setAttribute('aria-label', text);
    node.title = text;
    return node;
  }
  const image = element('img', 'emote');
  Object.assign(image, { alt: text, title: text, loading: 'lazy', decoding: 'async', draggable: false, referrerPolicy: 'no-referrer', src: emote.image });
  return image;
}

const NODES = {
  text: ({ text }) => document.createTextNode(text),
  mention: ({ text }) => element('strong', 'line-mention', text),
  emote: emoteNode,
  link: ({ text }) => {
    const link = element('a', 'line-link', text);
    link.href = text;
    link.target = '_blank';
    link.rel = LINK_REL;
    // By keyboard the line's menu opens it.
    link.tabIndex = -1;
    return link;
  },
};

function clock(time) {
  const date = new Date(time ?? NaN);
  return Number.isNaN(date.getTime()) ? '' : date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' });
}

function reply({ display, login, text }) {
  const node = element('span', 'line-reply');
  node.append(element('b', '', `@${display || login}`), ` ${text}`);
  return node;
}

function verdict(label, command) {
  const button = element('button', 'line-verdict', label);
  Object.assign(button, { type: 'button', tabIndex: -1 });
  button.dataset.command = command;
  return button;
}

// `set` of emotes; `login` of the reader or null.
export function lineNode(line, { set, login }) {
  const node = element('div', 'chat-line');
  node.tabIndex = -1;
  node.dataset.id = line.id;
  node.dataset.kind = line.kind;
  if (line.kind === 'system') {
    node.textContent = line.text;
    return node;
  }
  const cut = pieces(line.text, { tag: line.emotes, set, login });
  const spoken = login !== null && !line.own && (mentions(cut) || line.reply?.login === login);
  node.classList.toggle('spoken-to', spoken);
  node.classList.toggle('own', line.own);
  node.classList.toggle('action', line.action);
  if (line.system) node.append(element('span', 'line-system', line.system));
  if (line.reply) node.append(reply(line.reply));
  node.append(...line.badges.map(badge));
  const name = element('button', 'line-name', line.display);
  Object.assign(name, { type: 'button', tabIndex: -1, title: clock(line.time) });
  name.dataset.login = line.login;
  paintName(name, line.colour, line.login);
  const text = element('span', 'line-text');
  text.append(...cut.map((piece) => NODES[piece.kind](piece)));
  if (line.kind === 'held') node.append(element('span', 'line-system', 'Held for review'));
  node.append(name, element('span', 'line-colon', line.action ? ' ' : ': '), text);
  if (line.kind === 'held') node.append(verdict('Approve', `/approve ${line.target}`), verdict('Deny', `/deny ${line.target}`));
  return node;
}
