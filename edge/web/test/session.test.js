import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FIRST_FRAME_MS, FORGIVE_MS, RELOAD_MS, SEEK_MS, Session, STEADY_MS } from '../src/core/session.js';

const MIDDLE = () => 0.5;
const MOVING = { type: 'tick', stuckMs: 0, idle: false, moved: true, lagS: 0, playlistAgeMs: 100, playlistSlowMs: 2000, failing: null };
const stuck = (stuckMs, more = {}) => ({ ...MOVING, moved: false, stuckMs, ...more });
const names = (actions) => actions.map((action) => action.do);

function playing(untilMs = 10_000) {
  const session = new Session(MIDDLE);
  session.start(0);
  for (let ms = 1000; ms <= untilMs; ms += 250) session.on(MOVING, ms);
  assert.equal(session.state, 'live');
  return session;
}

test('starts by loading, and is live at the first movement', () => {
  const session = new Session(MIDDLE);
  assert.deepEqual(names(session.start(0)), ['load']);
  assert.equal(session.state, 'starting');
  assert.deepEqual(session.on(MOVING, 700), []);
  assert.equal(session.state, 'live');
});

test('a channel that is not there is offline and asked for again, ever more rarely', () => {
  const session = new Session(MIDDLE);
  session.start(0);
  const first = session.on({ type: 'fatal', kind: 'network', status: 404 }, 100);
  assert.equal(session.state, 'offline');
  assert.deepEqual(names(first), ['unload', 'probe']);
  const delays = [first[1].afterMs];
  for (let i = 0; i < 6; i++) {
    const [action] = session.on({ type: 'probed', outcome: 'absent' }, 5000 * i);
    assert.equal(action.do, 'probe');
    delays.push(action.afterMs);
  }
  assert.deepEqual(delays, [...delays].sort((a, b) => a - b));
  assert.equal(delays[0], 1000);
  assert.equal(delays.at(-1), 5000);
});

test('an offline channel that goes live plays without a reload of the page', () => {
  const session = new Session(MIDDLE);
  session.start(0);
  session.on({ type: 'fatal', kind: 'network', status: 404 }, 100);
  session.on({ type: 'probed', outcome: 'unavailable' }, 2000);
  assert.equal(session.state, 'starting');
  assert.deepEqual(names(session.on({ type: 'probed', outcome: 'live' }, 4000)), ['load']);
  session.on(MOVING, 5000);
  assert.equal(session.state, 'live');
});

test('a token that is no good says so, and a page that gets in plays', () => {
  const session = playing();
  assert.deepEqual(names(session.on({ type: 'fatal', kind: 'network', status: 403 }, 11_000)), ['unload', 'probe']);
  assert.deepEqual([session.state, session.reason], ['offline', 'forbidden']);
  session.on({ type: 'probed', outcome: 'forbidden' }, 12_000);
  assert.deepEqual([session.state, session.reason], ['offline', 'forbidden']);
  assert.deepEqual(names(session.on({ type: 'probed', outcome: 'live' }, 13_000)), ['load']);
});

test('503 at the start is "starting", no answer says so', () => {
  const session = new Session(MIDDLE);
  session.start(0);
  session.on({ type: 'fatal', kind: 'network', status: 503 }, 100);
  assert.deepEqual([session.state, session.reason], ['starting', 'server']);
  session.on({ type: 'probed', outcome: 'unreachable' }, 2000);
  assert.deepEqual([session.state, session.reason], ['starting', 'network']);
});

test('a publisher that vanishes is an interruption, and its return is none of the viewer\'s delay', () => {
  const session = playing();
  session.on(stuck(1000, { playlistAgeMs: 2100 }), 11_000);
  assert.equal(session.state, 'live');
  assert.deepEqual(session.on(stuck(2000, { playlistAgeMs: 3100 }), 12_000), []);
  assert.deepEqual([session.state, session.reason], ['interrupted', 'publisher']);
  assert.deepEqual(names(session.on(MOVING, 16_000)), ['forgive-stalls']);
  assert.equal(session.state, 'live');
});

test('an interruption names who is at fault', () => {
  const session = playing();
  session.on(stuck(2000, { playlistAgeMs: 3100, failing: 503 }), 12_000);
  assert.equal(session.reason, 'server');
  session.on(stuck(3000, { playlistAgeMs: 4100, failing: 0 }), 13_000);
  assert.equal(session.reason, 'network');
});

test('an interruption keeps its source, however long it lasts', () => {
  const session = playing();
  for (let ms = 0; ms < 120_000; ms += 250) {
    assert.deepEqual(session.on(stuck(2000 + ms, { playlistAgeMs: 3000 + ms, failing: 503 }), 12_000 + ms), []);
  }
});

test('a stall while the playlist goes on is moved to the edge, then loaded afresh', () => {
  const session = playing();
  assert.deepEqual(session.on(stuck(SEEK_MS - 1), 13_000), []);
  assert.deepEqual(names(session.on(stuck(SEEK_MS), 13_001)), ['seek-live']);
  assert.deepEqual(session.on(stuck(SEEK_MS + 250), 13_251), []);
  assert.deepEqual(names(session.on(stuck(RELOAD_MS), 19_000)), ['unload', 'load']);
  assert.equal(session.state, 'interrupted');
});

test('reloads in a row go by way of a probe', () => {
  const session = playing();
  assert.deepEqual(names(session.on({ type: 'disjoint' }, 20_000)), ['unload', 'load']);
  session.on(MOVING, 20_500);
  const again = session.on({ type: 'disjoint' }, 21_000);
  assert.deepEqual(names(again), ['unload', 'probe']);
  assert.deepEqual(names(session.on({ type: 'probed', outcome: 'live' }, 23_000)), ['load']);
  for (let ms = 24_000; ms <= 24_000 + STEADY_MS; ms += 250) session.on(MOVING, ms);
  assert.deepEqual(names(session.on({ type: 'disjoint' }, 40_000)), ['unload', 'load']);
});

test('ENDLIST is ended once what is buffered was shown', () => {
  const session = playing();
  assert.deepEqual(session.on({ type: 'endlist' }, 11_000), []);
  assert.equal(session.state, 'live');
  session.on(MOVING, 11_250);
  assert.deepEqual(names(session.on({ type: 'played-out' }, 12_000)), ['unload', 'probe']);
  assert.equal(session.state, 'ended');
  session.on({ type: 'probed', outcome: 'ended' }, 13_000);
  session.on({ type: 'probed', outcome: 'absent' }, 15_000);
  assert.equal(session.state, 'ended');
  session.on({ type: 'probed', outcome: 'live' }, 17_000);
  assert.equal(session.state, 'starting');
});

test('a picture that stops short of the end is ended as well', () => {
  const session = playing();
  session.on({ type: 'endlist' }, 11_000);
  assert.deepEqual(names(session.on(stuck(2000), 13_000)), ['unload', 'probe']);
  assert.equal(session.state, 'ended');
});

test('a broadcast that was over before its first picture is not played', () => {
  const session = new Session(MIDDLE);
  session.start(0);
  assert.deepEqual(names(session.on({ type: 'endlist' }, 300)), ['unload', 'probe']);
  assert.equal(session.state, 'ended');
});

test('the end of the media without ENDLIST is not the end', () => {
  const session = playing();
  assert.deepEqual(session.on({ type: 'played-out' }, 11_000), []);
});

test('media errors are recovered twice, then the source is loaded afresh', () => {
  const session = playing();
  const fatal = { type: 'fatal', kind: 'media', status: 0 };
  assert.deepEqual(names(session.on(fatal, 11_000)), ['recover-media']);
  assert.deepEqual(names(session.on(fatal, 12_000)), ['recover-media']);
  assert.deepEqual(names(session.on(fatal, 13_000)), ['unload', 'load']);
});

test('a refused playlist reloads, a fatal network error waits for the server', () => {
  assert.deepEqual(names(playing().on({ type: 'fatal', kind: 'network', status: 400 }, 11_000)), ['unload', 'load']);
  const session = playing();
  assert.deepEqual(names(session.on({ type: 'fatal', kind: 'network', status: 0 }, 11_000)), ['unload', 'probe']);
  assert.deepEqual([session.state, session.reason], ['interrupted', 'network']);
});

test('media that is gone is no channel that is gone: the source is loaded afresh', () => {
  const session = playing();
  const gone = { type: 'fatal', kind: 'network', status: 404, media: true };
  assert.deepEqual(names(session.on(gone, 20_000)), ['unload', 'load']);
  assert.equal(session.state, 'interrupted');
  session.on({ ...gone, media: false }, 21_000);
  assert.equal(session.state, 'offline');
});

test('a source without a first frame is tried again, unless the playlist waits too', () => {
  const session = new Session(MIDDLE);
  session.start(0);
  assert.deepEqual(session.on(stuck(0, { playlistAgeMs: 9000 }), FIRST_FRAME_MS + 1), []);
  assert.deepEqual(names(session.on(stuck(0), FIRST_FRAME_MS + 2)), ['unload', 'probe']);
  assert.equal(session.state, 'starting');
});

test('a pause is neither a stall nor an interruption', () => {
  const session = playing();
  assert.deepEqual(session.on({ ...MOVING, moved: false, idle: true, playlistAgeMs: 60_000 }, 90_000), []);
  assert.equal(session.state, 'live');
});

test('a picture far behind is moved to the edge, not over and over', () => {
  const session = playing();
  const behind = { ...MOVING, lagS: 7 };
  assert.deepEqual(names(session.on(behind, 11_000)), ['seek-live']);
  assert.deepEqual(session.on(behind, 11_250), []);
  assert.deepEqual(names(session.on(behind, 30_000)), ['seek-live']);
  assert.deepEqual(session.on({ ...MOVING, lagS: null }, 60_000), []);
});

test('stalls are forgiven after a minute without one', () => {
  const session = playing();
  session.on(stuck(600), 11_000);
  assert.deepEqual(session.on(MOVING, 11_500), []);
  assert.deepEqual(names(session.on(MOVING, 11_000 + FORGIVE_MS)), ['forgive-stalls']);
  assert.deepEqual(session.on(MOVING, 12_000 + FORGIVE_MS), []);
});

// Whatever happens, a session has a source or has asked for a probe.
test('no order of events leaves the page dead', () => {
  let seed = 1;
  const random = () => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return seed / 2147483648;
  };
  const events = [
    MOVING, stuck(2000, { playlistAgeMs: 5000 }), stuck(4000), stuck(10_000), { type: 'frame' }, { type: 'endlist' },
    { type: 'played-out' }, { type: 'disjoint' }, { type: 'unheard-of' },
    ...['media', 'network', 'other'].map((kind) => ({ type: 'fatal', kind, status: 0 })),
    ...[400, 404, 503].map((status) => ({ type: 'fatal', kind: 'network', status })),
  ];
  const outcomes = ['live', 'ended', 'absent', 'unavailable', 'unreachable'];
  for (let round = 0; round < 300; round++) {
    const session = new Session(random);
    let loaded = false;
    let probing = false;
    let ms = 0;
    const follow = (actions) => {
      for (const action of actions) {
        if (action.do === 'load') loaded = true;
        if (action.do === 'unload') loaded = false;
        if (action.do === 'probe') {
          assert.ok(action.afterMs >= 1000 && action.afterMs <= 5000);
          probing = true;
        }
      }
      assert.ok(loaded !== probing, `${session.state}: loaded ${loaded}, probing ${probing}`);
    };
    follow(session.start(ms));
    for (let step = 0; step < 100; step++) {
      ms += Math.floor(random() * 4000);
      if (probing && random() < 0.5) {
        probing = false;
        const outcome = outcomes[Math.floor(random() * outcomes.length)];
        follow(session.on({ type: 'probed', outcome }, ms));
      } else {
        follow(session.on(events[Math.floor(random() * events.length)], ms));
      }
    }
  }
});
