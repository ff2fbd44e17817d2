// How contents of large objects come out of an archive again: what is written where, and by which statements.
import { describe, expect, test } from 'vitest';
import {
  batchPutsOf,
  encodedPutsBytes,
  encodePuts,
} from '../../../../src/operations/restore/large-object-puts.ts';
import {
  firstPlace,
  type LargeObjectBytes,
  type LargeObjectPlace,
  LargeObjectWalk,
} from '../../../../src/operations/restore/large-object-walk.ts';
import { asDumped, type Group } from '../dumped-large-objects.ts';

const kib = 1024;
/** The largest that a page of pg_largeobject is. */
const pageBytes = 8 * kib;

/** Bytes that tell where they are from. */
const contents = (seed: number, bytes: number) =>
  Buffer.from(Array.from({ length: bytes }, (_, at) => (seed * 31 + at * 7 + (at >> 8)) & 0xff));

const groups: Group[] = [
  {
    dumpId: 900,
    objects: [
      { oid: 11, contents: contents(1, 0) },
      { oid: 12, contents: contents(2, 5) },
      { oid: 13, contents: contents(3, 50 * kib + 3) },
      { oid: 14, contents: contents(4, 16 * kib) },
      { oid: 4294967295, contents: contents(5, 2 * kib) },
    ],
  },
  {
    dumpId: 901,
    objects: [
      { oid: 7, contents: contents(6, pageBytes) },
      { oid: 8, contents: contents(7, 0) },
    ],
  },
];
const named = groups.map(({ dumpId, objects }) => ({
  dumpId,
  oids: Uint32Array.from(objects, ({ oid }) => oid),
}));
const dumped = asDumped(groups);

interface Written extends LargeObjectBytes {
  segment: number;
}

/** Walks segments that end at these places, each by whoever it falls to. */
function walk(archive: Buffer, ends: readonly number[]): { written: Written[]; place: LargeObjectPlace } {
  const written: Written[] = [];
  let place = firstPlace;
  for (const [segment, end] of [...ends, archive.length].entries()) {
    const bytes = Buffer.from(archive.subarray(ends[segment - 1] ?? 0, end));
    const walk = new LargeObjectWalk(named, place);
    for (const found of walk.pass(bytes))
      written.push({ ...found, bytes: Buffer.from(found.bytes), segment });
    place = structuredClone(walk.place);
    // Memory that is given back must not be looked at any longer.
    bytes.fill(0);
  }
  return { written, place };
}

function expectSame(written: readonly Written[]): void {
  for (const { oid, contents } of groups.flatMap(({ objects }) => objects)) {
    const own = written.filter(found => found.oid === oid && found.bytes.length > 0);
    const filled = Buffer.alloc(contents.length);
    let end = 0;
    for (const { offset, bytes } of own) {
      expect(offset).toBe(end);
      filled.set(bytes, offset);
      end += bytes.length;
    }
    expect(end).toBe(contents.length);
    expect(filled.equals(contents)).toBe(true);
    for (const [index, { offset, segment }] of own.entries()) {
      const isFirstOfSegment = index > 0 && own[index - 1]?.segment !== segment;
      if (isFirstOfSegment) expect(offset % pageBytes, `object ${oid} at ${offset}`).toBe(0);
    }
  }
}

describe('the contents of large objects', () => {
  test('are found wherever one segment ends, and no page is written by two', () => {
    // Each place but those within long pieces, which are alike.
    for (let end = 0; end <= dumped.length; end += end % (8 * kib) < 60 ? 1 : 101) {
      const { written, place } = walk(dumped, [end]);
      expectSame(written);
      expect(place.step, `segments that end at ${end}`).toBe('end');
    }
  });

  test.each([3, 17, 1000, 8191, 8192, 20_000])('are found in segments of %i bytes', bytes => {
    const ends = Array.from({ length: Math.ceil(dumped.length / bytes) - 1 }, (_, at) => (at + 1) * bytes);
    const { written, place } = walk(dumped, ends);
    expectSame(written);
    expect(place.step).toBe('end');
  });

  test.each([
    ['an object too few', groups.map(({ dumpId, objects }) => ({ dumpId, objects: objects.slice(1) }))],
    ['another object', groups.map(({ dumpId, objects }) => ({ dumpId, objects: objects.toReversed() }))],
    ['a group of another entry', groups.map(group => ({ ...group, dumpId: group.dumpId + 10 }))],
    ['a group more', [...groups, ...groups]],
  ])('with %s are refused', (_, others) => {
    const refused = expect.objectContaining({ code: 'RESTORE_INCOMPLETE' });
    expect(() => walk(asDumped(others), [])).toThrow(refused);
    expect(() => walk(asDumped(others), [1000, 60_000])).toThrow(refused);
  });

  test('that end early are known not to be whole', () => {
    for (let end = 1; end < 300; end++)
      expect(walk(dumped.subarray(0, dumped.length - end), []).place.step).not.toBe('end');
  });
});

describe('statements', () => {
  test('write what follows each other at once, and no more than a megabyte or a thousand objects', () => {
    const found = [
      ...Array.from({ length: 3000 }, (_, at) => ({ oid: at + 1, offset: 0, bytes: contents(at, 3) })),
      ...Array.from({ length: 200 }, (_, at) => ({
        oid: 9000,
        offset: at * 16 * kib,
        bytes: contents(at, 16 * kib),
      })),
    ];
    const batches = [...batchPutsOf(found)];
    expect(batches.map(({ puts }) => puts.length)).toEqual([1024, 1024, 953, 1, 1, 1]);
    for (const { puts, bytes } of batches) {
      expect(bytes).toBe(puts.reduce((sum, put) => sum + put.bytes, 0));
      expect(bytes).toBeLessThanOrEqual(1024 * kib);
    }
    const ofLast = batches.flatMap(({ puts }) => puts.filter(({ oid }) => oid === 9000));
    let end = 0;
    for (const { offset, parts, bytes } of ofLast) {
      expect(offset).toBe(end);
      expect(Buffer.concat(parts)).toHaveLength(bytes);
      end += bytes;
    }
    expect(end).toBe(200 * 16 * kib);
  });

  test('fit into the memory for them', () => {
    const most = Array.from({ length: 1024 }, (_, at) => ({
      oid: at + 1,
      offset: 0,
      bytes: Buffer.alloc(kib),
    }));
    const [batch] = batchPutsOf(most);
    if (batch === undefined) throw new Error('there is no batch');
    expect(encodePuts(Buffer.alloc(encodedPutsBytes), batch)).toHaveLength(encodedPutsBytes);
  });
});
