// What happens to media sessions when senders join, leave or restart, and when the signaling connection breaks.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ABSENT_MS, Presence } from '../presence.js';

const camera = (client_id, epoch = 'e1') => ({ client_id, role: 'sender', protocol: 1, epoch });
const join = (presence, peers, now = 0) => presence.joined(peers, peers.length, now);

/** A room with a camera whose media flows. */
function watching() {
  const presence = new Presence();
  assert.deepEqual(join(presence, [camera('cam')]), []);
  assert.deepEqual(presence.media('cam', 'started'), []);
  assert.deepEqual(presence.media('cam', 'connected'), []);
  return presence;
}

test('after a reconnect a sender with the same epoch keeps its session', () => {
  const presence = watching();
  assert.deepEqual(join(presence, [camera('cam')], 5000), []);
  assert.equal(presence.deadline(), null);
});

test('after a reconnect a sender with another epoch is a new process', () => {
  const presence = watching();
  assert.deepEqual(join(presence, [camera('cam', 'e2')]), [{ do: 'replaced', id: 'cam' }]);
});

test('a sender that restarts while the page is connected is replaced once', () => {
  const presence = watching();
  assert.deepEqual(presence.peerLeft('cam', 'disconnected'), []);
  assert.deepEqual(presence.peerJoined(camera('cam', 'e2')), [{ do: 'replaced', id: 'cam' }]);
  assert.deepEqual(presence.peerJoined(camera('cam', 'e2')), []);
});

test('an announcement of a new process does not end the session that it has already offered', () => {
  const presence = watching();
  presence.peerJoined(camera('cam', 'e2'));
  presence.media('cam', 'started');
  assert.deepEqual(presence.peerJoined(camera('cam', 'e2')), []);
});

test('a change of meta touches no session', () => {
  const presence = watching();
  assert.deepEqual(presence.peerJoined({ ...camera('cam'), meta: { name: 'front door' } }), []);
});

test('media ends immediately when a sender leaves or is kicked', () => {
  for (const reason of ['left', 'kicked']) {
    const presence = watching();
    assert.deepEqual(presence.peerLeft('cam', reason), [{ do: 'end', id: 'cam', reason: 'left' }]);
    assert.deepEqual(presence.present(), []);
  }
});

test('running media outlives the signaling connection of its sender until the media stops', () => {
  for (const reason of ['disconnected', 'timeout']) {
    const presence = watching();
    assert.deepEqual(presence.peerLeft('cam', reason), []);
    assert.equal(presence.deadline(), null);
    assert.deepEqual(presence.media('cam', 'stopped'), [{ do: 'end', id: 'cam', reason: 'stopped' }]);
  }
});

test('a session that never connected ends with the signaling connection of its sender', () => {
  const presence = new Presence();
  join(presence, [camera('cam')]);
  presence.media('cam', 'started');
  assert.deepEqual(presence.peerLeft('cam', 'disconnected'), [{ do: 'end', id: 'cam', reason: 'absent' }]);
});

test('a failed session of a sender in the room is left to the caller', () => {
  const presence = watching();
  assert.deepEqual(presence.media('cam', 'stopped'), []);
  assert.deepEqual(presence.present(), ['cam']);
});

test('a sender missing after a reconnect has 30 s to return', () => {
  const presence = watching();
  assert.deepEqual(join(presence, [], 1000), []);
  assert.equal(presence.deadline(), 1000 + ABSENT_MS);
  assert.deepEqual(presence.tick(1000 + ABSENT_MS - 1), []);
  assert.deepEqual(presence.tick(1000 + ABSENT_MS), [{ do: 'end', id: 'cam', reason: 'absent' }]);
  assert.equal(presence.deadline(), null);
});

test('a sender that returns within 30 s keeps its session', () => {
  const presence = watching();
  join(presence, [], 1000);
  assert.deepEqual(presence.peerJoined(camera('cam')), []);
  assert.equal(presence.deadline(), null);
  assert.deepEqual(presence.tick(100_000), []);
});

test('a missing sender is forgotten before the 30 s if its media stops', () => {
  const presence = watching();
  join(presence, [], 1000);
  assert.deepEqual(presence.media('cam', 'stopped'), [{ do: 'end', id: 'cam', reason: 'stopped' }]);
  assert.equal(presence.deadline(), null);
});

test('repeated reconnects do not extend the 30 s of a missing sender', () => {
  const presence = watching();
  join(presence, [], 1000);
  join(presence, [], 20_000);
  assert.equal(presence.deadline(), 1000 + ABSENT_MS);
});

test('a sender lost before the page lost its connection gets 30 s from the reconnect on', () => {
  const presence = watching();
  presence.peerLeft('cam', 'disconnected');
  join(presence, [], 7000);
  assert.equal(presence.deadline(), 7000 + ABSENT_MS);
});

test('an incomplete list proves no sender absent', () => {
  const presence = watching();
  assert.deepEqual(presence.joined([], 1001, 0), []);
  assert.equal(presence.deadline(), null);
  assert.deepEqual(presence.present(), ['cam']);
});

test('a sender that owes an offer is forgotten if it is missing after a reconnect', () => {
  const presence = watching();
  presence.peerJoined(camera('cam', 'e2'));
  assert.deepEqual(join(presence, [], 0), [{ do: 'end', id: 'cam', reason: 'absent' }]);
});

test('receivers are ignored, and a sender that becomes a receiver is forgotten', () => {
  const presence = watching();
  assert.deepEqual(presence.peerJoined({ client_id: 'other', role: 'receiver' }), []);
  assert.deepEqual(presence.present(), ['cam']);
  assert.deepEqual(presence.peerJoined({ client_id: 'cam', role: 'receiver', epoch: 'e1' }), [
    { do: 'end', id: 'cam', reason: 'left' },
  ]);
});

test('senders without an epoch keep their session', () => {
  const presence = new Presence();
  const old = { client_id: 'old', role: 'sender', protocol: 0 };
  join(presence, [old]);
  presence.media('old', 'connected');
  assert.deepEqual(join(presence, [old]), []);
});

test('an offer of an unannounced sender starts media as well', () => {
  const presence = new Presence();
  assert.deepEqual(presence.media('ghost', 'started'), []);
  presence.media('ghost', 'connected');
  assert.deepEqual(presence.peerLeft('ghost', 'left'), [{ do: 'end', id: 'ghost', reason: 'left' }]);
});

test('only announced senders may offer', () => {
  const presence = new Presence();
  join(presence, [camera('cam'), { client_id: 'listed', role: 'receiver' }]);
  presence.peerJoined({ client_id: 'late', role: 'receiver' });
  assert.deepEqual(['cam', 'listed', 'late', 'stranger', undefined, 7].map((id) => presence.mayOffer(id)), [true, false, false, false, false, false]);
  presence.peerJoined(camera('new'));
  assert.equal(presence.mayOffer('new'), true);
  presence.peerLeft('new', 'left');
  assert.equal(presence.mayOffer('new'), false);
});

test('every member may offer if the server announces nobody, or not everybody', () => {
  const presence = new Presence();
  presence.joined(undefined, undefined, 0);
  assert.equal(presence.mayOffer('cam'), true);
  presence.joined([camera('cam')], 1001, 0);
  assert.equal(presence.mayOffer('unlisted'), true);
  join(presence, [camera('cam')]);
  assert.equal(presence.mayOffer('unlisted'), false);
});

test('a server that announces nobody proves no sender absent', () => {
  const presence = new Presence();
  presence.joined(undefined, undefined, 0);
  presence.media('cam', 'connected');
  presence.media('other', 'started');
  assert.deepEqual(presence.joined(undefined, undefined, 1000), []);
  assert.equal(presence.deadline(), null);
});

test('malformed entries of the list are ignored', () => {
  const presence = new Presence();
  assert.deepEqual(join(presence, [null, 7, {}, { client_id: 3, role: 'sender' }, camera('cam')]), []);
  assert.deepEqual(presence.present(), ['cam']);
});
