// The connection to the signaling server: register, join, reconnect for ever. It carries messages and knows nothing of
// media. Media sessions outlive it: what happens to them after a reconnect is decided in presence.js.

export const PROTOCOL = 1;
export const DEFAULT_ROOM = 'room_default';
export const DEFAULT_PORT = 8765;

const BACKOFF_FIRST_MS = 100;
const BACKOFF_LAST_MS = 10_000;
/** From opening the socket to `joined`. */
const JOIN_TIMEOUT_MS = 10_000;
/** A browser sees no WebSocket pings, so it asks by itself whether the server lives: every 10 s, with 10 s to answer. */
const PING_MS = 10_000;
/** No server may send us away for longer, and over how long those come back whom it sent away. */
const RETRY_AFTER_MAX_MS = 60_000;
const RETRY_SPREAD_MS = 1_000;
/** Half of the time that credentials are good for, within these bounds, we ask for fresh ones. */
const REFRESH_MIN_MS = 30_000;
const REFRESH_MAX_MS = 24 * 3_600_000;

/** Closes that no retry can mend, in words (protocol.md, "What a client does after a close"). */
const FATAL = new Map([
  [4001, 'This viewer was opened again elsewhere, which took its place.'],
  [4002, 'Somebody else in the room uses this id.'],
  [4003, 'The server refused what this page says: page and server do not fit together.'],
  [4010, 'The server wants a token: none was given, or it is wrong or expired.'],
  [1009, 'A message of this page was too big for the server.'],
]);
/** Refusals of `join` that may pass by themselves. */
const PASSING = new Set(['room_full', 'too_many_rooms', 'too_many_attempts', 'server_draining']);

/**
 * Full jitter: anything between nothing and a bound that doubles with each attempt, from 100 ms to 10 s.
 * `random` gives [0, 1).
 */
export function backoff(attempt, random) {
  const bound = Math.min(BACKOFF_LAST_MS, BACKOFF_FIRST_MS * 2 ** Math.min(attempt, 30));
  return Math.round(random() * bound);
}

/** The words for a close that ends it all, or null where a reconnect follows. */
export function fatalClose(code) {
  return FATAL.get(code) ?? null;
}

/**
 * The WebSocket URL: `wanted` may be ws(s)://…, http(s)://… or just host:port; without it, the page's own server.
 * Throws with words where it can't be one.
 */
export function serverUrl(wanted, page) {
  const secure = page.protocol === 'https:';
  if (!wanted) {
    if (page.protocol === 'file:') return `ws://127.0.0.1:${DEFAULT_PORT}/ws`;
    const own = new URL('ws', page.href);
    own.protocol = secure ? 'wss:' : 'ws:';
    own.search = '';
    own.hash = '';
    return own.href;
  }
  const full = wanted.includes('://') ? wanted : `${secure ? 'wss' : 'ws'}://${wanted}`;
  let url;
  try {
    url = new URL(full);
  } catch {
    throw new Error(`“${wanted}” is no server address. Write it like ws://host:8765`);
  }
  if (url.protocol === 'http:') url.protocol = 'ws:';
  if (url.protocol === 'https:') url.protocol = 'wss:';
  if (url.protocol !== 'ws:' && url.protocol !== 'wss:') {
    throw new Error(`“${wanted}” is no WebSocket address. Write it like ws://host:8765`);
  }
  return url.href;
}

/**
 * States: 'connecting', 'joined', 'reconnecting' and 'stopped' (`detail` says why, and `wants` what might help: 'token',
 * 'password' or nothing); from there `retry` leads back.
 * `config`: {url, room, clientId, instance, token?, password?}.
 * `on`: {state(state, detail, wants), iceServers(list), joined(message), message(message)}; `iceServers` and then `joined` come
 * before any message of that stay, `iceServers` again whenever there are fresh credentials.
 */
export class Signaling {
  #config;
  #on;
  #env;
  #socket = null;
  #attempt = 0;
  #retryAfter = 0;
  #lastError = null;
  #leaving = 0;
  #timers = { retry: null, join: null, ping: null, refresh: null };
  #refreshing = false;
  #heard = true;
  state = 'connecting';
  detail = '';
  wants = null;

  constructor(config, on, env = browser()) {
    this.#config = config;
    this.#on = on;
    this.#env = env;
  }

  /** Connects now; also cuts a wait short (the machine is online again). */
  connect() {
    if (this.state === 'stopped' || this.#socket) return;
    this.#clear('retry');
    if (this.state !== 'reconnecting') this.#become('connecting', this.#config.url);
    let socket;
    try {
      socket = new this.#env.WebSocket(this.#config.url);
    } catch (error) {
      this.#stop(`The browser refuses to connect to ${this.#config.url}: ${error.message}`);
      return;
    }
    this.#socket = socket;
    this.#lastError = null;
    this.#timers.join = this.#env.setTimeout(() => this.#lost(null, 'no answer'), JOIN_TIMEOUT_MS);
    // Events of a socket that was given up must not touch its successor.
    const current = (f) => (event) => socket === this.#socket && f(event);
    socket.onopen = current(() => this.#register());
    socket.onmessage = current((event) => this.#frame(event.data));
    socket.onclose = current((event) => this.#lost(event.code, event.reason));
  }

  /** After 'stopped': once more, with another `token` or `password`. */
  retry(secrets) {
    if (this.state !== 'stopped') return;
    Object.assign(this.#config, secrets);
    this.#attempt = 0;
    this.state = 'connecting';
    this.connect();
  }

  /** Says something in the room. Dropped while there is no connection: a reconnect makes sessions good again. */
  send(message) {
    if (this.state === 'joined') this.#write(message);
  }

  /** Leaves and joins again: every sender there makes this page a new offer. */
  rejoin() {
    if (this.state !== 'joined') return;
    this.#write({ type: 'leave' });
    this.#leaving += 1;
    this.#clear('refresh');
    this.#join();
  }

  /** Leaves for good. */
  close() {
    this.send({ type: 'leave' });
    this.#stop('left');
  }

  #register() {
    const { clientId, instance, token } = this.#config;
    this.#write({ type: 'register', client_id: clientId, protocol: PROTOCOL, instance, token });
  }

  #join() {
    const { room, password, token } = this.#config;
    this.#write({ type: 'join', room_id: room, role: 'receiver', password, token });
  }

  #frame(text) {
    this.#heard = true;
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return;
    }
    if (typeof message?.type !== 'string') return;
    switch (message.type) {
      case 'registered':
        this.#config.clientId = message.client_id; // The server may have chosen it; it is kept from now on.
        this.#join();
        break;
      case 'joined':
        this.#joined(message);
        break;
      case 'draining':
        this.#retryAfter = Math.min(RETRY_AFTER_MAX_MS, Number(message.retry_after_ms) || 0);
        break;
      case 'error':
        this.#refused(message);
        break;
      case 'left':
        // Unasked for, it means that we were removed. Asking to be let in again tells why, if there is a reason.
        if (this.#leaving) this.#leaving -= 1;
        else this.#lost(null, 'removed from the room');
        break;
      case 'pong':
        break;
      default:
        this.#on.message(message);
    }
  }

  #joined(message) {
    this.#on.iceServers(message.ice_servers ?? []);
    this.#refreshLater(message.ice_ttl_s);
    if (this.#refreshing) {
      // Nothing else has changed: a session that is about to connect must not begin anew.
      this.#refreshing = false;
      return;
    }
    this.#attempt = 0;
    this.#retryAfter = 0;
    this.#clear('join');
    this.#watch();
    this.#become('joined', '');
    this.#on.joined(message);
  }

  /** Joining the same room again brings fresh credentials, and nobody else is told. */
  #refreshLater(seconds) {
    this.#clear('refresh');
    if (!Number.isFinite(seconds)) return;
    const wait = Math.min(REFRESH_MAX_MS, Math.max(REFRESH_MIN_MS, seconds * 500));
    this.#timers.refresh = this.#env.setTimeout(() => {
      this.#refreshing = true;
      this.#join();
    }, wait);
  }

  #refused(message) {
    this.#lastError = message.message ?? message.code;
    if (message.request !== 'join' && message.request !== 'register') {
      this.#on.message(message);
    } else if (message.code === 'unauthorized') {
      this.#stop(`${FATAL.get(4010)} The server says: ${this.#lastError}`, 'token');
    } else if (PASSING.has(message.code)) {
      this.#lost(null, this.#lastError);
    } else {
      const wants = message.code === 'forbidden' ? 'password' : null;
      this.#stop(`The server does not let this page into the room: ${this.#lastError}`, wants);
    }
  }

  /** The socket is of no use any more: stop for good or come again, as the close code says. */
  #lost(code, reason) {
    this.#drop();
    const fatal = fatalClose(code);
    if (fatal) {
      this.#stop(this.#lastError ? `${fatal} The server says: ${this.#lastError}` : fatal, code === 4010 ? 'token' : null);
      return;
    }
    const { random } = this.#env;
    const wait = this.#retryAfter ? this.#retryAfter + random() * RETRY_SPREAD_MS : backoff(this.#attempt, random);
    this.#attempt += 1;
    this.#retryAfter = 0;
    this.#become('reconnecting', this.#lastError ?? (reason || `no connection to ${this.#config.url}`));
    this.#timers.retry = this.#env.setTimeout(() => this.connect(), wait);
  }

  /** Without this a server that vanished without a word (cable, suspend) would never be missed. */
  #watch() {
    this.#clear('ping');
    this.#timers.ping = this.#env.setTimeout(() => {
      if (!this.#heard) {
        this.#lost(null, 'the server fell silent');
        return;
      }
      this.#heard = false;
      this.#write({ type: 'ping' });
      this.#watch();
    }, PING_MS);
  }

  #stop(why, wants = null) {
    this.#drop();
    this.#clear('retry');
    this.wants = wants;
    this.#become('stopped', why);
  }

  #drop() {
    this.#clear('join');
    this.#clear('ping');
    this.#clear('refresh');
    this.#heard = true;
    this.#leaving = 0;
    this.#refreshing = false;
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #become(state, detail) {
    if (this.state === state && this.detail === detail) return;
    this.state = state;
    this.detail = detail;
    if (state !== 'stopped') this.wants = null;
    this.#on.state(state, detail, this.wants);
  }

  #write(message) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(message));
  }

  #clear(name) {
    this.#env.clearTimeout(this.#timers[name]);
    this.#timers[name] = null;
  }
}

function browser() {
  return {
    WebSocket: globalThis.WebSocket,
    setTimeout: globalThis.setTimeout.bind(globalThis),
    clearTimeout: globalThis.clearTimeout.bind(globalThis),
    random: Math.random,
  };
}
