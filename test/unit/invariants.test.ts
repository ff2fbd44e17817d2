// docs/invariants.md names the test that keeps each of its sentences.

import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, test } from 'vitest';

const root = resolve(import.meta.dirname, '../..');
const [kept = ''] = readFileSync(resolve(root, 'docs/invariants.md'), 'utf8').split('## What is lost');

test('every invariant names a test that exists', () => {
  const proofs = [...kept.matchAll(/Proof: `([^`]+)` “([^”]+)”/g)];
  const missing = proofs.filter(
    ([, file = '', title = '']) =>
      !existsSync(resolve(root, file)) || !readFileSync(resolve(root, file), 'utf8').includes(title),
  );
  expect(missing.map(([proof]) => proof)).toEqual([]);
  expect(proofs.length).toBeGreaterThan(15);
});

test('no invariant is without a test', () => {
  const invariants = kept.split(/^- /m).slice(1);
  expect(invariants.filter(invariant => !/Proof: `[^`]+` “[^”]+”/.test(invariant))).toEqual([]);
});
