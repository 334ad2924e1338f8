// The password and the token, and the rule for sending them: the server of this page gets them, and another server only after
// the user has confirmed its host name. A link can name any server, and users would trust a request for a password because of
// the host name and certificate of this page. `address.js` decides which servers are foreign.

export class Secrets {
  #values;
  #foreign;
  #confirmed = false;

  /** `values`: {password?, token?}. `foreign`: the server is not the server of this page. */
  constructor(values, foreign) {
    this.#values = values;
    this.#foreign = foreign;
  }

  /** Whether the server must not get a secret, because the user has not confirmed it. */
  get locked() {
    return this.#foreign && !this.#confirmed;
  }

  get isEmpty() {
    return !this.#values.password && !this.#values.token;
  }

  /** The secrets that the server may get now. */
  get forServer() {
    return this.locked ? {} : { ...this.#values };
  }

  /** The user confirmed the server. */
  confirm() {
    this.#confirmed = true;
  }

  /** The user declined, so the secrets of the link are discarded. */
  discard() {
    this.#values = {};
  }

  /** The user entered these. */
  replace(values) {
    Object.assign(this.#values, values);
  }
}

/**
 * Removes the secrets from the address bar, where bystanders and the browser's history would see them. Stores them in the
 * state of this history entry, so that they survive a reload of the page.
 */
export function takeFromAddress(location, history) {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const named = { password: fragment.get('password') ?? undefined, token: fragment.get('token') ?? undefined };
  const secrets = location.hash ? named : (history.state?.secrets ?? {});
  if (location.hash) history.replaceState({ secrets }, '', location.pathname + location.search);
  return secrets;
}

/** The fragment that passes these secrets to another instance of this page. */
export function toFragment(secrets) {
  const given = Object.entries(secrets).filter(([, value]) => value);
  return given.length ? `#${new URLSearchParams(given)}` : '';
}
