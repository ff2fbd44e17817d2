import { expect, test } from 'vitest';
import {
  maxNumber,
  NumberListWriter,
  readNumberList,
  readNumberLists,
} from '../../../src/repository/number-list.ts';
import { below, chosenSeed, seededRandom } from '../../support/seeded-random.ts';

function listOf(numbers: readonly number[]): NumberListWriter {
  const list = new NumberListWriter();
  for (const number of numbers) list.add(number);
  return list;
}

function numbersIn(bytes: Buffer): number[][] {
  return [...readNumberLists(bytes, 'it')].map(runs =>
    runs.flatMap(({ first, count }) => Array.from({ length: count }, (_, index) => first + index)),
  );
}

test('the bytes are those of the example in the format document', () => {
  const list = listOf([2, 3, 4, 300]);
  expect(list.bytes().toString('hex')).toBe('020203a70201');
  expect(list.count).toBe(4);
});

test('lists that follow each other are read as they were written, the first and the last number too', () => {
  const lists = [
    [],
    [0],
    [0, 1, 2],
    [maxNumber - 1],
    [],
    [5, 127, 128, 129, 2 ** 32, 2 ** 32 + 1, maxNumber - 1],
    [],
  ];
  const seed = chosenSeed();
  const random = seededRandom(seed);
  for (let count = 0; count < 100; count++) {
    const step = 1 + below(random, 2 ** below(random, 35));
    lists.push(Array.from({ length: below(random, 50) }, (_, index) => index * step + (index > 20 ? 7 : 0)));
  }
  expect(numbersIn(Buffer.concat(lists.map(list => listOf(list).bytes()))), `seed ${seed}`).toEqual(lists);
});

test('a list can be read where it begins, and tells where it ends', () => {
  const bytes = Buffer.concat([listOf([1, 9]).bytes(), listOf([7]).bytes(), Buffer.from([0xff])]);
  const runs = readNumberList(bytes, 'it', 5);
  expect(runs.next()).toEqual({ done: false, value: { first: 7, count: 1 } });
  expect(runs.next()).toEqual({ done: true, value: 8 });
});

test('numbers that do not ascend, or are none of a list, are not taken', () => {
  for (const numbers of [[3, 3], [3, 2], [-2], [maxNumber], [0.5, 0.2]]) {
    expect(() => listOf(numbers), String(numbers)).toThrow(RangeError);
  }
});

test('bytes that are no list are damage', () => {
  const cut = listOf([2, 300, 70_000]).bytes();
  const none = [
    ...Array.from({ length: cut.length - 1 }, (_, end) => cut.subarray(0, end + 1)),
    Buffer.from([1, 5, 0]),
    Buffer.from([2, 5, 1, 0, 1]),
    Buffer.from([1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1]),
    Buffer.from([1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x40, 1]),
    Buffer.alloc(20, 0x80),
  ];
  for (const bytes of none)
    expect(() => numbersIn(bytes), bytes.toString('hex')).toThrow('no list of ascending numbers');
});
