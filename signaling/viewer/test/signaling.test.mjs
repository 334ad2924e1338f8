// The signaling connection against a fake socket, on virtual time.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Signaling, backoff, fatalClose } from '../signaling.js';

/** A browser whose clock and sockets a test controls. */
class World {
  now = 0;
  sockets = [];
  events = [];
  #timers = new Map();
  #next = 1;

  constructor(random = () => 0.999, refusal = async () => null) {
    const world = this;
    const env = {
      WebSocket: class {
        readyState = 0;
        sent = [];
        constructor(url) {
          this.url = url;
          world.sockets.push(this);
        }
        send(text) {
          this.sent.push(JSON.parse(text));
        }
        close() {
          this.readyState = 3;
        }
      },
      setTimeout: (f, ms) => {
        this.#timers.set(this.#next, { at: this.now + ms, f });
        return this.#next++;
      },
      clearTimeout: (id) => this.#timers.delete(id),
      random,
      refusal,
    };
    this.signaling = new Signaling(
      { url: 'ws://server/ws', room: '客厅', clientId: 'viewer-1', instance: 'secret' },
      {
        state: (state, detail) => this.events.push([state, detail]),
        iceServers: (list) => list.length && this.events.push(['ice', list[0].username]),
        joined: (message) => this.events.push(['in the room', message.peers.length]),
        message: (message) => this.events.push(['message', message.type]),
      },
      env,
    );
    this.signaling.connect();
  }

  get socket() {
    return this.sockets.at(-1);
  }
  open() {
    this.socket.readyState = 1;
    this.socket.onopen();
  }
  say(message) {
    this.socket.onmessage({ data: JSON.stringify(message) });
  }
  close(code, reason = '') {
    this.socket.readyState = 3;
    this.socket.onclose({ code, reason });
  }
  enter() {
    this.open();
    this.say({ type: 'registered', client_id: 'viewer-1', protocol: 1 });
    this.say({ type: 'joined', room_id: '客厅', role: 'receiver', peers: [], ice_servers: [] });
  }
  advance(ms) {
    const until = this.now + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, t]) => t.at <= until).sort((a, b) => a[1].at - b[1].at)[0];
      if (!due) break;
      this.#timers.delete(due[0]);
      this.now = due[1].at;
      due[1].f();
    }
    this.now = until;
  }
  /** Lets time pass while the server answers every ping. */
  keepAlive(ms) {
    for (let left = ms; left > 0; left -= 1_000) {
      this.advance(Math.min(left, 1_000));
      this.say({ type: 'pong' });
    }
  }
  get timers() {
    return this.#timers.size;
  }
}

test('the page registers, joins as a receiver, and passes messages on', () => {
  const world = new World();
  world.enter();
  world.say({ type: 'offer', from: 'cam', sdp: 'v=0' });
  assert.deepEqual(world.socket.sent, [
    { type: 'register', client_id: 'viewer-1', protocol: 1, instance: 'secret' },
    { type: 'join', room_id: '客厅', role: 'receiver' },
  ]);
  assert.deepEqual(world.events, [
    ['connecting', 'ws://server/ws'],
    ['joined', ''],
    ['in the room', 0],
    ['message', 'offer'],
  ]);
});

test('a lost connection is opened again with the same id and instance', () => {
  const world = new World();
  world.enter();
  world.close(1006);
  assert.equal(world.signaling.state, 'reconnecting');
  world.advance(100);
  assert.equal(world.sockets.length, 2);
  world.enter();
  assert.deepEqual(world.sockets[0].sent, world.sockets[1].sent);
  assert.equal(world.signaling.state, 'joined');
});

test('reconnects never end, at intervals that grow to 10 s', () => {
  const world = new World();
  for (let i = 0; i < 50; i += 1) {
    world.close(1006);
    world.advance(10_000);
    assert.equal(world.sockets.length, i + 2);
  }
});

test('credentials are refreshed by a join before they expire, and nothing else restarts', () => {
  const world = new World();
  const welcome = (user, ttl) => {
    world.say({ type: 'joined', peers: [], ice_servers: [{ urls: ['turn:t'], username: user }], ice_ttl_s: ttl });
  };
  const iceOnly = () => world.events.splice(0).map(([event, detail]) => `${event} ${detail}`);
  world.enter();
  welcome('first', 600);
  world.events.splice(0);
  const joins = () => world.socket.sent.filter(({ type }) => type === 'join').length;

  world.keepAlive(299_000);
  assert.equal(joins(), 1);
  world.keepAlive(1_000);
  assert.equal(joins(), 2);
  welcome('second', 600);
  assert.deepEqual(iceOnly(), ['ice second']);
  world.keepAlive(300_000);
  assert.equal(joins(), 3);
  welcome('third');
  world.keepAlive(600_000);
  assert.equal(joins(), 3, 'the server no longer names a lifetime');

  // A rejoin in between begins a new membership.
  welcome('fourth', 600);
  world.signaling.rejoin();
  world.say({ type: 'left' });
  world.events.splice(0);
  welcome('fifth', 600);
  assert.deepEqual(iceOnly(), ['ice fifth', 'in the room 0']);
});

test('an id that the server chose survives reconnects', () => {
  const world = new World();
  world.open();
  world.say({ type: 'registered', client_id: 'made-by-server', protocol: 1 });
  world.close(1006);
  world.advance(200);
  world.open();
  assert.equal(world.socket.sent[0].client_id, 'made-by-server');
});

test('a close that a retry cannot fix stops the connection with a reason', () => {
  for (const code of [4001, 4002, 4003, 4010, 1009]) {
    const world = new World();
    world.enter();
    world.close(code);
    assert.equal(world.signaling.state, 'stopped');
    assert.equal(world.signaling.detail, fatalClose(code));
    world.advance(60_000);
    world.signaling.connect();
    assert.equal(world.sockets.length, 1);
    assert.equal(world.timers, 0);
  }
});

test('every other close is followed by a reconnect', () => {
  for (const code of [1000, 1001, 1006, 1011, 1012, 4000, 4008]) assert.equal(fatalClose(code), null);
});

test('the reason includes the message of the server', () => {
  const world = new World();
  world.open();
  world.say({ type: 'error', code: 'unauthorized', message: 'the token expired', request: 'register' });
  world.close(4010);
  assert.match(world.signaling.detail, /the token expired/);
});

test('a draining server decides when to reconnect', () => {
  for (const [random, wait] of [[0, 3000], [0.5, 3500]]) {
    const world = new World(() => random);
    world.enter();
    world.say({ type: 'draining', retry_after_ms: 3000 });
    world.close(1012);
    world.advance(wait - 1);
    assert.equal(world.sockets.length, 1);
    world.advance(1);
    assert.equal(world.sockets.length, 2);
  }
});

test('a full room is tried again, and a wrong password is not', () => {
  const full = new World();
  full.open();
  full.say({ type: 'registered', client_id: 'viewer-1' });
  full.say({ type: 'error', code: 'room_full', message: 'full', request: 'join' });
  assert.deepEqual([full.signaling.state, full.signaling.detail], ['reconnecting', 'full']);
  const wrong = new World();
  wrong.open();
  wrong.say({ type: 'registered', client_id: 'viewer-1' });
  wrong.say({ type: 'error', code: 'forbidden', message: 'wrong password', request: 'join' });
  assert.equal(wrong.signaling.state, 'stopped');
  assert.match(wrong.signaling.detail, /wrong password/);
});

test('the page asks for a missing secret and tries again with it', () => {
  const world = new World();
  world.open();
  world.say({ type: 'error', code: 'unauthorized', message: 'no token', request: 'register' });
  assert.deepEqual([world.signaling.state, world.signaling.wants], ['stopped', 'token']);
  world.signaling.retry({ token: 't' });
  assert.deepEqual([world.signaling.state, world.signaling.wants], ['connecting', null]);
  world.open();
  assert.equal(world.socket.sent[0].token, 't');
  world.say({ type: 'registered', client_id: 'viewer-1' });
  world.say({ type: 'error', code: 'forbidden', message: 'wrong password', request: 'join' });
  assert.deepEqual([world.signaling.state, world.signaling.wants], ['stopped', 'password']);
  world.signaling.retry({ password: 'p' });
  world.open();
  world.say({ type: 'registered', client_id: 'viewer-1' });
  assert.deepEqual(world.socket.sent.at(-1), {
    type: 'join', room_id: '客厅', role: 'receiver', token: 't', password: 'p',
  });
  world.say({ type: 'joined', peers: [] });
  assert.equal(world.signaling.state, 'joined');
  world.signaling.retry({ password: 'q' });
  assert.equal(world.sockets.length, 3, 'only a stopped connection is started again');
});

test('an expired token is requested again, and a token for another id stops the connection', () => {
  const expired = new World();
  expired.enter();
  expired.say({ type: 'error', code: 'unauthorized', message: 'the token has expired' });
  expired.close(4010);
  assert.deepEqual([expired.signaling.state, expired.signaling.wants], ['stopped', 'token']);
  const other = new World();
  other.open();
  other.say({ type: 'error', code: 'forbidden', message: 'the token is for another client id', request: 'register' });
  assert.match(other.signaling.detail, /another client id/);
  const replaced = new World();
  replaced.enter();
  replaced.close(4001);
  assert.equal(replaced.signaling.wants, null);
});

test('a silent server is abandoned within 20 s', () => {
  const world = new World();
  world.enter();
  world.advance(10_000);
  assert.equal(world.socket.sent.at(-1).type, 'ping');
  world.say({ type: 'pong' });
  world.advance(10_000);
  assert.equal(world.signaling.state, 'joined');
  world.advance(10_000);
  assert.equal(world.signaling.state, 'reconnecting');
});

test('a server that accepts the connection and never answers is abandoned', () => {
  const world = new World();
  world.open();
  world.advance(10_000);
  assert.equal(world.signaling.state, 'reconnecting');
  world.advance(100);
  assert.equal(world.sockets.length, 2);
});

test('an abandoned socket does not affect its successor', () => {
  const world = new World();
  world.open();
  const [first] = world.sockets;
  world.advance(10_100);
  world.enter();
  first.onclose({ code: 4001, reason: '' });
  first.onmessage({ data: '{"type":"offer"}' });
  assert.equal(world.signaling.state, 'joined');
  assert.equal(world.events.some(([what]) => what === 'message'), false);
});

test('rejoin leaves and joins on the same connection', () => {
  const world = new World();
  world.enter();
  world.signaling.rejoin();
  assert.deepEqual(world.socket.sent.slice(2).map((m) => m.type), ['leave', 'join']);
  world.say({ type: 'left' });
  assert.equal(world.signaling.state, 'joined');
});

test('the page joins again after it was removed from the room', () => {
  const world = new World();
  world.enter();
  world.say({ type: 'left' });
  assert.equal(world.signaling.state, 'reconnecting');
});

test('closing sends leave and stops all timers', () => {
  const world = new World();
  world.enter();
  world.signaling.close();
  assert.equal(world.socket.sent.at(-1).type, 'leave');
  assert.equal(world.timers, 0);
});

test('the backoff is full jitter between 0 and a bound of 100 ms to 10 s', () => {
  assert.equal(backoff(0, () => 1), 100);
  assert.equal(backoff(3, () => 1), 800);
  assert.equal(backoff(7, () => 1), 10_000);
  assert.equal(backoff(5000, () => 1), 10_000);
  assert.equal(backoff(9, () => 0), 0);
  assert.equal(backoff(1, () => 0.5), 100);
});

test('a change of meta joins the same room again, and the membership continues', () => {
  const world = new World();
  world.enter();
  world.events.splice(0);
  world.signaling.changeMeta();
  world.signaling.changeMeta();
  const joins = world.socket.sent.slice(2);
  assert.deepEqual(joins.map(({ type, meta }) => [type, meta.offers_requested]), [['join', 1], ['join', 2]]);
  world.say({ type: 'joined', peers: [], ice_servers: [] });
  world.say({ type: 'joined', peers: [], ice_servers: [] });
  assert.deepEqual(world.events, []);
  world.signaling.rejoin();
  assert.equal(world.socket.sent.at(-1).meta.offers_requested, 2, 'later joins keep it');
  world.say({ type: 'left' });
  world.say({ type: 'joined', peers: [], ice_servers: [] });
  assert.deepEqual(world.events, [['in the room', 0]]);
});

test('a held connection sends nothing until it is released', () => {
  const world = new World();
  const signaling = new Signaling({ url: 'ws://other/ws' }, { state: () => {} }, { WebSocket: class { constructor() { world.opened = true; } }, setTimeout: () => 1, clearTimeout: () => {} });
  signaling.hold('confirm it', 'confirmation');
  signaling.connect();
  assert.deepEqual([signaling.state, signaling.wants, world.opened], ['stopped', 'confirmation', undefined]);
  signaling.retry({ token: 't' });
  assert.deepEqual([signaling.state, world.opened], ['connecting', true]);
});

test('the server explains a refused WebSocket over HTTP', async () => {
  const asked = [];
  const refusal = async (url) => asked.push(url) && 'Pages of "https://a" may not use this server.';
  const world = new World(undefined, refusal);
  world.close(1006);
  assert.deepEqual(world.events.at(-1), ['reconnecting', 'No connection to ws://server/ws']);
  await null;
  await null;
  assert.deepEqual(asked, ['ws://server/ws']);
  assert.equal(world.signaling.detail, 'Pages of "https://a" may not use this server.');
  // The reason remains visible while the next attempts fail.
  world.advance(1_000);
  world.close(1006);
  assert.equal(world.signaling.detail, 'Pages of "https://a" may not use this server.');
});

test('a connection that was open and broke needs no explanation', async () => {
  let asked = 0;
  const world = new World(undefined, async () => (asked += 1));
  world.enter();
  world.close(1006);
  await null;
  assert.equal(asked, 0);
  assert.equal(world.signaling.state, 'reconnecting');
});
