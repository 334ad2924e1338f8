// The senders in the room, and which media sessions survive a reconnect (docs/protocol.md). It uses no socket and no clock: the
// time is an argument, in milliseconds of any monotonic clock, and every method returns the actions for the caller, in order:
//   {do: 'end', id, reason}   end the media session with this sender: 'left', 'absent' or 'stopped'
//   {do: 'replaced', id}      a new process has this id: its old session is dead, and the new process will offer

/** How long a session outlives the absence of its sender from `joined.peers`, in milliseconds. */
export const ABSENT_MS = 30_000;

export class Presence {
  /** Per sender: {present, epoch, media: 'none' | 'started' | 'connected', deadline: ms or null} */
  #senders = new Map();
  /** Whether the server announces every sender. */
  #complete = true;

  /** The ids of the senders in the room, as announced by the server. */
  present() {
    return [...this.#senders].filter(([, s]) => s.present).map(([id]) => id);
  }

  /**
   * Whether this member may offer media. Known senders may. Every member may if the server announces no members, like servers
   * before protocol version 1, or if its list is incomplete.
   */
  mayOffer(id) {
    return typeof id === 'string' && (this.#senders.has(id) || !this.#complete);
  }

  /**
   * Applies `joined`. `peers` lists the members; servers that announce no members omit it. A `total` above their number means
   * that the list is incomplete.
   */
  joined(peers, total, now) {
    const actions = [];
    const seen = new Set();
    const listed = (Array.isArray(peers) ? peers : []).filter((entry) => typeof entry?.client_id === 'string');
    for (const entry of listed.filter(isSender)) {
      seen.add(entry.client_id);
      actions.push(...this.peerJoined(entry));
    }
    const complete = Array.isArray(peers) && !(total > peers.length);
    this.#complete = complete;
    for (const [id, sender] of this.#senders) {
      if (seen.has(id) || !sender.present || !complete) continue;
      sender.present = false;
      if (sender.media === 'none') actions.push(...this.#forget(id, 'absent'));
      else sender.deadline = now + ABSENT_MS;
    }
    // From now on, the limit also applies to senders that were absent before the connection was lost.
    for (const sender of this.#senders.values()) {
      if (!sender.present) sender.deadline ??= now + ABSENT_MS;
    }
    return actions;
  }

  /** Applies `peer_joined`, which adds a member or changes one. */
  peerJoined(entry) {
    if (!isSender(entry)) return this.#forget(entry.client_id, 'left');
    const known = this.#senders.get(entry.client_id);
    const epoch = entry.epoch ?? null;
    if (!known) {
      this.#senders.set(entry.client_id, { present: true, epoch, media: 'none', deadline: null });
      return [];
    }
    const replaced = known.epoch !== epoch && known.media !== 'none';
    Object.assign(known, { present: true, epoch, deadline: null });
    if (!replaced) return [];
    known.media = 'none';
    return [{ do: 'replaced', id: entry.client_id }];
  }

  /** Applies `peer_left`. */
  peerLeft(id, reason) {
    const sender = this.#senders.get(id);
    if (!sender) return [];
    if (reason === 'left' || reason === 'kicked') return this.#forget(id, 'left');
    if (sender.media !== 'connected') return this.#forget(id, 'absent');
    sender.present = false; // From now on, only the state of the media counts.
    return [];
  }

  /** Applies a change of the media session with a sender: 'none', 'started', 'connected', or 'stopped' for good. */
  media(id, state) {
    const sender = this.#senders.get(id);
    if (!sender) {
      // The sender was never announced (see mayOffer).
      if (state === 'started') {
        this.#senders.set(id, { present: true, epoch: null, media: state, deadline: null });
      }
      return [];
    }
    sender.media = state === 'stopped' ? 'none' : state;
    if (sender.present || sender.media !== 'none') return [];
    return this.#forget(id, 'stopped');
  }

  /** When `tick` is due; null if no sender is absent. */
  deadline() {
    const waiting = [...this.#senders.values()].map((s) => s.deadline).filter((d) => d !== null);
    return waiting.length ? Math.min(...waiting) : null;
  }

  /** Ends the sessions of senders that have been absent for too long. */
  tick(now) {
    const due = [...this.#senders].filter(([, s]) => s.deadline !== null && s.deadline <= now);
    return due.flatMap(([id]) => this.#forget(id, 'absent'));
  }

  #forget(id, reason) {
    // Returned even without media, because the caller may still show the last picture of a replaced process.
    return this.#senders.delete(id) ? [{ do: 'end', id, reason }] : [];
  }
}

function isSender(entry) {
  return entry.role === 'sender';
}
