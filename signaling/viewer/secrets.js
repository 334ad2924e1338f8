// The password and the token, and the rule on who may have them: the server that this page came from, and any other
// server only after the user has confirmed it by its name. A link can name any server, and a page that asked for a
// password on that server's behalf would lend it the name and the certificate of its own host.

export class Secrets {
  #values;
  #foreign;
  #confirmed = false;

  /** `values`: {password?, token?}. `foreign`: the server is not the one that this page came from. */
  constructor(values, foreign) {
    this.#values = values;
    this.#foreign = foreign;
  }

  /** Whether the server may neither get nor ask for a secret before the user has confirmed it. */
  get locked() {
    return this.#foreign && !this.#confirmed;
  }

  get isEmpty() {
    return !this.#values.password && !this.#values.token;
  }

  /** What the server may get now. */
  get forServer() {
    return this.locked ? {} : { ...this.#values };
  }

  /** The user confirmed the server. */
  confirm() {
    this.#confirmed = true;
  }

  /** The user declined: what the link brought is forgotten. */
  discard() {
    this.#values = {};
  }

  /** The user typed these. */
  replace(values) {
    Object.assign(this.#values, values);
  }
}

/**
 * Takes the secrets out of the address bar, where bystanders and the browser's history would see them. They are kept in
 * the state of this history entry, so that reloading the page keeps them, too.
 */
export function takeFromAddress(location, history) {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const named = { password: fragment.get('password') ?? undefined, token: fragment.get('token') ?? undefined };
  const secrets = location.hash ? named : (history.state?.secrets ?? {});
  if (location.hash) history.replaceState({ secrets }, '', location.pathname + location.search);
  return secrets;
}

/** The fragment that hands these secrets to another view of this page. */
export function toFragment(secrets) {
  const given = Object.entries(secrets).filter(([, value]) => value);
  return given.length ? `#${new URLSearchParams(given)}` : '';
}
