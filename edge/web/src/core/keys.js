// What a key does to the player. In: the key and where it was pressed. Out: the
// name of an action, or null where the key is somebody else's.
//
// Letters and the space bar hold on the whole page, unless the viewer turned that
// off: who dictates, or strikes a key by accident, would steer otherwise (WCAG 2.1.4).
// Within the player they always hold. Up and down are the page's own to scroll by
// outside of it.

const EVERYWHERE = {
  ' ': 'play',
  k: 'play',
  m: 'mute',
  f: 'fullscreen',
  s: 'figures',
  d: 'fast',
  l: 'live',
  c: 'chat',
  ArrowLeft: 'back',
  ArrowRight: 'forward',
};
const WITHIN = { ...EVERYWHERE, ArrowUp: 'louder', ArrowDown: 'quieter' };

// `on` is what has the focus: 'slider', 'button' (links too), 'select' or null; `inside` whether
// that is within the player, `writing` whether it is in the chat; `everywhere` is the
// viewer's choice.
export function keyAction(key, { on, inside, writing, everywhere }) {
  // Who writes does not steer.
  if (writing || on === 'select') return null;
  // On a button or a link the space bar keeps its own meaning.
  if (key === ' ' && on === 'button') return null;
  // On a slider the arrows move it.
  if (on === 'slider' && key.startsWith('Arrow')) return null;
  const actions = inside ? WITHIN : everywhere ? EVERYWHERE : {};
  const name = key.length === 1 ? key.toLowerCase() : key;
  return Object.hasOwn(actions, name) ? actions[name] : null;
}
