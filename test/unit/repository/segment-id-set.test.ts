import { createHash, randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { SegmentIdSet } from '../../../src/repository/segment-id-set.ts';

const idOf = (n: number) => createHash('sha256').update(String(n)).digest('hex');

test('holds what was added, and nothing else', () => {
  const set = new SegmentIdSet();
  const count = 50_000;
  for (let n = 0; n < count; n++) expect(set.add(idOf(n))).toBe(true);
  expect(set.size).toBe(count);
  for (let n = 0; n < count; n++) expect(set.has(idOf(n))).toBe(true);
  for (let n = count; n < 2 * count; n++) expect(set.has(idOf(n))).toBe(false);
});

test('counts an id once, however often it is added', () => {
  const set = new SegmentIdSet();
  for (let round = 0; round < 3; round++) for (let n = 0; n < 2000; n++) set.add(idOf(n));
  expect(set.size).toBe(2000);
  expect(set.add(idOf(1))).toBe(false);
});

test('takes ids that somebody made up: zeros, and many with the same beginning', () => {
  const set = new SegmentIdSet();
  const zeros = '0'.repeat(64);
  expect(set.has(zeros)).toBe(false);
  set.add(zeros);
  expect(set.has(zeros)).toBe(true);
  const alike = Array.from({ length: 20_000 }, () => 'ab'.repeat(16) + randomBytes(16).toString('hex'));
  for (const id of alike) set.add(id);
  expect(alike.every(id => set.has(id))).toBe(true);
  expect(set.has(`${'ab'.repeat(16)}${zeros.slice(32)}`)).toBe(false);
  // Counted at either end of each word: in one slot, or in a few, these would take minutes.
  const counted = (n: number) => {
    const word = n.toString(16).padStart(8, '0');
    return [
      `${zeros.slice(8)}${word}`,
      `${word}${zeros.slice(8)}`,
      `${zeros.slice(8)}${word.match(/../g)?.reverse().join('')}`,
    ];
  };
  for (let n = 1; n <= 100_000; n++) for (const id of counted(n)) set.add(id);
  expect(counted(77_777).every(id => set.has(id))).toBe(true);
});

test('needs some dozens of bytes for an id', () => {
  const set = new SegmentIdSet();
  const before = process.memoryUsage().arrayBuffers;
  for (let n = 0; n < 300_000; n++) set.add(idOf(n));
  // The slots before the last growth may not have been collected yet.
  expect((process.memoryUsage().arrayBuffers - before) / 300_000).toBeLessThan(60);
});
