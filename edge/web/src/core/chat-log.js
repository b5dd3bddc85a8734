// The lines of a chat between their arrival and the screen.
//
// In: messages and removals in the order of the room, and where the picture is.
// Out: lines to append, and ids to take away. It owns what is shown, what is ready
// to be shown, and what waits for the picture; each message is in one of them, and
// never twice. Bounds: LINES on the screen, as many ready and as many waiting; what
// is too much goes from the old end. It knows neither the DOM nor a clock.

export const LINES = 500;
// A message waits for its picture for so long at most: a clock or a picture that
// stands still must not swallow a chat.
export const HOLD_MS = 15_000;
// Ids that were here and went, so that a history does not bring them back.
const GONE = 1000;

export class ChatLog {
  // Lines that were left out because nobody could have read them.
  skipped = 0;

  #waiting = [];
  #ready = [];
  #shown = [];
  #ids = new Map();
  #gone = new Set();
  #serial = 0;

  get waiting() {
    return this.#waiting.length;
  }

  get ready() {
    return this.#ready.length;
  }

  get shown() {
    return this.#shown.length;
  }

  // `at` is where the picture is, in ms of programme time, or null where nothing
  // waits for it. Whether the message was new.
  add(message, { nowMs, at = null, own = false }) {
    if (this.#ids.has(message.id) || this.#gone.has(message.id)) return false;
    const line = { ...message, own };
    this.#ids.set(line.id, line);
    const early = at !== null && !own && line.programMs !== null && line.programMs > at;
    // Behind those that wait already, whatever its own time says.
    if (early || (at !== null && !own && this.#waiting.length > 0)) {
      this.#waiting.push({ line, untilMs: nowMs + HOLD_MS });
      if (this.#waiting.length > LINES) this.#make(this.#waiting.shift().line);
    } else this.#make(line);
    return true;
  }

  // A line of the page's own.
  say(text, kind = 'system') {
    this.#serial += 1;
    this.#make({ id: `page-${this.#serial}`, kind, text });
  }

  // Lets go what the picture has come to.
  release(nowMs, at) {
    while (this.#waiting.length > 0) {
      const { line, untilMs } = this.#waiting[0];
      if (at !== null && line.programMs > at && nowMs < untilMs) break;
      this.#waiting.shift();
      this.#make(line);
    }
  }

  // Up to `most` lines to append, and the ids that fall off the other end.
  take(most) {
    const lines = this.#ready.splice(0, most);
    this.#shown.push(...lines);
    const over = Math.max(0, this.#shown.length - LINES);
    const dropped = this.#shown.splice(0, over).map(({ id }) => id);
    for (const id of dropped) this.#forget(id);
    return { lines, dropped };
  }

  // What moderators took away: the ids that are on the screen, to be taken off.
  remove(removal) {
    const goes = {
      all: () => true,
      user: (line) => line.login === removal.login,
      message: (line) => line.id === removal.id,
    }[removal.what];
    return this.#takeAway((line) => line.kind !== 'system' && goes(line));
  }

  // A stretch of the room's history is what is left of it: what we have of the
  // same stretch and it has not was removed while we were away.
  reconcile(messages) {
    const stretches = new Map();
    const ids = new Set();
    for (const message of messages) {
      ids.add(message.id);
      const { epoch, offset } = message;
      const stretch = stretches.get(epoch);
      if (stretch) stretch.to = offset;
      else stretches.set(epoch, { from: offset, to: offset });
    }
    return this.#takeAway((line) => {
      const stretch = line.kind === 'message' ? stretches.get(line.epoch) : undefined;
      if (!stretch || ids.has(line.id)) return false;
      return line.offset >= stretch.from && line.offset <= stretch.to;
    });
  }

  find(id) {
    return this.#ids.get(id) ?? null;
  }

  #takeAway(goes) {
    const stays = (line) => {
      if (!goes(line)) return true;
      this.#forget(line.id);
      this.#gone.add(line.id);
      return false;
    };
    this.#waiting = this.#waiting.filter(({ line }) => stays(line));
    this.#ready = this.#ready.filter(stays);
    const before = this.#shown;
    this.#shown = before.filter(stays);
    for (const id of this.#gone) {
      if (this.#gone.size <= GONE) break;
      this.#gone.delete(id);
    }
    return before.filter(({ id }) => this.#gone.has(id)).map(({ id }) => id);
  }

  #make(line) {
    this.#ready.push(line);
    if (this.#ready.length <= LINES) return;
    this.#forget(this.#ready.shift().id);
    this.skipped += 1;
  }

  #forget(id) {
    this.#ids.delete(id);
  }
}
