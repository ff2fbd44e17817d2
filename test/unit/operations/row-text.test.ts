// Ranges made up of a base and deltas give the lines that are not gone, however they are cut.

import { describe, expect, test } from 'vitest';
import { readRows, type TextRange } from '../../../src/operations/row-text.ts';
import { NumberListWriter } from '../../../src/repository/number-list.ts';
import { below, chosenSeed, seededRandom } from '../../support/seeded-random.ts';
import { SegmentShelf } from './segment-shelf.ts';

function listOf(numbers: readonly number[]): Buffer {
  const list = new NumberListWriter();
  for (const number of numbers) list.add(number);
  return list.bytes();
}

/** A range of this text, each of its slices a segment. */
function rangeOf(
  shelf: SegmentShelf,
  pieces: readonly string[],
  gone: readonly number[],
  rows?: number,
): TextRange {
  const lines = pieces.join('').split('\n').length - 1;
  return {
    rows: rows ?? lines - gone.length,
    slices: pieces.map(piece => shelf.put(Buffer.from(piece))),
    ...(gone.length > 0 && { gone: [shelf.put(listOf(gone))] }),
  };
}

async function read(shelf: SegmentShelf, ranges: TextRange[]): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of readRows(shelf.reader(), { table: 'public.t', first: 3, ranges })) {
    pieces.push(Buffer.from(piece));
  }
  return Buffer.concat(pieces).toString();
}

const without = (lines: readonly string[], gone: readonly number[]) =>
  lines
    .filter((_, number) => !gone.includes(number))
    .map(line => `${line}\n`)
    .join('');

const lines = ['1\tone', '', '3\tthree and more', '\\N', '5\tfive'];
const text = lines.map(line => `${line}\n`).join('');

/** All subsets of the numbers below a limit. */
const subsets = (limit: number) =>
  Array.from({ length: 2 ** limit }, (_, bits) =>
    Array.from({ length: limit }, (__, number) => number).filter(number => bits & (1 << number)),
  );

test('whichever lines are gone, and wherever the text is cut, the others are left', async () => {
  const shelf = new SegmentShelf();
  for (const gone of subsets(lines.length)) {
    for (let cut = 0; cut < text.length; cut++) {
      const range = rangeOf(shelf, cut === 0 ? [text] : [text.slice(0, cut), text.slice(cut)], gone);
      expect(await read(shelf, [range]), `without ${gone}, cut at ${cut}`).toBe(without(lines, gone));
    }
    expect(await read(shelf, [rangeOf(shelf, [...text], gone)])).toBe(without(lines, gone));
  }
});

test('a list of gone lines may be cut anywhere, too', async () => {
  const shelf = new SegmentShelf();
  const many = Array.from({ length: 3000 }, (_, number) => `row ${number}`);
  const gone = many.flatMap((_, number) => (number % 7 === 0 || number > 2900 ? [number] : []));
  const whole = rangeOf(shelf, [many.map(line => `${line}\n`).join('')], gone);
  const list = listOf(gone);
  for (const cut of [1, 2, 3, 400, list.length - 1]) {
    const parts = [list.subarray(0, cut), list.subarray(cut)].map(part => shelf.put(part, 5, 900));
    expect(await read(shelf, [{ ...whole, gone: parts }])).toBe(without(many, gone));
  }
});

test('ranges follow each other: whole ones, ones with deltas, empty ones, and ones of which all is gone', async () => {
  const shelf = new SegmentShelf();
  const ranges = [
    rangeOf(shelf, ['a\nb\n'], []),
    rangeOf(shelf, ['1\n2\n', '3\n', '4\n5\n'], [0, 2, 4]),
    rangeOf(shelf, [], []),
    rangeOf(shelf, ['x\ny\n'], [0, 1]),
    rangeOf(shelf, ['', 'new\n'], []),
    rangeOf(shelf, ['c\nd\n', 'e\n'], [1]),
  ];
  expect(await read(shelf, ranges)).toBe('a\nb\n2\n4\nnew\nc\ne\n');
});

test('random ranges of several deltas give what is left of their lines', async () => {
  const seed = chosenSeed();
  const random = seededRandom(seed);
  for (let round = 0; round < 60; round++) {
    const shelf = new SegmentShelf();
    let expected = '';
    const ranges = Array.from({ length: 1 + below(random, 4) }, () => {
      const own = Array.from({ length: below(random, 40) }, () => 'x'.repeat(below(random, 30)));
      const odds = below(random, 4);
      const gone = own.flatMap((_, number) => (below(random, 3) < odds ? [number] : []));
      expected += without(own, gone);
      const whole = own.map(line => `${line}\n`).join('');
      const pieces: string[] = [];
      for (let at = 0; at < whole.length; at += pieces.at(-1)?.length ?? 0)
        pieces.push(whole.slice(at, at + 1 + below(random, 100)));
      return rangeOf(shelf, pieces, gone);
    });
    expect(await read(shelf, ranges), `seed ${seed}`).toBe(expected);
  }
});

test('a range of which nothing is gone is passed on as it is, whatever it holds', async () => {
  const shelf = new SegmentShelf();
  expect(await read(shelf, [rangeOf(shelf, ['no line feed'], [], 17)])).toBe('no line feed');
});

describe('a list of gone lines that does not fit', () => {
  const range =
    (gone: Buffer, rows = 3): ((shelf: SegmentShelf) => TextRange) =>
    shelf => ({
      rows,
      slices: [shelf.put(Buffer.from('1\n2\n3\n4\n'))],
      gone: [shelf.put(gone)],
    });
  test.each([
    ['names a line beyond the last', range(listOf([4])), 'line 4 is gone, and there are 4'],
    ['ends with a line beyond the last', range(listOf([2, 3, 4]), 1), 'line 4 is gone, and there are 4'],
    ['leaves more rows', range(listOf([1]), 2), 'it holds 3 rows where the backup counts 2'],
    ['leaves fewer rows', range(listOf([1, 2])), 'it holds 2 rows where the backup counts 3'],
    ['is empty bytes', range(Buffer.alloc(0)), 'the list of lines that are gone from range 3 of public.t'],
    ['is cut', range(listOf([1]).subarray(0, 2)), 'it is no list of ascending numbers'],
    ['does not ascend', range(Buffer.from([2, 1, 1, 0, 1])), 'it is no list of ascending numbers'],
    ['has a run of nothing', range(Buffer.from([1, 1, 0])), 'it is no list of ascending numbers'],
    ['has numbers that never end', range(Buffer.alloc(99, 0xff)), 'it is no list of ascending numbers'],
    ['is followed by another', range(Buffer.from([1, 1, 1, 1, 2, 1])), 'more follows the list'],
    [
      'is of a text whose end is missing',
      (shelf: SegmentShelf): TextRange => ({
        rows: 2,
        slices: [shelf.put(Buffer.from('1\n2\n3'))],
        gone: [shelf.put(listOf([0]))],
      }),
      'it holds 1 rows where the backup counts 2',
    ],
  ])('and %s is damage that names the range', async (_, make, message) => {
    const shelf = new SegmentShelf();
    await expect(read(shelf, [make(shelf)])).rejects.toMatchObject({
      code: 'OBJECT_DAMAGED',
      message: expect.stringContaining(message),
    });
    await expect(read(shelf, [make(shelf)])).rejects.toThrow('range 3 of public.t');
  });
});

test('segments that many ranges share are fetched once, and the text of the ranges is not kept', async () => {
  const shelf = new SegmentShelf();
  const deltas = Array.from({ length: 8 }, (_, delta) => {
    const rows = Array.from({ length: 50 }, (__, range) => Buffer.from(`delta ${delta} of ${range}\n`));
    const whole = shelf.put(Buffer.concat(rows));
    let offset = 0;
    return rows.map(({ length }) => {
      offset += length;
      return { ...whole, offset: offset - length, bytes: length };
    });
  });
  const ranges = Array.from(
    { length: 50 },
    (_, index): TextRange => ({
      rows: 10,
      slices: [
        shelf.put(Buffer.from(`base of ${index}\ngone\nanother\n`)),
        ...deltas.flatMap(delta => delta[index] ?? []),
      ],
      gone: [shelf.put(listOf([1]), 2 * index, 200)],
    }),
  );
  const found = await read(shelf, ranges);
  expect(found.split('\n').length - 1).toBe(500);
  expect(found).not.toContain('gone');
  expect(shelf.fetched).toHaveLength(50 + 8 + 50);
});
