// The viewer page: joins a room as a receiver and shows every sender in it. This file connects the parts: address.js and
// secrets.js (where to connect, and which secrets the server may have), signaling.js (the connection), presence.js (who
// is in the room), peer.js (a media session), recovery.js (new sessions for failed ones), grid.js (the tiles).
//
// Address: ?room=living_room&server=ws://host:port&id=name, all optional. A password or a token goes into the fragment
// (#password=…&token=…), which browsers never send, and which this page removes from the address bar. Otherwise the page asks
// for the secret that the server requires.

import { serverAddress } from './address.js';
import { Grid } from './grid.js';
import { Peer } from './peer.js';
import { Presence } from './presence.js';
import { Recovery } from './recovery.js';
import { Secrets, takeFromAddress, toFragment } from './secrets.js';
import { DEFAULT_ROOM, Signaling } from './signaling.js';

/** How long a tile stays after its sender ended the session, because the sender may begin another one immediately. */
const ENDED_MS = 5_000;
const LABELS = { connecting: 'connecting…', joined: 'connected', reconnecting: 'reconnecting…', stopped: 'not connected' };
/** Titles of the notice while the page needs an answer of the user. */
const QUESTIONS = { password: 'Password required', token: 'Token required', confirmation: 'Send a secret to another server?' };

const query = new URLSearchParams(location.search);
const room = (query.get('room') ?? '').trim().normalize('NFC') || DEFAULT_ROOM;

const page = {
  room: document.querySelector('#room'),
  status: document.querySelector('#status'),
  notice: document.querySelector('#notice'),
  confirm: document.querySelector('#confirm'),
  secrets: document.querySelector('#secrets'),
  grid: new Grid(document.querySelector('#grid')),
};
const presence = new Presence();
/** The current session with each sender. */
const peers = new Map();
const recovery = new Recovery({
  present: () => presence.present(),
  hasOtherSessions: () => [...peers.values()].some((peer) => peer.state !== 'failed'),
  changeMeta: () => signaling.changeMeta(),
  rejoin: () => signaling.rejoin(),
});
let iceServers = [];
let server;
let secrets;
let signaling;

function start() {
  page.room.value = room;
  document.title = `${room} · room viewer`;
  const fromLink = takeFromAddress(location, history);
  try {
    server = serverAddress(query.get('server'), room, location);
  } catch (error) {
    showStatus('stopped', error.message);
    return;
  }
  secrets = new Secrets(fromLink, server.foreign);
  signaling = new Signaling(
    {
      url: server.url,
      room,
      clientId: query.get('id')?.normalize('NFC') || `viewer-${randomHex(4)}`,
      instance: randomHex(16),
      ...secrets.forServer,
    },
    { state: showStatus, iceServers: (list) => (iceServers = list), joined, message },
  );
  listen();
  if (secrets.locked && !secrets.isEmpty) {
    signaling.hold(`This link leads to another server, ${server.host}, and contains a secret for it.`, 'confirmation');
  } else {
    signaling.connect();
  }
  setInterval(everySecond, 1000);
}

function listen() {
  page.room.form.addEventListener('submit', (event) => {
    event.preventDefault();
    query.set('room', page.room.value);
    location.href = `?${query}${toFragment(fromHistory())}`;
  });
  page.confirm.addEventListener('submit', (event) => {
    event.preventDefault();
    confirmed(event.submitter?.value === 'yes');
  });
  page.secrets.addEventListener('submit', (event) => {
    event.preventDefault();
    secrets.replace(typedSecrets());
    signaling.retry(secrets.forServer);
  });
  addEventListener('hashchange', () => location.reload());
  addEventListener('online', () => signaling.connect());
  addEventListener('pagehide', leave);
  // The browser restored the page from its cache, with all connections gone.
  addEventListener('pageshow', (event) => event.persisted && location.reload());
}

/** The user decided whether the other server may have secrets. */
function confirmed(yes) {
  if (yes) {
    secrets.confirm();
  } else {
    secrets.discard();
    history.replaceState(null, '');
  }
  if (signaling.wants === 'confirmation') signaling.retry(secrets.forServer);
  else showStatus('stopped', signaling.detail, signaling.wants);
}

function joined(message) {
  apply(presence.joined(message.peers, message.total, performance.now()));
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
      if (current(from, message) || recovery.settled(from)) ended(from);
      break;
    case 'error':
      // An answer or a candidate came too late for a sender that has left; `peer_left` handles that.
      console.warn('the server reports:', message.code, message.message);
      break;
  }
}

function offered(from, message) {
  if (typeof message.sdp !== 'string') return;
  if (!presence.mayOffer(from)) {
    console.warn('ignored an offer from a member that is no sender:', from);
    return;
  }
  closeSession(from);
  recovery.settled(from);
  const peer = new Peer(from, message.session_id ?? undefined, iceServers, {
    state: peerChanged,
    streams: showStreams,
    send: (message) => signaling.send(message),
  });
  peers.set(from, peer);
  page.grid.expect(from);
  page.grid.mark(from, 'connecting', '');
  apply(presence.media(from, 'started'));
  showNotice();
  peer.accept(message.sdp);
}

function showStreams(peer, streams) {
  if (peers.get(peer.sender) !== peer) return;
  page.grid.show(peer.sender, streams);
  page.grid.mark(peer.sender, peer.state, peer.detail);
}

/** The sender ended the session. */
function ended(from) {
  closeSession(from);
  recovery.settled(from);
  apply(presence.media(from, 'none'));
  page.grid.mark(from, 'ended', '');
  setTimeout(() => !peers.has(from) && end(from), ENDED_MS);
}

function peerChanged(peer) {
  if (peers.get(peer.sender) !== peer) return;
  page.grid.mark(peer.sender, peer.state, peer.detail);
  if (peer.state === 'live') {
    recovery.connected();
    apply(presence.media(peer.sender, 'connected'));
  } else if (peer.state === 'failed') {
    failed(peer);
  }
  showNotice();
}

/**
 * A session failed. Unless the sender has left, too, its tile shows the reason, and the page requests another session if that
 * can help.
 */
function failed(peer) {
  const actions = presence.media(peer.sender, 'stopped');
  apply(actions);
  if (actions.length || peer.hopeless) return;
  closeSession(peer.sender, true);
  recovery.failed(peer.sender);
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
  recovery.settled(sender);
  apply(presence.media(sender, 'none'));
  page.grid.remove(sender);
  showNotice();
}

/** Closes the session with a sender. Its tile keeps the last picture. */
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

/** The secrets of the link. */
function fromHistory() {
  return history.state?.secrets ?? {};
}

/** The secrets in the visible fields of the form. Other secrets remain unchanged. */
function typedSecrets() {
  const visible = [...page.secrets.querySelectorAll('input')].filter((input) => !input.parentElement.hidden);
  return Object.fromEntries(visible.map((input) => [input.id, input.value || undefined]));
}

/**
 * Shows the form for the secret that might help, and the token if there is one that may be wrong. A server that the user has
 * not confirmed has to be confirmed first.
 */
function askFor(wants) {
  const locked = Boolean(wants) && secrets.locked;
  page.confirm.hidden = !locked;
  page.secrets.hidden = !wants || locked;
  if (locked) askForConfirmation(wants);
  if (page.secrets.hidden) return;
  const token = page.secrets.querySelector('#token');
  const password = page.secrets.querySelector('#password');
  const known = secrets.forServer.token;
  password.parentElement.hidden = wants !== 'password';
  token.parentElement.hidden = wants !== 'token' && !token.value && !known;
  if (!token.value) token.value = known ?? '';
  // A password manager selects passwords by the host of the page, so it must not fill one in for another server.
  password.autocomplete = server.foreign ? 'off' : 'current-password';
  const [fields, button] = server.foreign ? [` for ${server.host}`, `Send to ${server.host}`] : ['', 'Join'];
  password.previousElementSibling.textContent = `Password of the room${fields}`;
  token.previousElementSibling.textContent = `Token${fields}`;
  page.secrets.querySelector('button').textContent = button;
  page.secrets.querySelector(`#${wants}`).select();
}

function askForConfirmation(wants) {
  const [yes, no] = page.confirm.querySelectorAll('button');
  const secret = wants === 'confirmation' ? 'the secret in this link' : `a ${wants}`;
  page.confirm.querySelector('p').textContent =
    `This page is from ${location.host || 'a file'}. Give ${server.host} ${secret} only if you know and trust that server.`;
  yes.textContent = wants === 'confirmation' ? `Send it to ${server.host}` : `I trust ${server.host}`;
  no.hidden = wants !== 'confirmation';
}

function showStatus(state, detail, wants = null) {
  askFor(wants);
  page.status.dataset.state = state;
  page.status.textContent = server?.foreign ? `${LABELS[state]} · ${server.host}` : LABELS[state];
  page.status.title = detail;
  showNotice(state === 'stopped' ? detail : undefined);
}

/** Updates the notice, which is visible if there is no tile, or if the page is not connected. */
function showNotice(fatal = page.status.dataset.state === 'stopped' ? page.status.title : undefined) {
  const tiles = document.querySelector('.tile');
  const present = presence.present();
  const state = page.status.dataset.state;
  let [title, text] = [`Waiting for a camera in room ${room}`, 'The video starts automatically.'];
  if (fatal) [title, text] = [QUESTIONS[signaling?.wants] ?? 'Not connected', fatal];
  else if (state === 'reconnecting') [title, text] = ['Reconnecting…', page.status.title];
  else if (state !== 'joined') [title, text] = ['Connecting…', page.status.title];
  else if (present.length) [title, text] = [`Waiting for video from ${present.join(', ')}`, ''];
  page.notice.hidden = Boolean(tiles) && !fatal;
  page.notice.querySelector('h1').textContent = title;
  page.notice.querySelector('p').textContent = text;
}

function randomHex(bytes) {
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (b) => b.toString(16).padStart(2, '0')).join('');
}

/** A copy of the state of the page, for tests and for debugging. */
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
