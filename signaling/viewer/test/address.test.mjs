// Which WebSocket leads to a room, and whether it leads to another host than that of the page.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serverAddress } from '../address.js';

const at = (href) => new URL(href);
const url = (wanted, page = 'http://host/', room = 'r') => serverAddress(wanted, room, at(page)).url;
const foreign = (wanted, page) => serverAddress(wanted, 'r', at(page)).foreign;

test('the server is that of the page unless the link names another', () => {
  assert.equal(url(null, 'http://host:8765/?room=a#x'), 'ws://host:8765/ws?room=r');
  assert.equal(url('', 'https://host/rooms/'), 'wss://host/rooms/ws?room=r');
  assert.equal(url('ws://other:1'), 'ws://other:1/?room=r');
});

test('an address without port and path means port 8765', () => {
  for (const wanted of ['other', 'other:8765', 'ws://other', 'ws://other/', 'ws://other?']) {
    assert.equal(url(wanted), 'ws://other:8765/?room=r', wanted);
  }
  assert.equal(url('wss://other'), 'wss://other:8765/?room=r');
  assert.equal(url('other', 'https://host/'), 'wss://other:8765/?room=r');
  assert.equal(url('ws://[::1]'), 'ws://[::1]:8765/?room=r');
});

test('an address with a path, or with http, means the port of its scheme', () => {
  assert.equal(url('ws://other/ws'), 'ws://other/ws?room=r');
  assert.equal(url('wss://other/ws'), 'wss://other/ws?room=r');
  assert.equal(url('wss://[::1]/ws'), 'wss://[::1]/ws?room=r');
  assert.equal(url('https://other'), 'wss://other/?room=r');
  assert.equal(url('http://other/x'), 'ws://other/x?room=r');
});

test('an explicit port is kept, even if it is the default of the scheme', () => {
  assert.equal(url('ws://other:80'), 'ws://other/?room=r');
  assert.equal(url('wss://other:443'), 'wss://other/?room=r');
  assert.equal(url('ws://[::1]:80'), 'ws://[::1]/?room=r');
});

test('the room is added to the query of the link', () => {
  assert.equal(url(null, 'http://host/', '客厅 1&2'), 'ws://host/ws?room=%E5%AE%A2%E5%8E%85%201%262');
  assert.equal(url('ws://other/ws?key=a%20b+c'), 'ws://other/ws?key=a%20b+c&room=r');
  assert.equal(url('ws://other/ws?room=x'), 'ws://other/ws?room=x');
});

test('a malformed address is refused with an example', () => {
  assert.throws(() => url('ftp://other'), /not a WebSocket address.*ws:\/\/host:8765/);
  assert.throws(() => url('ws://'), /not a server address/);
  assert.throws(() => url('ws://user:secret@other'), /must not contain a user or password/);
});

test('another host, and another port of the same host, is foreign', () => {
  for (const [wanted, page] of [
    [null, 'http://host:8765/'],
    ['host:8765', 'http://host:8765/'],
    ['HOST', 'http://host:8765/'],
    ['wss://host/ws', 'https://host/'],
    ['ws://host:80', 'http://host/'],
  ]) {
    assert.equal(foreign(wanted, page), false, `${wanted} on ${page}`);
  }
  for (const [wanted, page] of [
    ['ws://other:8765', 'http://host:8765/'],
    ['ws://127.0.0.1:8765', 'http://localhost:8765/'],
    ['ws://host:8766', 'http://host:8765/'],
    ['wss://host/ws', 'http://host/'],
    ['ws://host.evil.example:8765', 'http://host:8765/'],
  ]) {
    assert.equal(foreign(wanted, page), true, `${wanted} on ${page}`);
  }
});
