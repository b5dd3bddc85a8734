// The player of an edge that was built without the bundle: the browser's own
// HLS, or the command that builds the bundle.

const RETRY_MS = 3000;
const RETRY_SPREAD_MS = 2000;
const channel = location.pathname.slice('/watch/'.length);
// As core/source.js does.
const token = new URLSearchParams(location.search).get('token') ?? '';
const prefix = /^[\w-]{1,512}\.[\w-]{1,512}\.[\w-]{1,512}$/.test(token) ? `/s/${token}` : '';
const url = `${prefix}/live/${channel}/index.m3u8`;
const video = document.getElementById('video');
const state = document.getElementById('state');

document.getElementById('channel').textContent = channel;
document.title = `${channel} - Millrace`;

function say(text) {
  if (state.textContent !== text) state.textContent = text;
}

function retry() {
  setTimeout(load, RETRY_MS + Math.random() * RETRY_SPREAD_MS);
}

async function load() {
  try {
    const { status } = await fetch(url, { cache: 'no-store' });
    if (status === 200) {
      video.src = url;
      return;
    }
    if (status === 403) say('The link to this page has expired or is for another channel. Ask for a new one.');
    else say(status === 404 ? 'This channel is not live. Leave the page open: it starts by itself.' : 'Getting ready\u2026');
  } catch {
    say('The server does not answer. The page keeps trying.');
  }
  retry();
}

if (video.canPlayType('application/vnd.apple.mpegurl')) {
  video.addEventListener('playing', () => say('Live'));
  video.addEventListener('waiting', () => say('Interrupted. The picture comes back by itself.'));
  for (const end of ['error', 'ended']) video.addEventListener(end, retry);
  load();
} else {
  const command = document.createElement('code');
  command.textContent = 'deploy/web';
  video.hidden = true;
  state.replaceChildren(
    'This browser has no HLS of its own, and this edge was built without hls.js. Run ',
    command,
    ' in the repository, build the edge again, and this page plays.',
  );
}
