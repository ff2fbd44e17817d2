import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { SegmentIdMap } from '../../../src/repository/segment-id-map.ts';

const idOf = (n: number) => createHash('sha256').update(String(n)).digest('hex');

test('tells the latest number of an id, and the ids in the order in which they came, through every growth', () => {
  const map = new SegmentIdMap();
  const ids = Array.from({ length: 5000 }, (_, n) => idOf(n));
  for (const [n, id] of ids.entries()) expect(map.set(id, n)).toBe(true);
  for (const [n, id] of ids.entries()) expect(map.set(id, n * 2 ** 40)).toBe(false);
  expect([...map.keys()]).toEqual(ids);
  expect(map.size).toBe(5000);
  for (const [n, id] of ids.entries()) expect(map.get(id)).toBe(n * 2 ** 40);
  expect(map.get(idOf(5000))).toBeUndefined();
  expect(map.has(idOf(5000))).toBe(false);
});

test('goes on to what is added while its ids are gone through', () => {
  const map = new SegmentIdMap();
  map.set(idOf(0), 0);
  let seen = 0;
  for (const id of map.keys()) {
    expect(map.get(id)).toBe(seen);
    seen++;
    if (seen < 3000) map.set(idOf(seen), seen);
  }
  expect(seen).toBe(3000);
});
