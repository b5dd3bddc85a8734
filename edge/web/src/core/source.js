// Where a channel's media are. A page that was given a viewer's token as
// `?token=` asks for everything behind it; what is no token is left alone, so
// that nothing from the page's address gets into a path unchecked.

const TOKEN = /^[\w-]{1,512}\.[\w-]{1,512}\.[\w-]{1,512}$/;

export function livePath(channel, search) {
  const token = new URLSearchParams(search).get('token') ?? '';
  return `${TOKEN.test(token) ? `/s/${token}` : ''}/live/${channel}/`;
}

// Tells two viewers behind one address apart, for the server's count of them:
// playlists alone are asked for with it, and no cache's key holds it.
export function withViewer(url, viewer) {
  return `${url}${url.includes('?') ? '&' : '?'}viewer=${viewer}`;
}

export function viewerId(randomBytes) {
  return Array.from(randomBytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
