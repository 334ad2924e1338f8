// How tiles are laid out.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bestColumns } from '../grid.js';

test('a single tile fills the page', () => {
  assert.equal(bestColumns(1, 1920, 1000), 1);
  assert.equal(bestColumns(0, 1920, 1000), 1);
});

test('a desktop shows four tiles as two by two, and a wide strip shows them in a row', () => {
  assert.equal(bestColumns(4, 1920, 1000), 2);
  assert.equal(bestColumns(4, 3000, 400), 4);
  assert.equal(bestColumns(9, 1600, 900), 3);
});

test('an upright phone shows the tiles in a column', () => {
  assert.equal(bestColumns(2, 380, 700), 1);
  assert.equal(bestColumns(30, 380, 700), 1);
});
