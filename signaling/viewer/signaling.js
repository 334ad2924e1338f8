// The connection to the signaling server: registers, joins, and reconnects without end. It carries messages and knows
// nothing of media. Media sessions outlive it; presence.js decides which of them survive a reconnect.

export const PROTOCOL = 1;
export const DEFAULT_ROOM = 'room_default';

const BACKOFF_FIRST_MS = 100;
const BACKOFF_LAST_MS = 10_000;
/** From opening the socket to `joined`. */
const JOIN_TIMEOUT_MS = 10_000;
/** Scripts see no WebSocket pings, so the page sends its own every 10 s and gives the server 10 s to answer. */
const PING_MS = 10_000;
/** The longest pause that a draining server may impose. */
const RETRY_AFTER_MAX_MS = 60_000;
/** After that pause, clients reconnect spread over this time. */
const RETRY_SPREAD_MS = 1_000;
/** Fresh TURN credentials are requested after half of their lifetime, within these bounds. */
const REFRESH_MIN_MS = 30_000;
const REFRESH_MAX_MS = 24 * 3_600_000;

/** The text for the user after a close that a retry cannot fix (docs/protocol.md lists the close codes). */
const FATAL = new Map([
  [4001, 'This viewer was opened again elsewhere, which replaced this one.'],
  [4002, 'Another client in the room uses this id.'],
  [4003, 'The server rejected the messages of this page, because the versions of page and server do not match.'],
  [4010, 'The server requires a valid token.'],
  [1009, 'A message of this page was too large for the server.'],
]);
/** Refusals of `join` that are temporary. */
const PASSING = new Set(['room_full', 'too_many_rooms', 'too_many_attempts', 'server_draining']);

/**
 * Full jitter: a pause between 0 and a bound that doubles with each attempt, from 100 ms to 10 s. `random` returns a number
 * in [0, 1).
 */
export function backoff(attempt, random) {
  const bound = Math.min(BACKOFF_LAST_MS, BACKOFF_FIRST_MS * 2 ** Math.min(attempt, 30));
  return Math.round(random() * bound);
}

/** The text for a close that is final, or null if a reconnect follows. */
export function fatalClose(code) {
  return FATAL.get(code) ?? null;
}

/**
 * States: 'connecting', 'joined', 'reconnecting' and 'stopped'. `detail` has the reason. In 'stopped', `wants` names the input
 * that might help ('token', 'password', the argument of `hold`, or null), and `retry` starts again.
 * `config`: {url, room, clientId, instance, token?, password?}.
 * `on`: {state(state, detail, wants), iceServers(list), joined(message), message(message)}. `iceServers` and then `joined`
 * precede all messages of a membership; `iceServers` is repeated with fresh credentials.
 */
export class Signaling {
  #config;
  #on;
  #env;
  #opened = false;
  #refusal = null;
  #socket = null;
  #attempt = 0;
  #retryAfter = 0;
  #lastError = null;
  #leaving = 0;
  #timers = { retry: null, join: null, ping: null, refresh: null };
  /** The number of outstanding answers to `join` that only refresh the current membership. */
  #refreshing = 0;
  /** Data of this page that other members see. A change makes senders offer again. */
  #meta;
  #heard = true;
  state = 'connecting';
  detail = '';
  wants = null;

  constructor(config, on, env = browser()) {
    this.#config = config;
    this.#on = on;
    this.#env = env;
  }

  /** Connects immediately, even during a pause, for example because the machine is online again. */
  connect() {
    if (this.state === 'stopped' || this.#socket) return;
    this.#clear('retry');
    if (this.state !== 'reconnecting') this.#become('connecting', this.#config.url);
    let socket;
    try {
      socket = new this.#env.WebSocket(this.#config.url);
    } catch (error) {
      this.#stop(`The browser refused to connect to ${this.#config.url}: ${error.message}`);
      return;
    }
    this.#socket = socket;
    this.#opened = false;
    this.#lastError = null;
    const onSilence = () => this.#lost(null, `The server at ${this.#config.url} does not answer.`);
    this.#timers.join = this.#env.setTimeout(onSilence, JOIN_TIMEOUT_MS);
    // Events of an abandoned socket must not affect its successor.
    const current = (f) => (event) => socket === this.#socket && f(event);
    socket.onopen = current(() => {
      this.#opened = true;
      this.#refusal = null;
      this.#register();
    });
    socket.onmessage = current((event) => this.#frame(event.data));
    socket.onclose = current((event) => this.#lost(event.code, event.reason));
  }

  /** Prevents connecting until `retry` is called. */
  hold(why, wants) {
    this.#stop(why, wants);
  }

  /** Starts again after 'stopped', with another `token` or `password`. */
  retry(secrets) {
    if (this.state !== 'stopped') return;
    Object.assign(this.#config, secrets);
    this.#attempt = 0;
    this.state = 'connecting';
    this.connect();
  }

  /** Sends a message to the room. It is dropped while there is no connection, because a reconnect renews sessions. */
  send(message) {
    if (this.state === 'joined') this.#write(message);
  }

  /** Leaves and joins again: every sender in the room makes a new offer. */
  rejoin() {
    if (this.state !== 'joined') return;
    this.#write({ type: 'leave' });
    this.#leaving += 1;
    this.#clear('refresh');
    this.#join();
  }

  /** Joins the same room again with another `meta`. Senders that received a `bye` from this page then offer again. */
  changeMeta() {
    if (this.state !== 'joined') return;
    this.#meta = { offers_requested: (this.#meta?.offers_requested ?? 0) + 1 };
    this.#refreshing += 1;
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
    this.#write({ type: 'join', room_id: room, role: 'receiver', password, token, meta: this.#meta });
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
        this.#config.clientId = message.client_id; // The server may have chosen it. Reconnects use the same id.
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
        // Unless the page left on its own, it was removed. If there is a reason, the next join fails with it.
        if (this.#leaving) this.#leaving -= 1;
        else this.#lost(null, 'This viewer was removed from the room.');
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
      // The membership continues, so sessions that are being negotiated must not start again.
      this.#refreshing -= 1;
      return;
    }
    this.#attempt = 0;
    this.#retryAfter = 0;
    this.#clear('join');
    this.#watch();
    this.#become('joined', '');
    this.#on.joined(message);
  }

  /** Requests fresh credentials by joining the same room again, which other members do not notice. */
  #refreshLater(seconds) {
    this.#clear('refresh');
    if (!Number.isFinite(seconds)) return;
    const wait = Math.min(REFRESH_MAX_MS, Math.max(REFRESH_MIN_MS, seconds * 500));
    this.#timers.refresh = this.#env.setTimeout(() => {
      this.#refreshing += 1;
      this.#join();
    }, wait);
  }

  #refused(message) {
    this.#lastError = message.message ?? message.code;
    if (message.request !== 'join' && message.request !== 'register') {
      this.#on.message(message);
    } else if (message.code === 'unauthorized') {
      this.#stop(`${FATAL.get(4010)} Its answer: ${this.#lastError}`, 'token');
    } else if (PASSING.has(message.code)) {
      this.#lost(null, this.#lastError);
    } else {
      const wants = message.code === 'forbidden' ? 'password' : null;
      this.#stop(`The server refused the join: ${this.#lastError}`, wants);
    }
  }

  /** Abandons the socket, then stops or reconnects, as the close code demands. */
  #lost(code, reason) {
    this.#drop();
    const fatal = fatalClose(code);
    if (fatal) {
      this.#stop(this.#lastError ? `${fatal} Its answer: ${this.#lastError}` : fatal, code === 4010 ? 'token' : null);
      return;
    }
    const { random } = this.#env;
    const wait = this.#retryAfter ? this.#retryAfter + random() * RETRY_SPREAD_MS : backoff(this.#attempt, random);
    this.#attempt += 1;
    this.#retryAfter = 0;
    const detail = this.#lastError ?? (reason || this.#refusal || `No connection to ${this.#config.url}`);
    this.#become('reconnecting', detail);
    if (!this.#opened) this.#askWhy();
    this.#timers.retry = this.#env.setTimeout(() => this.connect(), wait);
  }

  /** Gets the reason for a refused WebSocket from the server over HTTP, because browsers do not report it. */
  async #askWhy() {
    const refusal = await this.#env.refusal?.(this.#config.url);
    if (!refusal || this.#opened) return;
    this.#refusal = refusal;
    if (this.state === 'reconnecting') this.#become('reconnecting', refusal);
  }

  /** Detects a server that disappeared without closing the connection, for example because of an unplugged cable. */
  #watch() {
    this.#clear('ping');
    this.#timers.ping = this.#env.setTimeout(() => {
      if (!this.#heard) {
        this.#lost(null, 'The server stopped answering.');
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
    this.#refreshing = 0;
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
    refusal,
  };
}

/** The reason why the server at this WebSocket URL refuses the page; null if it does not refuse, or does not answer. */
async function refusal(url) {
  const address = new URL('ws', url.replace(/^ws/, 'http'));
  address.search = `?origin=${location.origin}`;
  try {
    const answer = await fetch(address, { cache: 'no-store', credentials: 'omit', signal: AbortSignal.timeout(5_000) });
    return answer.status === 403 ? (await answer.text()).trim().slice(0, 300) : null;
  } catch {
    return null;
  }
}
