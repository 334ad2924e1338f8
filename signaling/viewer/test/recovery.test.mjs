// How the page gets a new offer after a session failed, on virtual time.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Recovery } from '../recovery.js';

function world({ present = ['cam'], others = false } = {}) {
  const it = { present, others, asked: [], pauses: [], due: null };
  const env = {
    setTimeout: (f, ms) => {
      it.pauses.push(ms);
      it.due = f;
      return 1;
    },
  };
  it.recovery = new Recovery(
    {
      present: () => it.present,
      hasOtherSessions: () => it.others,
      changeMeta: () => it.asked.push('meta'),
      rejoin: () => it.asked.push('rejoin'),
    },
    env,
  );
  it.pass = () => {
    const { due } = it;
    it.due = null;
    due?.();
  };
  return it;
}

test('without other sessions the page leaves and joins', () => {
  const it = world();
  it.recovery.failed('cam');
  it.pass();
  assert.deepEqual(it.asked, ['rejoin']);
});

test('sessions with other senders are not affected', () => {
  const it = world({ others: true });
  it.recovery.failed('cam');
  it.pass();
  assert.deepEqual(it.asked, ['meta']);
});

test('a sender that does not offer gets further requests, after pauses that grow to a minute', () => {
  const it = world({ others: true });
  it.recovery.failed('cam');
  for (let i = 0; i < 9; i += 1) it.pass();
  assert.equal(it.asked.length, 9);
  assert.deepEqual(it.pauses.slice(0, 4), [500, 1000, 2000, 4000]);
  assert.equal(it.pauses.at(-1), 60_000);
});

test('there is no request to a sender that offered, or that is not in the room', () => {
  const it = world();
  it.recovery.failed('cam');
  assert.equal(it.recovery.settled('cam'), true);
  assert.equal(it.recovery.settled('cam'), false);
  it.pass();
  assert.equal(it.due, null, 'the timer has ended');
  it.present = [];
  it.recovery.failed('cam');
  it.pass();
  assert.deepEqual(it.asked, []);
  it.present = ['cam'];
  it.pass();
  assert.deepEqual(it.asked, ['rejoin']);
});

test('several failures share one timer, and a connection resets the pauses', () => {
  const it = world({ present: ['a', 'b'] });
  it.recovery.failed('a');
  it.recovery.failed('b');
  assert.deepEqual(it.pauses, [500]);
  it.pass();
  it.recovery.connected();
  it.pass();
  assert.deepEqual(it.pauses, [500, 1000, 500]);
});
