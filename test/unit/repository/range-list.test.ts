import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import {
  formatRanges,
  parseRanges,
  type RangeEntry,
  type Slice,
  type TableEntry,
} from '../../../src/repository/manifest.ts';
import { RangeList } from '../../../src/repository/range-list.ts';
import { SegmentIds } from '../../../src/repository/segment-ids.ts';
import { MadeUpRanges } from '../../support/scale-repository.ts';
import { below, seededRandom } from '../../support/seeded-random.ts';

const random = seededRandom(7);
const keys = ['a', 'b', 'c'].map(letter => letter.repeat(32));

function slices(count: number): Slice[] {
  return Array.from({ length: count }, () => {
    const plainBytes = below(random, 2 ** 26);
    return {
      id: createHash('sha256')
        .update(String(below(random, 50)))
        .digest('hex'),
      key: below(random, keys.length),
      plainBytes,
      storedBytes: below(random, 2 ** 24),
      offset: 0,
      bytes: plainBytes,
    };
  });
}

function textBytes(of: readonly Slice[]): number {
  return of.reduce((sum, slice) => sum + slice.bytes, 0);
}

/** In the order of fields in which create writes them. */
function anyRange(): RangeEntry {
  const text = slices(below(random, 4));
  const bytes = textBytes(text);
  return {
    rows: below(random, bytes + 1),
    bytes,
    slices: text,
    ...(below(random, 2) > 0 && { ctids: slices(below(random, 3)) }),
    ...(below(random, 3) === 0 && {
      base: {
        rows: below(random, 2 ** 31),
        slices: 0,
        ctids: 0,
        xmin: '18446744073709551615',
        deltas: 3,
        added: 9,
      },
    }),
    ...(below(random, 3) === 0 && { gone: slices(1) }),
  };
}

const ranges = Array.from({ length: 2000 }, anyRange);

test('gives back what was put in, to the order of its fields, in whatever order it was put in', () => {
  const pushed = new RangeList(new SegmentIds());
  for (const range of ranges) pushed.push(range);
  const set = new RangeList(new SegmentIds(), ranges.length);
  for (let index = ranges.length - 1; index >= 0; index--) set.set(index, ranges[index] ?? anyRange());
  for (const list of [pushed, set]) {
    expect(list.length).toBe(ranges.length);
    expect(list.isWhole).toBe(true);
    expect(JSON.stringify([...list])).toBe(JSON.stringify(ranges));
    expect(list.at(1999)).toEqual(ranges[1999]);
    expect(list.at(2000)).toBeUndefined();
  }
});

test('holds numbers of 53 bits, segments without encryption, and ranges larger than its blocks', () => {
  const [slice] = slices(1);
  if (slice === undefined) throw new Error('no slice');
  const large: RangeEntry = {
    rows: Number.MAX_SAFE_INTEGER,
    bytes: Number.MAX_SAFE_INTEGER,
    slices: Array.from({ length: 50_000 }, (_, offset) => ({ ...slice, key: -1, offset })),
  };
  const list = new RangeList(new SegmentIds());
  list.push(large);
  list.push({ rows: 0, bytes: 0, slices: [] });
  expect(list.at(0)).toEqual(large);
  expect(list.at(1)).toEqual({ rows: 0, bytes: 0, slices: [] });
});

test('a list in which one is missing is not whole, and not gone through', () => {
  const list = new RangeList(new SegmentIds(), 3);
  const [range = anyRange()] = ranges;
  list.set(0, range);
  list.set(2, range);
  expect(list.isWhole).toBe(false);
  expect(list.at(1)).toBeUndefined();
  expect(() => [...list]).toThrow(RangeError);
});

test('a range takes some dozens of bytes beside the ids of its segments', () => {
  const made = new MadeUpRanges(0, 100_000);
  const ids = new SegmentIds();
  for (const { slices: text } of made) for (const { id } of text) ids.add(id);
  const before = process.memoryUsage().arrayBuffers;
  const list = new RangeList(ids);
  for (const range of made) list.push(range);
  expect((process.memoryUsage().arrayBuffers - before) / made.length).toBeLessThan(60);
  expect(list.at(99_999)).toEqual(made.at(99_999));
});

test('an index is read alike wherever it is cut', async () => {
  const some = ranges.slice(0, 20);
  const table: TableEntry = {
    oid: '1',
    schema: 'public',
    name: 't',
    parents: [],
    columns: ['id'],
    rows: some.reduce((sum, range) => sum + range.rows, 0),
    bytes: some.reduce((sum, range) => sum + range.bytes, 0),
    rangePages: 1024,
    index: [],
  };
  const text = Buffer.from([...formatRanges(some, keys)].join(''));
  const read = async (pieceBytes: number, of: TableEntry = table, whole = text) => {
    const pieces: Buffer[] = [];
    for (let at = 0; at < whole.length; at += pieceBytes) pieces.push(whole.subarray(at, at + pieceBytes));
    const found: RangeEntry[] = [];
    for await (const range of parseRanges(of, pieces, keys)) found.push(range);
    return found;
  };
  for (const pieceBytes of [1, 7, 100, 4096, text.length]) expect(await read(pieceBytes)).toEqual(some);
  const damaged = { code: 'OBJECT_DAMAGED' };
  await expect(read(100, { ...table, rows: table.rows + 1 })).rejects.toMatchObject(damaged);
  await expect(read(100, table, text.subarray(0, -1))).rejects.toMatchObject(damaged);
  const lines = text.toString().split('\n');
  const withRows = 1 + some.findIndex(({ rows }) => rows > 0);
  const shorter = Buffer.from(lines.toSpliced(withRows, 1).join('\n'));
  await expect(read(100, table, shorter)).rejects.toMatchObject(damaged);
});
