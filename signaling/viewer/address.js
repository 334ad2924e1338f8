// Addresses of signaling servers: the server of this page, or another one that the link names, which is foreign: it gets
// secrets only after the user's confirmation.

export const DEFAULT_PORT = 8765;

const EXAMPLE = 'Write it like ws://host:8765 or wss://host/path';

/**
 * Finds the WebSocket that leads to a room.
 *
 * `wanted` is the server that the link names: ws(s)://…, http(s)://…, or host:port; null or empty means the server of
 * the page. An address without port and path means port 8765, the default of the server. An address with a path means the
 * port of its scheme, 80 or 443, because it leads to a proxy, and so do http:// and https://.
 *
 * Returns {url, host, foreign}: the URL with the room in its query, the host of the server for display, and whether
 * it differs from the host of the page. Throws an Error with a text for the user if `wanted` is not an address.
 */
export function serverAddress(wanted, room, page) {
  const url = wanted ? parse(wanted, page) : own(page);
  const query = url.search.slice(1);
  if (!new URLSearchParams(query).has('room')) {
    // Appended as text, because URLSearchParams would rewrite the rest of the query.
    url.search = `${query && `${query}&`}room=${encodeURIComponent(room)}`;
  }
  return { url: url.href, host: url.host, foreign: hostAndPort(url) !== hostAndPort(page) };
}

function own(page) {
  const url = new URL('ws', page.href);
  url.protocol = isSecure(page) ? 'wss:' : 'ws:';
  url.search = '';
  url.hash = '';
  return url;
}

function parse(wanted, page) {
  const full = wanted.includes('://') ? wanted : `${isSecure(page) ? 'wss' : 'ws'}://${wanted}`;
  let url;
  try {
    url = new URL(full);
  } catch {
    throw new Error(`“${wanted}” is not a server address. ${EXAMPLE}`);
  }
  if (url.username || url.password) throw new Error(`A server address must not contain a user or password. ${EXAMPLE}`);
  const isWeb = url.protocol === 'http:' || url.protocol === 'https:';
  if (isWeb) url.protocol = url.protocol === 'http:' ? 'ws:' : 'wss:';
  else if (url.protocol !== 'ws:' && url.protocol !== 'wss:') {
    throw new Error(`“${wanted}” is not a WebSocket address. ${EXAMPLE}`);
  }
  if (!isWeb && url.pathname === '/' && !namesPort(full)) url.port = DEFAULT_PORT;
  url.hash = '';
  return url;
}

/** Whether the address contains a port. URL does not show it, because it drops the default port of the scheme. */
function namesPort(address) {
  const [, authority] = /^[^/]*\/\/([^/?#]*)/.exec(address) ?? [];
  return /:\d+$/.test(authority?.replace(/^.*\]/, '') ?? '');
}

function hostAndPort({ protocol, hostname, port }) {
  const secure = protocol === 'https:' || protocol === 'wss:';
  return `${hostname}:${port || (secure ? 443 : 80)}`;
}

function isSecure(page) {
  return page.protocol === 'https:';
}
