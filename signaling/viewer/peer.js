// One media session with one sender: an RTCPeerConnection that answers one offer. Another offer gets a new Peer; there is no
// renegotiation.

import { offeredStreams } from './sdp.js';

/** A session that is not connected after this time has failed, even if ICE is still trying. */
const CONNECT_TIMEOUT_MS = 30_000;
/** After this time without a decoded frame the picture counts as frozen. */
const STALL_MS = 3_000;

/**
 * `state`: 'connecting', 'live', 'stalled' (connected, but no frames arrive), 'interrupted' (ICE lost the connection
 * and tries to restore it), 'failed' (finally; `detail` has the reason) or 'closed'.
 * `hopeless`: the same offer would fail again, so requesting another one cannot help.
 * `on`: {state(peer), streams(peer, [{track} or {refusal}]), send(message)}.
 */
export class Peer {
  #pc = null;
  #iceServers;
  #on;
  #queue = [];
  #tracks = [];
  #warning = '';
  #frameAt;
  #startedAt = performance.now();
  state = 'connecting';
  detail = '';
  hopeless = false;
  frames = 0;

  constructor(sender, sessionId, iceServers, on) {
    this.sender = sender;
    this.sessionId = sessionId;
    this.#iceServers = iceServers;
    this.#on = on;
  }

  /** Whether a message with this `session_id` belongs to this session. A message without an id belongs to the current one. */
  owns(sessionId) {
    return !sessionId || !this.sessionId || sessionId === this.sessionId;
  }

  /** Answers the offer. A failure is reported in `state`, not as an exception. */
  async accept(offer) {
    let answer;
    try {
      this.#open();
      await this.#pc.setRemoteDescription({ type: 'offer', sdp: offer });
      const waiting = this.#queue;
      this.#queue = null;
      for (const candidate of waiting) this.addCandidate(candidate);
      await this.#pc.setLocalDescription();
      answer = this.#pc.localDescription.sdp;
    } catch (error) {
      this.#fail(`this browser cannot answer the offer: ${error.message}`, { hopeless: true, tell: true });
      return;
    }
    if (this.state === 'closed') return;
    this.#send({ type: 'answer', sdp: answer });
    this.#announce(offeredStreams(offer, answer));
  }

  /** Adds a candidate of the sender, as soon as there is a remote description. */
  addCandidate(candidate) {
    if (!candidate?.candidate || this.state === 'closed' || this.state === 'failed') return;
    if (this.#queue) {
      this.#queue.push(candidate);
      return;
    }
    this.#pc.addIceCandidate(candidate).catch((error) => {
      console.warn(`a candidate of ${this.sender} was refused:`, error.message, candidate);
    });
  }

  /** Checks whether frames arrive. Call it about once a second. */
  async poll(now = performance.now()) {
    if (this.state === 'connecting' && now - this.#startedAt > CONNECT_TIMEOUT_MS) {
      this.#fail('no connection to the camera within 30 s');
    }
    if (this.state !== 'live' && this.state !== 'stalled') return;
    const stats = await this.#pc.getStats();
    let frames = 0;
    for (const report of stats.values()) {
      if (report.type === 'inbound-rtp' && report.kind === 'video') frames += report.framesDecoded ?? 0;
    }
    if (frames !== this.frames) this.#frameAt = now;
    this.frames = frames;
    // The state may have changed while the statistics were collected.
    if (this.state === 'live' && now - this.#frameAt > STALL_MS) this.#become('stalled');
    else if (this.state === 'stalled' && now - this.#frameAt <= STALL_MS) this.#become('live');
  }

  /** Ends the session; with `tell` the sender receives a `bye`. */
  close(tell = false) {
    if (this.state === 'closed') return;
    if (tell) this.#send({ type: 'bye' });
    this.state = 'closed';
    this.#pc?.close();
  }

  #open() {
    const { pc, refused } = openConnection(this.#iceServers);
    this.#pc = pc;
    pc.onicecandidate = ({ candidate }) => {
      // The end of gathering is a null or an empty candidate, which is not sent.
      if (!candidate?.candidate) return;
      const { sdpMid, sdpMLineIndex } = candidate;
      this.#send({ type: 'candidate', candidate: { candidate: candidate.candidate, sdpMid, sdpMLineIndex } });
    };
    pc.onconnectionstatechange = () => this.#connectionChanged();
    pc.ontrack = ({ track, receiver, transceiver }) => {
      if (track.kind !== 'video') return;
      if ('jitterBufferTarget' in receiver) receiver.jitterBufferTarget = 0; // Low latency matters more than smoothness.
      this.#tracks.push({ track, transceiver });
    };
    if (refused.length) {
      console.warn('unusable ICE servers:', refused);
      this.#warning = `the STUN or TURN server ${refused.join(', ')} is unusable: correct its URL at the signaling server`;
      this.detail = this.#warning;
      this.#on.state(this);
    }
  }

  /** Shows the streams that the browser accepts, and the reason for the others. */
  #announce(offered) {
    const streams = offered.map(({ mid, codecs, accepted }) => {
      const track = this.#tracks.find(({ transceiver }) => transceiver.mid === mid)?.track;
      if (accepted && track) return { track };
      return { refusal: `this browser does not know the codec of this camera${codecs.length ? ` (${codecs.join(', ')})` : ''}` };
    });
    if (streams.length && streams.every(({ refusal }) => refusal)) {
      // The answer informs the sender, which may offer another codec.
      this.#fail(streams[0].refusal, { hopeless: true });
    } else {
      this.#on.streams(this, streams);
    }
  }

  #connectionChanged() {
    switch (this.#pc.connectionState) {
      case 'connected':
        this.#frameAt = performance.now();
        this.#become('live');
        break;
      case 'disconnected':
        this.#become('interrupted');
        break;
      case 'failed':
        this.#fail('the connection to the camera was lost');
        break;
    }
  }

  #fail(why, { hopeless = false, tell = false } = {}) {
    if (this.state === 'closed' || this.state === 'failed') return;
    if (tell) this.#send({ type: 'bye' });
    this.hopeless = hopeless;
    this.#become('failed', this.#warning ? `${why}; ${this.#warning}` : why);
    this.#pc?.close();
  }

  #become(state, detail = '') {
    if (this.state === 'closed' || this.state === 'failed' || this.state === state) return;
    this.state = state;
    this.detail = detail;
    this.#on.state(this);
  }

  #send(message) {
    if (this.state === 'closed') return;
    this.#on.send({ ...message, target_id: this.sender, session_id: this.sessionId });
  }
}

/**
 * Opens a connection with the ICE servers that the browser accepts, and returns the URLs of those that it refuses. One bad URL
 * makes the constructor throw, even if the others are valid.
 */
function openConnection(iceServers) {
  const open = (servers) => new RTCPeerConnection({ iceServers: servers, bundlePolicy: 'max-bundle' });
  try {
    return { pc: open(iceServers), refused: [] };
  } catch (error) {
    const isUsable = (server) => {
      try {
        open([server]).close();
        return true;
      } catch {
        return false;
      }
    };
    const list = Array.isArray(iceServers) ? iceServers : [];
    const refused = list.filter((server) => !isUsable(server));
    if (!refused.length) throw error; // The servers are not the cause.
    const pc = open(list.filter((server) => !refused.includes(server)));
    return { pc, refused: refused.map((server) => `“${[server?.urls].flat().join(', ')}”`) };
  }
}
