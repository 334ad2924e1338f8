// The viewer page: joins a room as receiver and shows every sender in it. This file wires the parts together:
// signaling.js (connection), presence.js (who is there), peer.js (a media session), grid.js (what is seen).
//
// Address: ?room=living_room&server=ws://host:port&id=name — all optional. A password or token goes into the fragment
// (#password=…&token=…), which browsers send to no server; or the page asks for it, and keeps it until it is closed.
//
// When a media session fails while its sender is still in the room: the sender is told `bye`, and the viewer leaves
// the room and joins it again, after 0.5 s at first and up to 60 s later. That is the one thing that makes every kind
// of sender offer anew. It costs other sessions a blink (their senders offer anew too, and a tile keeps its picture
// until the new one comes), so the pauses grow until a session connects.

import { Grid } from './grid.js';
import { Peer } from './peer.js';
import { Presence } from './presence.js';
import { DEFAULT_ROOM, Signaling, serverUrl } from './signaling.js';

const RECOVER_FIRST_MS = 500;
const RECOVER_LAST_MS = 60_000;
/** How long the tile of a session that its sender ended stays. */
const ENDED_MS = 5_000;

const query = new URLSearchParams(location.search);
const secrets = new URLSearchParams(location.hash.slice(1));
const room = (query.get('room') ?? '').trim().normalize('NFC') || DEFAULT_ROOM;

const page = {
  room: document.querySelector('#room'),
  status: document.querySelector('#status'),
  notice: document.querySelector('#notice'),
  secrets: document.querySelector('#secrets'),
  grid: new Grid(document.querySelector('#grid')),
};
const presence = new Presence();
/** The current session with each sender. */
const peers = new Map();
/** Senders whose session failed under them and who owe us an offer. */
const owed = new Set();
let iceServers = [];
let recovery = { timer: null, pause: RECOVER_FIRST_MS };
let signaling;

function start() {
  page.room.value = room;
  document.title = `${room} · room viewer`;
  let url;
  try {
    url = serverUrl(query.get('server'), location);
  } catch (error) {
    showStatus('stopped', error.message);
    return;
  }
  signaling = new Signaling(
    {
      url,
      room,
      clientId: query.get('id')?.normalize('NFC') || `viewer-${randomHex(4)}`,
      instance: randomHex(16),
      password: secrets.get('password') ?? undefined,
      token: secrets.get('token') ?? undefined,
    },
    { state: showStatus, iceServers: (list) => (iceServers = list), joined, message },
  );
  signaling.connect();
  setInterval(everySecond, 1000);
  page.room.form.addEventListener('submit', (event) => {
    event.preventDefault();
    query.set('room', page.room.value);
    location.search = query; // Keeps the server and the fragment.
  });
  page.secrets.addEventListener('submit', (event) => {
    event.preventDefault();
    signaling.retry(givenSecrets());
  });
  addEventListener('hashchange', () => location.reload());
  addEventListener('online', () => signaling.connect());
  addEventListener('pagehide', leave);
  // Back from the browser's cache with all connections gone: begin anew.
  addEventListener('pageshow', (event) => event.persisted && location.reload());
}

function joined(message) {
  apply(presence.joined(message.peers ?? [], message.total, performance.now()));
}

function message(message) {
  const { from } = message;
  switch (message.type) {
    case 'peer_joined':
      apply(presence.peerJoined(message));
      break;
    case 'peer_left':
      apply(presence.peerLeft(message.client_id, message.reason));
      break;
    case 'offer':
      offered(from, message);
      break;
    case 'candidate':
      current(from, message)?.addCandidate(message.candidate);
      break;
    case 'bye':
      if (current(from, message) || owed.has(from)) ended(from);
      break;
    case 'error':
      // An answer or candidate came too late for a sender that has gone; its `peer_left` says the rest.
      console.warn('the server says:', message.code, message.message);
      break;
  }
}

function offered(from, message) {
  if (typeof from !== 'string' || typeof message.sdp !== 'string') return;
  closeSession(from);
  owed.delete(from);
  const peer = new Peer(from, message.session_id ?? undefined, iceServers, {
    state: peerChanged,
    tracks: (peer, tracks) => peers.get(peer.sender) === peer && page.grid.show(peer.sender, tracks),
    send: (message) => signaling.send(message),
  });
  peers.set(from, peer);
  page.grid.expect(from);
  page.grid.mark(from, 'connecting', '');
  apply(presence.media(from, 'started'));
  showNotice();
  peer.accept(message.sdp);
}

/** The sender ended the session. It may begin another one at once, so its tile stays for a moment. */
function ended(from) {
  closeSession(from);
  owed.delete(from);
  apply(presence.media(from, 'none'));
  page.grid.mark(from, 'ended', '');
  setTimeout(() => !peers.has(from) && end(from), ENDED_MS);
}

function peerChanged(peer) {
  if (peers.get(peer.sender) !== peer) return;
  page.grid.mark(peer.sender, peer.state, peer.detail);
  if (peer.state === 'live') {
    recovery.pause = RECOVER_FIRST_MS;
    apply(presence.media(peer.sender, 'connected'));
  } else if (peer.state === 'failed') {
    const actions = presence.media(peer.sender, 'stopped');
    apply(actions);
    if (!actions.length) recover(peer);
  }
  showNotice();
}

/** See the top of this file. */
function recover(peer) {
  closeSession(peer.sender, true);
  owed.add(peer.sender);
  if (recovery.timer !== null) return;
  recovery.timer = setTimeout(() => {
    recovery.timer = null;
    // Without a connection to the server, the next `joined` brings what is owed.
    if (presence.present().some((id) => owed.has(id))) signaling.rejoin();
  }, recovery.pause);
  recovery.pause = Math.min(RECOVER_LAST_MS, recovery.pause * 2);
}

function apply(actions) {
  for (const { do: what, id } of actions) {
    if (what === 'end') {
      end(id);
    } else {
      closeSession(id);
      page.grid.mark(id, 'waiting', '');
    }
  }
  showNotice();
}

function end(sender) {
  closeSession(sender);
  owed.delete(sender);
  apply(presence.media(sender, 'none'));
  page.grid.remove(sender);
  showNotice();
}

/** The tile keeps the last picture. */
function closeSession(sender, tell = false) {
  page.grid.freeze(sender);
  peers.get(sender)?.close(tell);
  peers.delete(sender);
}

function current(from, { session_id: sessionId }) {
  const peer = peers.get(from);
  return peer?.owns(sessionId) ? peer : undefined;
}

function everySecond() {
  for (const peer of peers.values()) peer.poll();
  const due = presence.deadline();
  if (due !== null && due <= performance.now()) apply(presence.tick(performance.now()));
}

function leave() {
  for (const peer of peers.values()) peer.close(true);
  signaling.close();
}

/** What the form has to say; what is not asked for stays as it is. */
function givenSecrets() {
  const asked = [...page.secrets.querySelectorAll('input')].filter((input) => !input.parentElement.hidden);
  return Object.fromEntries(asked.map((input) => [input.id, input.value || undefined]));
}

/** Asks for what might help: the token, or the password; and for another token where there is one. */
function askFor(wants) {
  page.secrets.hidden = !wants;
  const token = page.secrets.querySelector('#token');
  const password = page.secrets.querySelector('#password');
  password.parentElement.hidden = wants !== 'password';
  token.parentElement.hidden = wants !== 'token' && !(wants && (token.value || secrets.get('token')));
  if (!token.value) token.value = secrets.get('token') ?? '';
  if (wants) page.secrets.querySelector(`#${wants}`).select();
}

function showStatus(state, detail, wants = null) {
  askFor(wants);
  const words = { connecting: 'connecting…', joined: 'connected', reconnecting: 'reconnecting…', stopped: 'stopped' };
  page.status.dataset.state = state;
  page.status.textContent = words[state];
  page.status.title = detail;
  showNotice(state === 'stopped' ? detail : undefined);
}

/** What the page says where there is no tile to look at, and below the bar when something is wrong. */
function showNotice(fatal = page.status.dataset.state === 'stopped' ? page.status.title : undefined) {
  const tiles = document.querySelector('.tile');
  const there = presence.present();
  let [title, text] = [`Waiting for a camera in room ${room}`, 'Pictures appear here by themselves.'];
  if (fatal) [title, text] = ['Not connected', fatal];
  else if (page.status.dataset.state !== 'joined') [title, text] = ['Connecting…', page.status.title];
  else if (there.length) [title, text] = [`Waiting for the picture of ${there.join(', ')}`, ''];
  page.notice.hidden = Boolean(tiles) && !fatal;
  page.notice.querySelector('h1').textContent = title;
  page.notice.querySelector('p').textContent = text;
}

function randomHex(bytes) {
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (b) => b.toString(16).padStart(2, '0')).join('');
}

/** For tests and the curious: what this page knows, as a copy. */
Object.defineProperty(window, 'roomViewer', {
  get: () => ({
    room,
    signaling: {
      state: signaling?.state ?? 'stopped',
      detail: signaling?.detail ?? '',
      wants: signaling?.wants ?? null,
    },
    senders: presence.present(),
    sessions: [...peers.values()].map(({ sender, sessionId, state, detail, frames }) => {
      return { sender, sessionId, state, detail, frames };
    }),
  }),
});

start();
