// Who is in the room and which media sessions are still good: the part of the protocol ("Reconnecting without losing
// video", rules 6 and 7) that needs no socket and no clock. Time comes in as milliseconds of any monotonic clock;
// every method returns what the owner has to do, in order:
//   {do: 'end', id, reason}   end the media session with this sender: 'left', 'absent' or 'stopped'
//   {do: 'replaced', id}      a new process has this id: its old session is dead, an offer of the new one comes

/** How long a session outlives the absence of its sender from `joined.peers`. */
export const ABSENT_MS = 30_000;

export class Presence {
  /** Per sender: {present, epoch, media: 'none' | 'started' | 'connected', deadline: ms or null} */
  #senders = new Map();

  /** The ids of the senders that are in the room as far as the server told. */
  present() {
    return [...this.#senders].filter(([, s]) => s.present).map(([id]) => id);
  }

  /** Folds `joined`: `peers` is everybody who is there. `total` above their number says that the list was cut. */
  joined(peers, total, now) {
    const actions = [];
    const seen = new Set();
    for (const entry of peers.filter(isSender)) {
      seen.add(entry.client_id);
      actions.push(...this.peerJoined(entry));
    }
    const complete = !(total > peers.length);
    for (const [id, sender] of this.#senders) {
      if (seen.has(id) || !sender.present || !complete) continue;
      sender.present = false;
      if (sender.media === 'none') actions.push(...this.#forget(id, 'absent'));
      else sender.deadline = now + ABSENT_MS;
    }
    // Absent before the connection was lost already: from now on the same limit holds for them.
    for (const sender of this.#senders.values()) {
      if (!sender.present) sender.deadline ??= now + ABSENT_MS;
    }
    return actions;
  }

  /** Folds `peer_joined`, which is an upsert (rule 6). */
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

  /** Folds `peer_left`. */
  peerLeft(id, reason) {
    const sender = this.#senders.get(id);
    if (!sender) return [];
    if (reason === 'left' || reason === 'kicked') return this.#forget(id, 'left');
    if (sender.media !== 'connected') return this.#forget(id, 'absent');
    sender.present = false; // Its media alone decides from here.
    return [];
  }

  /** The owner tells how the session with a sender fares: 'none', 'started', 'connected', or 'stopped' for good. */
  media(id, state) {
    const sender = this.#senders.get(id);
    if (!sender) {
      // An offer of somebody who was never announced: a server of the old kind.
      if (state === 'started') {
        this.#senders.set(id, { present: true, epoch: null, media: state, deadline: null });
      }
      return [];
    }
    sender.media = state === 'stopped' ? 'none' : state;
    if (sender.present || sender.media !== 'none') return [];
    return this.#forget(id, 'stopped');
  }

  /** When `tick` wants to be called; null when nothing waits. */
  deadline() {
    const waiting = [...this.#senders.values()].map((s) => s.deadline).filter((d) => d !== null);
    return waiting.length ? Math.min(...waiting) : null;
  }

  /** The time has come. */
  tick(now) {
    const due = [...this.#senders].filter(([, s]) => s.deadline !== null && s.deadline <= now);
    return due.flatMap(([id]) => this.#forget(id, 'absent'));
  }

  #forget(id, reason) {
    // Said even where no media is known: the owner may still show the last picture of a replaced process.
    return this.#senders.delete(id) ? [{ do: 'end', id, reason }] : [];
  }
}

function isSender(entry) {
  return entry.role === 'sender';
}
