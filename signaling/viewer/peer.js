// One media session with one sender: an RTCPeerConnection that answers one offer. A sender that offers again gets a
// new one of these; nothing is renegotiated.

/** A session that isn't connected by then has failed, even where ICE goes on hoping. */
const CONNECT_TIMEOUT_MS = 30_000;
/** Without a decoded frame for so long the picture counts as standing still. */
const STALL_MS = 3_000;

/**
 * `state`: 'connecting', 'live', 'stalled' (connected, but no frames come), 'interrupted' (ICE lost the sender and
 * looks for it), 'failed' (for good; `detail` says why) or 'closed'.
 * `on`: {state(peer), tracks(peer, videoTracks), send(message)}.
 */
export class Peer {
  #pc;
  #on;
  #queue = [];
  #tracks = [];
  #frameAt;
  #startedAt = performance.now();
  state = 'connecting';
  detail = '';
  frames = 0;

  constructor(sender, sessionId, iceServers, on) {
    this.sender = sender;
    this.sessionId = sessionId;
    this.#on = on;
    this.#pc = new RTCPeerConnection({ iceServers, bundlePolicy: 'max-bundle' });
    this.#pc.onicecandidate = ({ candidate }) => {
      // The end of gathering comes as null or as an empty candidate; neither is for the wire (rule 15).
      if (!candidate?.candidate) return;
      const { sdpMid, sdpMLineIndex } = candidate;
      this.#send({ type: 'candidate', candidate: { candidate: candidate.candidate, sdpMid, sdpMLineIndex } });
    };
    this.#pc.onconnectionstatechange = () => this.#connectionChanged();
    this.#pc.ontrack = ({ track, receiver }) => {
      if (track.kind !== 'video') return;
      if ('jitterBufferTarget' in receiver) receiver.jitterBufferTarget = 0; // Live: rather early than smooth.
      this.#tracks.push(track);
    };
  }

  /** Is a message with this `session_id` about this session? A missing one means the current session. */
  owns(sessionId) {
    return !sessionId || !this.sessionId || sessionId === this.sessionId;
  }

  /** Answers the offer. A failure ends up in `state`, never in an exception. */
  async accept(sdp) {
    const pc = this.#pc;
    try {
      await pc.setRemoteDescription({ type: 'offer', sdp });
      const waiting = this.#queue;
      this.#queue = null;
      for (const candidate of waiting) this.addCandidate(candidate);
      await pc.setLocalDescription();
    } catch (error) {
      this.#become('failed', `this browser can't answer the offer: ${error.message}`);
      return;
    }
    if (this.state === 'closed') return;
    const answer = pc.localDescription.sdp;
    this.#send({ type: 'answer', sdp: answer });
    if (/^m=video 0 /m.test(answer)) this.#become('failed', 'this browser does not know the codec of this camera');
    else this.#on.tracks(this, this.#tracks);
  }

  /** A candidate of the sender; kept until there is a description that it can belong to. */
  addCandidate(candidate) {
    if (!candidate?.candidate || this.state === 'closed') return;
    if (this.#queue) {
      this.#queue.push(candidate);
      return;
    }
    this.#pc.addIceCandidate(candidate).catch((error) => {
      console.warn(`a candidate of ${this.sender} was refused:`, error.message, candidate);
    });
  }

  /** Looks whether frames come; to be called about once a second. */
  async poll(now = performance.now()) {
    if (this.state === 'connecting' && now - this.#startedAt > CONNECT_TIMEOUT_MS) {
      this.#become('failed', 'no connection came about');
    }
    if (this.state !== 'live' && this.state !== 'stalled') return;
    const stats = await this.#pc.getStats();
    let frames = 0;
    for (const report of stats.values()) {
      if (report.type === 'inbound-rtp' && report.kind === 'video') frames += report.framesDecoded ?? 0;
    }
    if (frames !== this.frames) this.#frameAt = now;
    this.frames = frames;
    // The state may have moved on while the numbers were gathered.
    if (this.state === 'live' && now - this.#frameAt > STALL_MS) this.#become('stalled', '');
    else if (this.state === 'stalled' && now - this.#frameAt <= STALL_MS) this.#become('live', '');
  }

  /** Ends it here; with `tell` the sender is told by `bye`. */
  close(tell = false) {
    if (this.state === 'closed') return;
    if (tell) this.#send({ type: 'bye' });
    this.state = 'closed';
    this.#pc.close();
  }

  #connectionChanged() {
    switch (this.#pc.connectionState) {
      case 'connected':
        this.#frameAt = performance.now();
        this.#become('live', '');
        break;
      case 'disconnected':
        this.#become('interrupted', '');
        break;
      case 'failed':
        this.#become('failed', 'the connection to the camera is lost');
        break;
    }
  }

  #become(state, detail) {
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
