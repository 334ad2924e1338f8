// A media session against a connection made of glass.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { Peer } from '../peer.js';

const head = 'v=0\r\ns=-\r\n';
const line = (mid, port) => `m=video ${port} UDP/TLS/RTP/SAVPF 96\r\na=mid:${mid}\r\na=sendonly\r\na=rtpmap:96 ${mid}/90000\r\n`;
const OFFER = head + line('VP8', 9) + line('H264', 9);

let connections;
let behavior;

class FakeConnection {
  closed = false;
  connectionState = 'new';
  constructor({ iceServers }) {
    if (behavior.refuses) throw new Error(behavior.refuses);
    for (const { urls } of iceServers) if (urls === 'stun:') throw new SyntaxError('bad URL');
    this.iceServers = iceServers;
    connections.push(this);
  }
  async setRemoteDescription({ sdp }) {
    if (behavior.badOffer) throw new Error('no such format');
    for (const [, mid] of sdp.matchAll(/^a=mid:(\S+)/gm)) {
      this.ontrack({ track: { kind: 'video', mid }, receiver: {}, transceiver: { mid } });
    }
  }
  async setLocalDescription() {
    this.localDescription = { sdp: behavior.answer ?? OFFER };
  }
  addIceCandidate(candidate) {
    (this.candidates ??= []).push(candidate.candidate);
    return Promise.resolve();
  }
  become(state) {
    this.connectionState = state;
    this.onconnectionstatechange();
  }
  close() {
    this.closed = true;
  }
}

beforeEach(() => {
  connections = [];
  behavior = {};
  globalThis.RTCPeerConnection = FakeConnection;
  console.warn = () => {};
});
afterEach(() => delete globalThis.RTCPeerConnection);

function session(iceServers = []) {
  const seen = { states: [], sent: [], streams: null };
  const peer = new Peer('cam', 's1', iceServers, {
    state: ({ state, detail }) => seen.states.push([state, detail]),
    streams: (_, streams) => (seen.streams = streams.map(({ track, refusal }) => track?.mid ?? refusal)),
    send: (message) => seen.sent.push(message.type),
  });
  return { peer, seen };
}

test('an offer is answered and its streams are shown', async () => {
  const { peer, seen } = session();
  await peer.accept(OFFER);
  assert.deepEqual([seen.sent, seen.streams], [['answer'], ['VP8', 'H264']]);
  connections[0].become('connected');
  assert.equal(peer.state, 'live');
});

test('a stream with an unknown codec is refused, and the others are shown', async () => {
  behavior.answer = head + line('VP8', 9) + line('H264', 0);
  const { peer, seen } = session();
  await peer.accept(OFFER);
  assert.equal(peer.state, 'connecting');
  assert.equal(seen.streams[0], 'VP8');
  assert.match(seen.streams[1], /codec of this camera \(H264\)/);
});

test('without a common codec the session ends, and the answer informs the sender', async () => {
  behavior.answer = head + line('VP8', 0) + line('H264', 0);
  const { peer, seen } = session();
  await peer.accept(OFFER);
  assert.deepEqual([peer.state, peer.hopeless, seen.sent], ['failed', true, ['answer']]);
  assert.ok(connections[0].closed);
});

test('an offer that the browser rejects ends the session with a bye', async () => {
  behavior.badOffer = true;
  const { peer, seen } = session();
  await peer.accept(OFFER);
  assert.deepEqual([peer.state, peer.hopeless, seen.sent], ['failed', true, ['bye']]);
  assert.match(peer.detail, /no such format/);
});

test('a bad ICE URL is reported, and the other servers are used', async () => {
  const { peer, seen } = session([{ urls: 'stun:' }, { urls: 'stun:good' }]);
  await peer.accept(OFFER);
  const used = connections.find(({ closed }) => !closed);
  assert.deepEqual(used.iceServers, [{ urls: 'stun:good' }]);
  assert.match(seen.states[0][1], /“stun:” is unusable/);
  assert.deepEqual(seen.sent, ['answer']);
  used.become('failed');
  assert.match(peer.detail, /lost; .*“stun:”/);
});

test('a browser that cannot open a connection reports it', async () => {
  behavior.refuses = 'too many connections';
  for (const servers of [[], [{ urls: 'stun:good' }], null]) {
    const { peer } = session(servers);
    await peer.accept(OFFER);
    assert.equal(peer.state, 'failed');
    peer.addCandidate({ candidate: 'late' });
    await peer.poll();
    peer.close(true);
  }
});

test('candidates wait for the remote description', async () => {
  const { peer } = session();
  peer.addCandidate({ candidate: 'early' });
  peer.addCandidate({ candidate: '' });
  await peer.accept(OFFER);
  peer.addCandidate({ candidate: 'late' });
  assert.deepEqual(connections[0].candidates, ['early', 'late']);
});

test('a session that is not connected after 30 s has failed', async () => {
  const { peer } = session();
  await peer.accept(OFFER);
  await peer.poll(performance.now() + 29_000);
  assert.equal(peer.state, 'connecting');
  await peer.poll(performance.now() + 31_000);
  assert.deepEqual([peer.state, peer.hopeless], ['failed', false]);
});
