// Who gets the password and the token, and where they stay.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Secrets, takeFromAddress, toFragment } from '../secrets.js';

test('the server of the page gets the secrets of the link', () => {
  const secrets = new Secrets({ password: 'p', token: 't' }, false);
  assert.equal(secrets.locked, false);
  assert.deepEqual(secrets.forServer, { password: 'p', token: 't' });
});

test('another server gets nothing before the user has confirmed it', () => {
  const secrets = new Secrets({ token: 't' }, true);
  assert.deepEqual([secrets.locked, secrets.isEmpty, secrets.forServer], [true, false, {}]);
  secrets.replace({ password: 'typed' });
  assert.deepEqual(secrets.forServer, {});
  secrets.confirm();
  assert.deepEqual([secrets.locked, secrets.forServer], [false, { token: 't', password: 'typed' }]);
});

test('secrets that the user declines to send are discarded', () => {
  const secrets = new Secrets({ token: 't' }, true);
  secrets.discard();
  secrets.confirm();
  assert.deepEqual([secrets.isEmpty, secrets.forServer], [true, {}]);
});

test('the fragment leaves the address bar and stays in the history entry', () => {
  const location = { hash: '#password=p%26q&token=t', pathname: '/rooms/', search: '?room=a' };
  const history = { state: null, replaceState: (state, _, url) => Object.assign(history, { state, url }) };
  assert.deepEqual(takeFromAddress(location, history), { password: 'p&q', token: 't' });
  assert.equal(history.url, '/rooms/?room=a');
  // After a reload the fragment is gone.
  assert.deepEqual(takeFromAddress({ ...location, hash: '' }, history), { password: 'p&q', token: 't' });
  assert.deepEqual(takeFromAddress({ ...location, hash: '' }, { state: null }), {});
});

test('a new fragment replaces the secrets before it', () => {
  const history = { state: { secrets: { password: 'old', token: 'old' } }, replaceState: (state) => (history.state = state) };
  const taken = takeFromAddress({ hash: '#token=new', pathname: '/', search: '' }, history);
  assert.deepEqual(taken, { password: undefined, token: 'new' });
});

test('secrets survive the way into a fragment and back', () => {
  assert.equal(toFragment({}), '');
  assert.equal(toFragment({ password: undefined }), '');
  const hash = toFragment({ password: 'a&b=c #', token: undefined });
  const history = { state: null, replaceState: () => {} };
  assert.equal(takeFromAddress({ hash, pathname: '/', search: '' }, history).password, 'a&b=c #');
});
