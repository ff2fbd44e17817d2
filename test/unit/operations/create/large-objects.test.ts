// How large objects become part of an archive: what is written of a COPY, and where segments end.
import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, test } from 'vitest';
import { planLargeObjects } from '../../../../src/operations/create/large-object-plan.ts';
import { LargeObjectSink } from '../../../../src/operations/create/large-object-sink.ts';
import { BufferPool, SegmentCutter } from '../../../../src/operations/create/segment-cutter.ts';
import type { SegmentRef } from '../../../../src/repository/manifest.ts';
import { segmentBytes } from '../../../../src/repository/segment.ts';
import { asDumped, type Group, type LargeObject } from '../dumped-large-objects.ts';

const [kib, mib] = [1024, 1024 * 1024];
const pageBytes = 256 * kib;

/** What the server sends for these objects. */
function asCopied(objects: readonly LargeObject[]): Buffer {
  const parts: Buffer[] = [Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1'), Buffer.alloc(8)];
  for (const { oid, contents } of objects) {
    for (let at = 0; at === 0 || at < contents.length; at += pageBytes) {
      const page = contents.subarray(at, at + pageBytes);
      const row = Buffer.alloc(26);
      row.writeInt16BE(3, 0);
      row.writeInt32BE(4, 2);
      row.writeUInt32BE(oid, 6);
      row.writeInt32BE(8, 10);
      row.writeBigInt64BE(BigInt(contents.length), 14);
      row.writeInt32BE(page.length, 22);
      parts.push(row, page);
    }
  }
  parts.push(Buffer.from([0xff, 0xff]));
  return Buffer.concat(parts);
}

interface Stored {
  bytes: Buffer;
  /** Digests of the segments, in order. */
  segments: string[];
  sizes: number[];
}

/** Has every item of the plan copied. */
async function store(groups: readonly Group[], chunkBytes = 64 * kib, totalBytes?: number): Promise<Stored> {
  const all = groups.flatMap(({ objects }) => objects);
  const plan = planLargeObjects(
    groups.map(({ dumpId, objects }) => ({ dumpId, oids: Uint32Array.from(objects, ({ oid }) => oid) })),
    totalBytes ?? all.reduce((sum, { contents }) => sum + contents.length, 0),
  );
  const contents = new Map(all.map(object => [object.oid, object]));
  const pool = new BufferPool(1000, () => undefined);
  const stored: Stored = { bytes: Buffer.alloc(0), segments: [], sizes: [] };
  const pieces: Buffer[] = [];
  for (let item = 0; item < plan.items.length; item++) {
    const cutter = new SegmentCutter(pool, async (plain, buffer): Promise<SegmentRef> => {
      const id = createHash('sha256').update(plain).digest('hex');
      stored.segments.push(id);
      stored.sizes.push(plain.length);
      pieces.push(Buffer.from(plain));
      pool.release(buffer);
      return { id, key: 0, plainBytes: plain.length, storedBytes: plain.length };
    });
    const sink = new LargeObjectSink(plan, item, cutter);
    const objects = [...sink.oids].map(oid => contents.get(oid)).filter(object => object !== undefined);
    const copied = asCopied(objects);
    for (let at = 0; at < copied.length; at += chunkBytes)
      sink.write(copied, at, Math.min(copied.length, at + chunkBytes));
    sink.finish();
    cutter.close();
  }
  return { ...stored, bytes: Buffer.concat(pieces) };
}

/** Contents without a pattern, the same each time. */
function contentsOf(seed: number, bytes: number): Buffer {
  const blocks: Buffer[] = [];
  for (let block = 0; block * 32 < bytes; block++)
    blocks.push(createHash('sha256').update(`${seed} ${block}`).digest());
  return Buffer.concat(blocks).subarray(0, bytes);
}

const small = (count: number, first = 1): LargeObject[] =>
  Array.from({ length: count }, (_, index) => ({
    oid: first + index * 3,
    contents: contentsOf(first + index, 2 * kib),
  }));

const isNew = (before: Stored, after: Stored) =>
  after.segments
    .map((id, index) => (before.segments.includes(id) ? 0 : (after.sizes[index] ?? 0)))
    .reduce((sum, bytes) => sum + bytes, 0);

describe('what is stored of large objects', () => {
  const groups: Group[] = [
    {
      dumpId: 40,
      objects: [
        { oid: 7, contents: Buffer.alloc(0) },
        { oid: 8, contents: Buffer.from('x') },
        { oid: 9, contents: contentsOf(9, 16 * kib) },
        { oid: 10, contents: contentsOf(10, 16 * kib + 1) },
        { oid: 11, contents: contentsOf(11, pageBytes) },
        { oid: 12, contents: contentsOf(12, pageBytes + 5) },
      ],
    },
    { dumpId: 41, objects: [{ oid: 4_294_967_295, contents: contentsOf(1, 3 * mib) }] },
    { dumpId: 42, objects: [{ oid: 3, contents: Buffer.alloc(0) }] },
    { dumpId: 43, objects: small(600, 100) },
  ];
  test.each([1013, 64 * kib, 16 * mib])('is what pg_dump writes, received in %i bytes', async chunkBytes => {
    const { bytes } = await store(groups, chunkBytes);
    expect(bytes.equals(asDumped(groups))).toBe(true);
  });

  test('is the same in whatever items it is read', async () => {
    for (const totalBytes of [0, 100 * mib, 1024 * mib, 1024 * 1024 * mib])
      expect((await store(groups, 64 * kib, totalBytes)).bytes.equals(asDumped(groups))).toBe(true);
  });

  test.each([
    ['cut short', (copied: Buffer) => copied.subarray(0, -3)],
    ['without its end', (copied: Buffer) => copied.subarray(0, -2)],
    ['of another object', (copied: Buffer) => Buffer.from(copied).fill(9, 19 + 6, 19 + 10)],
    ['of another size', (copied: Buffer) => Buffer.from(copied).fill(9, 19 + 20, 19 + 22)],
    ['with more behind its end', (copied: Buffer) => Buffer.concat([copied, Buffer.from('more')])],
    ['in text', () => Buffer.from('1\t2\\\\x00\n'.repeat(20))],
  ])('is refused when the COPY is one %s', (_, change) => {
    const objects = [{ oid: 100, contents: Buffer.from('contents') }];
    const plan = planLargeObjects([{ dumpId: 5, oids: Uint32Array.of(100) }], 8);
    const pool = new BufferPool(4, () => undefined);
    const sink = new LargeObjectSink(
      plan,
      0,
      new SegmentCutter(pool, () => Promise.reject(new Error('none'))),
    );
    const copied = change(asCopied(objects));
    expect(() => {
      sink.write(copied, 0, copied.length);
      sink.finish();
    }).toThrow(
      expect.objectContaining({
        message: expect.stringContaining('the server sent a COPY that was not asked for'),
        hint: expect.stringContaining('pg_largeobject may be damaged'),
      }),
    );
  });
});

describe('segments of large objects', () => {
  const objects = small(6_000);
  const whole = [{ dumpId: 40, objects }];

  test('stay but for one or two when an object is changed, removed or added', async () => {
    const before = await store(whole, mib, 16 * mib);
    expect(before.sizes.length).toBeGreaterThan(10);
    const changes: Record<string, LargeObject[]> = {
      changed: objects.map(object =>
        object.oid === 9001 ? { ...object, contents: Buffer.from('new') } : object,
      ),
      removed: objects.filter(({ oid }) => oid !== 9001),
      added: objects.flatMap(object =>
        object.oid === 9001 ? [object, { oid: 9002, contents: Buffer.from('new') }] : [object],
      ),
    };
    for (const [change, changed] of Object.entries(changes)) {
      const after = await store([{ dumpId: 40, objects: changed }], mib, 16 * mib);
      expect(isNew(before, after), change).toBeGreaterThan(0);
      expect(isNew(before, after), change).toBeLessThan(2 * mib);
    }
  });

  test('of large groups stay when the dump ids of their entries change', async () => {
    const groupsFrom = (dumpId: number) =>
      [0, 1, 2].map(index => ({
        dumpId: dumpId + index,
        objects: objects.slice(index * 2000, (index + 1) * 2000),
      }));
    const before = await store(groupsFrom(40), mib);
    const after = await store(groupsFrom(50), mib);
    expect(isNew(before, after)).toBe(2 * 11);
  });

  test('of an object of a megabyte and more are its own, and equal ones are stored once', async () => {
    const contents = Buffer.alloc(10 * mib, contentsOf(1, mib + 7));
    const large = [
      { oid: 1, contents: Buffer.from('one') },
      { oid: 2, contents },
      { oid: 3, contents: Buffer.from('three') },
      { oid: 4, contents },
      { oid: 5, contents: Buffer.from('five') },
    ];
    const { segments, sizes } = await store([{ dumpId: 40, objects: large }], mib, 1024);
    expect(sizes).toHaveLength(7);
    expect(new Set(segments).size).toBe(5);
    expect(sizes.filter(bytes => bytes === segmentBytes)).toHaveLength(2);
  });
});

test('segments of a long object are forgotten once they are stored', async () => {
  const segments = 100_000;
  // The smaller they are, the sooner there are many.
  const smallBytes = 64;
  const pool = new BufferPool(4, () => undefined, smallBytes);
  let stored = 0;
  const cutter = new SegmentCutter(pool, async (plain, buffer): Promise<SegmentRef> => {
    stored++;
    pool.release(buffer);
    return { id: '', key: 0, plainBytes: plain.length, storedBytes: plain.length };
  });
  const sink = new LargeObjectSink(planLargeObjects([{ dumpId: 5, oids: Uint32Array.of(7) }], 8), 0, cutter);
  const copied = asCopied([{ oid: 7, contents: Buffer.alloc(segments * smallBytes) }]);
  const before = usedHeap();
  for (let at = 0; at < copied.length; at += 64 * kib) {
    sink.write(copied, at, Math.min(copied.length, at + 64 * kib));
    await setImmediate();
  }
  sink.finish();
  cutter.close();
  expect(stored).toBeGreaterThan(segments);
  // Some hundred bytes of each would be more than 20 MiB.
  expect(usedHeap() - before).toBeLessThan(8 * mib);
});

function usedHeap(): number {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
  return process.memoryUsage().heapUsed;
}

describe('the items that workers take', () => {
  const oids = Uint32Array.from({ length: 100_000 }, (_, index) => 16_384 + index);
  test('are few where objects are small, and as many as objects where they are large', () => {
    const items = (totalBytes: number) => planLargeObjects([{ dumpId: 1, oids }], totalBytes).items.length;
    expect(items(0)).toBeGreaterThan(50);
    expect(items(0)).toBeLessThan(200);
    expect(items(200 * mib)).toBe(items(0));
    const few = planLargeObjects([{ dumpId: 1, oids: oids.slice(0, 4000) }], 4000 * 32 * mib);
    expect(few.items).toHaveLength(4000);
  });

  test('are not one for each of many small objects because a few are huge', () => {
    const items = planLargeObjects([{ dumpId: 1, oids }], 100_000 * 32 * mib).items.length;
    expect(items).toBeGreaterThan(2048);
    expect(items).toBeLessThan(8192);
  });

  test('are numbers in memory that workers share, as are the objects', () => {
    const plan = planLargeObjects([{ dumpId: 1, oids: oids.slice(0, 1000) }], 1000 * mib);
    // What a thread is given is cloned, unless it can be shared.
    const given = structuredClone(plan);
    expect(given).toEqual(plan);
    plan.oids[0] = 7;
    plan.items[1] = 8;
    expect([given.oids[0], given.items[1]]).toEqual([7, 8]);
  });

  test('keep their borders when there is more', () => {
    const borders = (totalBytes: number, members = oids) => {
      const plan = planLargeObjects([{ dumpId: 1, oids: members }], totalBytes);
      return [...plan.items].slice(1).map(index => plan.oids[index - 1]);
    };
    const few = borders(1024 * mib);
    expect(borders(2048 * mib)).toEqual(expect.arrayContaining(few));
    expect(borders(1024 * mib, oids.slice(1))).toEqual(few.filter(oid => oid !== oids[0]));
  });

  test('are none where there are no objects', () => {
    expect(planLargeObjects([], 0).items).toHaveLength(0);
  });
});
