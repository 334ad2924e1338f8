// Requests a new offer from senders whose media session failed while they are still in the room.
//
// A sender that received `bye` offers again when this page joins the room again with another `meta`. Sessions with other senders
// are not affected, so one broken camera never interrupts the others. Senders that do not support `meta` offer to every member
// that joins, so if there are no other sessions, the page leaves the room and joins it again. The pauses grow from 0.5 s to
// 60 s until a session connects.

const FIRST_MS = 500;
const LAST_MS = 60_000;

export class Recovery {
  #owing = new Set();
  #pause = FIRST_MS;
  #timer = null;
  #do;
  #env;

  /**
   * `actions`: {present(): ids of the senders in the room, hasOtherSessions(): whether a session is under way,
   * changeMeta(), rejoin()}.
   */
  constructor(actions, env = globalThis) {
    this.#do = actions;
    this.#env = env;
  }

  /** The session with this sender failed, and the sender was informed. */
  failed(sender) {
    this.#owing.add(sender);
    this.#schedule();
  }

  /** No offer of this sender is expected any more: it offered, sent `bye`, or left. Returns whether one was expected. */
  settled(sender) {
    return this.#owing.delete(sender);
  }

  /** A session connected, so the network works, and the next request may follow soon. */
  connected() {
    this.#pause = FIRST_MS;
  }

  #schedule() {
    if (this.#timer !== null) return;
    this.#timer = this.#env.setTimeout(() => {
      this.#timer = null;
      this.#ask();
    }, this.#pause);
    this.#pause = Math.min(LAST_MS, this.#pause * 2);
  }

  #ask() {
    if (!this.#owing.size) return;
    // A sender that is not in the room offers when it returns.
    if (this.#do.present().some((id) => this.#owing.has(id))) {
      if (this.#do.hasOtherSessions()) this.#do.changeMeta();
      else this.#do.rejoin();
    }
    this.#schedule();
  }
}
