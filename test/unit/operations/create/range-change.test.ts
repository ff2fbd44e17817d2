import { expect, test } from 'vitest';
import {
  compareRange,
  ctidText,
  listCtids,
  type RangeState,
} from '../../../../src/operations/create/range-change.ts';
import type { NumberListWriter, NumberRun } from '../../../../src/repository/number-list.ts';
import { below, chosenSeed, seededRandom } from '../../../support/seeded-random.ts';

const ctid = (page: number, line: number) => page * 0x1_0000 + line;

/** As the server's tidsend has them. */
function packed(ctids: readonly number[]): Buffer {
  const bytes = Buffer.alloc(ctids.length * 6);
  for (const [index, number] of ctids.entries()) {
    bytes.writeUInt32BE(Math.floor(number / 0x1_0000), index * 6);
    bytes.writeUInt16BE(number % 0x1_0000, index * 6 + 4);
  }
  return bytes;
}

function runs(numbers: readonly number[]): NumberRun[] {
  return numbers.map(first => ({ first, count: 1 }));
}

function numbersOf(list: NumberListWriter): number[] {
  const numbers: number[] = [];
  const bytes = list.bytes();
  let at = 0;
  const next = () => {
    let number = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++] ?? 0;
      number += (byte & 127) * scale;
      if (byte < 128) return number;
    }
  };
  let end = 0;
  for (let left = next(); left > 0; left--) {
    const first = end + next();
    end = first + next();
    for (let number = first; number < end; number++) numbers.push(number);
  }
  return numbers;
}

test('a row is known by its page and line pointer', () => {
  expect(ctidText(ctid(4_294_967_294, 291))).toBe('(4294967294,291)');
  expect(numbersOf(listCtids(packed([ctid(0, 1), ctid(0, 2), ctid(7, 1)])))).toEqual([1, 2, ctid(7, 1)]);
});

test('rows that do not come in the order of their places are refused', () => {
  expect(() => listCtids(packed([2, 1]))).toThrow(RangeError);
  expect(() => listCtids(packed([1, 1]))).toThrow(RangeError);
  expect(() => compareRange({ ctids: [runs([1, 2])], gone: [] }, packed([2, 1]))).toThrow(RangeError);
});

test('the lines of rows that are not there any more are gone, in the base and in deltas', () => {
  const state: RangeState = { ctids: [runs([1, 2, 3, 9]), runs([4, 5]), runs([2, 6])], gone: runs([1, 5]) };
  // Line 1 (row 2) and line 5 (row 5) were gone; row 2 is line 6 by now.
  const { gone, unknown } = compareRange(state, packed([1, 2, 4, 9]));
  expect(numbersOf(gone)).toEqual([1, 2, 5, 7]);
  expect(unknown).toBe(0);
});

test('rows that the state does not have are counted', () => {
  const state: RangeState = { ctids: [runs([1, 2])], gone: runs([0]) };
  expect(compareRange(state, packed([1, 2, 3])).unknown).toBe(2);
  expect(compareRange({ ctids: [], gone: [] }, packed([7])).unknown).toBe(1);
});

test('whatever is updated, deleted and inserted, what is left is what is there', () => {
  const seed = chosenSeed();
  console.info(`seed ${seed}`);
  const random = seededRandom(seed);
  for (let history = 0; history < 60; history++) {
    let now = new Map<number, string>();
    for (let place = 0; place < 40; place++) if (random() < 0.7) now.set(place, `base ${place}`);
    const sorted = (rows: Map<number, string>) => [...rows].sort(([a], [b]) => a - b);
    const lines = sorted(now).map(([, text]) => text);
    const lists = [sorted(now).map(([place]) => place)];
    let gone: number[] = [];
    for (let step = 0; step < 10; step++) {
      const before = now;
      now = new Map(before);
      const young = new Map<number, string>();
      for (let change = below(random, 12); change > 0; change--) {
        const place = below(random, 40);
        // Deletes, inserts into free places, both in one.
        if (random() < 0.4) {
          now.delete(place);
          young.delete(place);
        } else if (random() < 0.8 || !now.has(place)) {
          now.set(place, `row ${step} ${change}`);
          young.set(place, `row ${step} ${change}`);
        } else {
          // A row that is taken for young though it is not.
          young.set(place, now.get(place) ?? '');
        }
      }
      const old = sorted(now).filter(([place]) => !young.has(place));
      const found = compareRange(
        { ctids: lists.map(runs), gone: runs(gone) },
        packed(old.map(([place]) => place)),
      );
      expect(found.unknown).toBe(0);
      gone = numbersOf(found.gone);
      lists.push(sorted(young).map(([place]) => place));
      lines.push(...sorted(young).map(([, text]) => text));
      const left = lines.filter((_, line) => !gone.includes(line)).sort();
      expect(left).toEqual([...now.values()].sort());
    }
  }
});
