import { expect, test } from 'vitest';
import { CountedParts, type PartKind } from '../../../../src/operations/verify/counted-parts.ts';
import { below, chosenSeed, seededRandom } from '../../../support/seeded-random.ts';

const largest = 2 ** 26;

test('of many parts of many segments each is counted once, and what was counted is found again', () => {
  const seed = chosenSeed();
  const random = seededRandom(seed);
  const parts = new CountedParts();
  const wanted = new Map<string, { segment: number; offset: number; bytes: number; kind: PartKind }>();
  for (let index = 0; index < 5000; index++) {
    const segment = below(random, 300);
    const offset = below(random, 20) === 0 ? largest - 1 - below(random, 3) : below(random, 30);
    const bytes = offset === 0 ? largest : below(random, 4);
    const kind = below(random, 2) === 0 ? 'text' : 'lists';
    parts.want(segment, { offset, bytes }, kind);
    wanted.set(`${segment} ${offset} ${bytes} ${kind}`, { segment, offset, bytes, kind });
  }
  const results = new Map<string, unknown>();
  for (let segment = 0; segment < 300; segment++) {
    // One part at a time, and all others later.
    for (const kind of ['text', 'lists'] as const) {
      const { parts: numbers, places } = parts.toCount(segment, kind);
      for (const [index, part] of numbers.entries()) {
        const place = places[index] ?? { offset: -1, bytes: -1 };
        const key = `${segment} ${place.offset} ${place.bytes} ${kind}`;
        expect(wanted.has(key), `seed ${seed}: ${key}`).toBe(true);
        expect(results.has(key), `seed ${seed}: ${key}`).toBe(false);
        if (kind === 'text') {
          const counted = { rows: below(random, largest + 1), isClosed: below(random, 2) === 0 };
          parts.noteText(part, counted);
          results.set(key, counted);
        } else {
          const one = () => ({ count: below(random, 2 ** 48), end: below(random, 2 ** 48) });
          const lists = below(random, 4) === 0 ? null : Array.from({ length: below(random, 4) }, one);
          parts.noteLists(part, lists);
          results.set(key, lists);
        }
      }
      expect(parts.toCount(segment, kind)).toEqual({ parts: [], places: [] });
    }
    expect(parts.lacks(segment)).toBe(false);
  }
  expect(results.size).toBe(wanted.size);
  for (const [key, { segment, offset, bytes, kind }] of wanted) {
    const place = { offset, bytes };
    const found = kind === 'text' ? parts.text(segment, place) : parts.lists(segment, place);
    expect(found, `seed ${seed}: ${key}`).toEqual(results.get(key));
    // What was counted is not asked for again.
    parts.want(segment, place, kind);
    expect(parts.lacks(segment)).toBe(false);
  }
});

test('what nobody wanted, or has not been counted, is not known', () => {
  const parts = new CountedParts();
  const place = { offset: 0, bytes: 0 };
  expect([parts.text(7, place), parts.lists(7, place), parts.lacks(7)]).toEqual([
    undefined,
    undefined,
    false,
  ]);
  parts.want(7, place, 'lists');
  expect([parts.text(7, place), parts.lists(7, place), parts.lacks(7)]).toEqual([undefined, undefined, true]);
  expect([parts.lacks(6), parts.lacks(8)]).toEqual([false, false]);
  const [part = -1] = parts.toCount(7, 'lists').parts;
  parts.noteLists(
    part,
    Array.from({ length: 1000 }, (_, count) => ({ count, end: count + 1 })),
  );
  expect(parts.lists(7, place)?.at(-1)).toEqual({ count: 999, end: 1000 });
  expect(parts.text(7, place)).toBeUndefined();
});
