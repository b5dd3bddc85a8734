// Buttons, slider, quality list and keys of the player. It acts on the video
// element alone, and asks the page for what concerns the live edge.

import { rendition } from './core/format.js';
import { keyAction } from './core/keys.js';
import { store } from './store.js';

const HIDE_MS = 3000;
// A phone has no room for figures unless they are asked for.
const NARROW = '(max-width: 40rem)';
const SEEK_S = 5;
const VOLUME_STEP = 0.05;
// Where the switch of the keys is not shown, they don't hold on the whole page either.
const NO_KEYS = '(hover: none)';
// What has keys of its own. On the bar of the past they mean what they mean everywhere.
const KINDS = [['slider', '.volume'], ['select', 'select'], ['button', 'button, a, summary']];
const byId = (id) => document.getElementById(id);

export class Controls {
  #stage;
  #video;
  #goLive;
  #seekBy;
  #setFast;
  #goChat;
  #hideTimer = null;
  #levels = '';
  #keys = store.get('keys') !== 'off';
  #hls = null;

  constructor({ stage, video, goLive, seekBy, setFast, goChat }) {
    this.#stage = stage;
    this.#video = video;
    this.#goLive = goLive;
    this.#seekBy = seekBy;
    this.#setFast = setFast;
    this.#goChat = goChat;
    // A volume is remembered; sound is not, since no page may start with it.
    video.muted = true;
    video.volume = Math.min(1, Math.max(0, Number(store.get('volume') ?? 1) || 0)) || 1;
    this.#bindButtons();
    this.#bindPointer();
    document.addEventListener('keydown', (event) => this.#key(event));
    this.showFigures((store.get('figures') ?? (matchMedia(NARROW).matches ? 'off' : 'on')) === 'on');
    this.showPlaying();
    this.showVolume();
    this.#showKeys();
  }

  tick(player) {
    this.showPlaying();
    this.#showLevels(player.hls);
  }

  showBadge(text, behind) {
    const badge = byId('badge');
    byId('badge-text').textContent = behind ? 'Go live' : text;
    badge.disabled = !behind;
  }

  showPlaying() {
    const { paused } = this.#video;
    this.#stage.dataset.paused = String(paused);
    byId('play').setAttribute('aria-label', paused ? 'Play' : 'Pause');
    byId('start').hidden = !(paused && this.#stage.dataset.state !== 'offline' && this.#video.readyState > 1);
  }

  showVolume() {
    const { muted, volume } = this.#video;
    const silent = muted || volume === 0;
    this.#stage.dataset.muted = String(silent);
    byId('mute').setAttribute('aria-label', silent ? 'Turn sound on' : 'Turn sound off');
    byId('volume').value = String(silent ? 0 : Math.round(volume * 100));
    byId('sound').hidden = !silent || this.#stage.dataset.heard === 'true';
  }

  // Whether the viewer's last choice was fast mode.
  wantsFast() {
    return store.get('mode') === 'fast';
  }

  showFast({ possible, on, unfit }) {
    const button = byId('fast');
    button.hidden = !possible;
    button.setAttribute('aria-pressed', String(on));
    button.dataset.unfit = String(unfit);
    button.title = unfit
      ? 'Your network could not hold fast mode (d tries again)'
      : on ? 'Least delay is on (d)' : 'Least delay (d)';
  }

  showFigures(on) {
    byId('figures').hidden = !on;
    const toggle = byId('figures-toggle');
    toggle.setAttribute('aria-pressed', String(on));
    toggle.setAttribute('aria-label', 'Figures');
    toggle.title = on ? 'Hide figures (s)' : 'Show figures (s)';
  }

  #bindButtons() {
    const video = this.#video;
    byId('play').addEventListener('click', () => this.#togglePlay());
    byId('start').addEventListener('click', () => this.#togglePlay());
    byId('mute').addEventListener('click', () => this.#toggleMute());
    byId('sound').addEventListener('click', () => this.#toggleMute());
    byId('badge').addEventListener('click', () => this.#goLive());
    byId('figures-toggle').addEventListener('click', () => this.#toggleFigures());
    byId('fast').addEventListener('click', () => this.#toggleFast());
    byId('keys-toggle').addEventListener('click', () => {
      this.#keys = !this.#keys;
      store.set('keys', this.#keys ? 'on' : 'off');
      this.#showKeys();
    });
    byId('fullscreen').addEventListener('click', () => this.#toggleFullscreen());
    byId('volume').addEventListener('input', ({ target }) => this.#setVolume(target.value / 100));
    byId('quality').addEventListener('change', ({ target }) => {
      if (this.#hls) this.#hls.nextLevel = Number(target.value);
    });
    video.addEventListener('volumechange', () => this.showVolume());
    video.addEventListener('play', () => this.showPlaying());
    document.addEventListener('fullscreenchange', () => this.#showFullscreen());
    this.#showFullscreen();
  }

  // A mouse click on the picture plays and pauses; a tap only brings the
  // controls back, as there is no hovering with a finger.
  #bindPointer() {
    const screen = byId('screen');
    const wake = () => this.#wake();
    screen.addEventListener('pointermove', wake);
    screen.addEventListener('pointerdown', wake);
    screen.addEventListener('focusin', wake);
    screen.addEventListener('pointerleave', () => this.#sleep());
    this.#video.addEventListener('click', (event) => {
      if (event.pointerType !== 'touch') this.#togglePlay();
    });
    this.#video.addEventListener('dblclick', () => this.#toggleFullscreen());
    this.#wake();
  }

  #wake() {
    this.#stage.classList.remove('asleep');
    clearTimeout(this.#hideTimer);
    this.#hideTimer = setTimeout(() => this.#sleep(), HIDE_MS);
  }

  #sleep() {
    const inUse = byId('controls').matches(':focus-within') && document.activeElement?.matches(':focus-visible');
    if (!this.#video.paused && !inUse) this.#stage.classList.add('asleep');
  }

  #togglePlay() {
    if (this.#video.paused) this.#video.play()?.catch(() => {});
    else this.#video.pause();
  }

  #toggleMute() {
    const video = this.#video;
    const silent = video.muted || video.volume === 0;
    if (silent && video.volume === 0) video.volume = 0.5;
    video.muted = !silent;
    if (silent) this.#stage.dataset.heard = 'true';
    if (silent && video.paused) video.play()?.catch(() => {});
    this.showVolume();
  }

  #setVolume(volume) {
    const video = this.#video;
    video.volume = Math.min(1, Math.max(0, volume));
    video.muted = video.volume === 0;
    if (!video.muted) {
      this.#stage.dataset.heard = 'true';
      store.set('volume', String(video.volume));
    }
    this.showVolume();
  }

  #toggleFigures() {
    const on = byId('figures').hidden;
    this.showFigures(on);
    store.set('figures', on ? 'on' : 'off');
  }

  #toggleFast() {
    const button = byId('fast');
    if (button.hidden) return;
    const on = button.getAttribute('aria-pressed') !== 'true';
    store.set('mode', on ? 'fast' : 'hls');
    this.#setFast(on);
  }

  #toggleFullscreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else if (this.#stage.requestFullscreen) this.#stage.requestFullscreen().catch(() => {});
    else this.#video.webkitEnterFullscreen?.();
  }

  #showFullscreen() {
    const full = document.fullscreenElement !== null;
    this.#stage.dataset.full = String(full);
    byId('fullscreen').setAttribute('aria-label', full ? 'Leave full screen' : 'Full screen');
  }

  #showLevels(hls) {
    this.#hls = hls;
    const select = byId('quality');
    const levels = hls?.levels ?? [];
    const key = levels.map(rendition).join('|');
    if (key !== this.#levels) {
      this.#levels = key;
      const auto = new Option('Auto', '-1');
      select.replaceChildren(auto, ...levels.map((level, i) => new Option(rendition(level), String(i))).reverse());
      select.hidden = levels.length < 2;
    }
    if (hls && document.activeElement !== select) {
      select.value = String(hls.autoLevelEnabled ? -1 : hls.nextLevel);
    }
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { target, key } = event;
    const action = keyAction(key, {
      on: KINDS.find(([, selector]) => target.matches(selector))?.[0] ?? null,
      inside: this.#stage.contains(target) || document.fullscreenElement !== null,
      writing: target.closest('.chat') !== null,
      everywhere: this.#keys && !matchMedia(NO_KEYS).matches,
    });
    if (action === null) return;
    event.preventDefault();
    this.#wake();
    this.#actions[action]();
  }

  #actions = {
    play: () => this.#togglePlay(),
    mute: () => this.#toggleMute(),
    fullscreen: () => this.#toggleFullscreen(),
    figures: () => this.#toggleFigures(),
    fast: () => this.#toggleFast(),
    live: () => this.#goLive(),
    chat: () => this.#goChat(),
    louder: () => this.#setVolume(this.#volume + VOLUME_STEP),
    quieter: () => this.#setVolume(this.#volume - VOLUME_STEP),
    back: () => this.#seekBy(-SEEK_S),
    forward: () => this.#seekBy(SEEK_S),
  };

  get #volume() {
    return this.#video.muted ? 0 : this.#video.volume;
  }

  #showKeys() {
    const toggle = byId('keys-toggle');
    toggle.setAttribute('aria-pressed', String(this.#keys));
    toggle.title = this.#keys ? 'Keys steer the player from the whole page' : 'Keys steer the player only while the focus is in it';
  }
}
