// Who the reader is: a name where anybody may take one, or a signed token (JWT),
// of which the server alone knows whether it is good. Here it is only read for
// whose it is and how long it lasts.

const LOGIN = /^[a-z0-9_]{1,25}$/;
const ANONYMOUS = /^justinfan\d+$/;
const TOKEN = /^[\w-]{1,3000}\.[\w-]{1,3000}\.[\w-]{1,600}$/;

// A name as somebody types it, or null where the server would not take it.
export function credentialOfName(name) {
  const display = String(name).trim().replace(/^@/, '');
  const login = display.toLowerCase();
  return LOGIN.test(login) && !ANONYMOUS.test(login) ? { login, display } : null;
}

function body(token) {
  try {
    const text = token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(text), (c) => c.charCodeAt(0))));
  } catch {
    return null;
  }
}

// `nowMs` since 1970. null for what is no token, or one that has run out.
export function credentialOfToken(token, nowMs) {
  if (typeof token !== 'string' || !TOKEN.test(token)) return null;
  const said = body(token);
  if (!LOGIN.test(said?.login ?? '') || !(said.exp * 1000 > nowMs)) return null;
  return { login: said.login, display: typeof said.name === 'string' ? said.name : said.login, token };
}

// What was kept for the next visit: a token, or a name.
export function readKept(text, nowMs) {
  const kept = text ?? '';
  return kept.includes('.') ? credentialOfToken(kept, nowMs) : credentialOfName(kept);
}

export const kept = (credential) => (credential === null ? null : credential.token ?? credential.display);

// Who the reader is when a page opens: by the token in its address, or as `store` kept
// it. Where storage is off, a token that came along holds for this page.
export function arriving(token, store, nowMs) {
  const given = token === null ? null : credentialOfToken(token, nowMs);
  if (given) store.set('chat', kept(given));
  return given ?? readKept(store.get('chat'), nowMs);
}

// A token in the address of a page, behind the `#`, where no server sees it:
// `#chat=TOKEN`.
export function tokenOfHash(hash) {
  return new URLSearchParams(String(hash).replace(/^#/, '')).get('chat');
}
