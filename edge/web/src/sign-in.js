// The development sign-in page: asks the edge for a token, keeps it where the watch
// page looks for it, and goes back there.

import { channelOfPath } from './core/channels.js';
import { credentialOfName, credentialOfToken, kept } from './core/credential.js';
import { store } from './store.js';

const REQUEST_MS = 10_000;
const byId = (id) => document.getElementById(id);

const asked = new URLSearchParams(location.search).get('to') ?? '';
// Nowhere else than to a channel of this edge.
const channel = channelOfPath(asked);

function say(text) {
  byId('state').textContent = text;
}

async function signIn() {
  const name = credentialOfName(byId('login').value);
  if (!name) {
    say('A name is 1 to 25 of the letters a to z, digits and _.');
    return;
  }
  const query = new URLSearchParams({ login: name.login, name: name.display, color: byId('colour').value });
  const role = byId('role').value;
  if (channel && role) {
    query.set('channel', channel);
    query.set('role', role);
  }
  const response = await fetch(`/api/v1/chat/token?${query}`, { cache: 'no-store', signal: AbortSignal.timeout(REQUEST_MS) });
  const credential = response.ok ? credentialOfToken((await response.json()).token, Date.now()) : null;
  if (!credential) {
    say(`The edge gave no token (${response.status}).`);
    return;
  }
  store.set('chat', kept(credential));
  location.assign(channel ? asked : '/');
}

byId('form').addEventListener('submit', (event) => {
  event.preventDefault();
  say('');
  signIn().catch(() => say('The edge does not answer.'));
});
byId('login').focus();
