// The list of channels of an edge that was built without the bundle.

const REFRESH_MS = 4000;
const list = document.getElementById('channels');
const lead = document.getElementById('lead');

function show(names) {
  lead.textContent = names.length > 0 ? '' : 'Nobody is live right now. Channels appear here as soon as they start.';
  if (names.join() === [...list.children].map((item) => item.textContent).join()) return;
  list.replaceChildren(
    ...names.map((name) => {
      const item = document.createElement('li');
      const link = document.createElement('a');
      link.href = `/watch/${name}`;
      link.textContent = name;
      item.append(link);
      return item;
    }),
  );
}

async function refresh() {
  try {
    const { channels } = await (await fetch('/api/v1/channels', { cache: 'no-store' })).json();
    show(channels.filter(({ state }) => state !== 'ended').map(({ name }) => name).filter((name) => /^[a-z0-9_]{1,32}$/.test(name)));
  } catch {
    lead.textContent = 'The server does not answer. The page keeps trying.';
  }
  setTimeout(refresh, REFRESH_MS);
}

refresh();
