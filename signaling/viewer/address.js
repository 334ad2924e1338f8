// Addresses of signaling servers: the server that this page came from, or another one that the link names.

export const DEFAULT_PORT = 8765;

const EXAMPLE = 'Write it like ws://host:8765 or wss://host/path';

/**
 * Finds the WebSocket that leads to a room.
 *
 * `wanted` is the server that the link names: ws(s)://…, http(s)://…, or host:port; null or empty means the server of
 * the page. An address without port and path means port 8765, because that is the server's own. One with a path means
 * the port of its scheme, 80 or 443, because such an address leads to a proxy; http:// and https:// always do.
 *
 * Returns {url, host, foreign}: the URL with the room in its query, the server's host as a user reads it, and whether
 * it is another host than that of the page. Throws an Error with a text for the user if `wanted` is no address.
 */
export function serverAddress(wanted, room, page) {
  const url = wanted ? parse(wanted, page) : own(page);
  const query = url.search.slice(1);
  if (!new URLSearchParams(query).has('room')) {
    // Appended as text, because URLSearchParams would rewrite the part that the user wrote.
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
    throw new Error(`“${wanted}” is no server address. ${EXAMPLE}`);
  }
  if (url.username || url.password) throw new Error(`A server address has no user and password. ${EXAMPLE}`);
  const isWeb = url.protocol === 'http:' || url.protocol === 'https:';
  if (isWeb) url.protocol = url.protocol === 'http:' ? 'ws:' : 'wss:';
  else if (url.protocol !== 'ws:' && url.protocol !== 'wss:') {
    throw new Error(`“${wanted}” is no WebSocket address. ${EXAMPLE}`);
  }
  if (!isWeb && url.pathname === '/' && !namesPort(full)) url.port = DEFAULT_PORT;
  url.hash = '';
  return url;
}

/** Whether the address names a port. URL does not tell, because it drops the port that the scheme has by default. */
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
