import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import {
  BufferPool,
  SegmentCutter,
  type SliceSink,
} from '../../../../src/operations/create/segment-cutter.ts';
import type { SegmentRef, Slice } from '../../../../src/repository/manifest.ts';
import { segmentBytes } from '../../../../src/repository/segment.ts';

/** Keeps what it is given, after a while, as a worker does. */
class Shelf {
  readonly segments = new Map<string, Buffer>();
  readonly pool: BufferPool;
  readonly congestion: boolean[] = [];

  constructor(capacity = 4) {
    this.pool = new BufferPool(capacity, isCongested => this.congestion.push(isCongested));
  }

  readonly store = async (plain: Buffer, buffer: Buffer): Promise<SegmentRef> => {
    await sleep(1);
    const id = createHash('sha256').update(plain).digest('hex');
    this.segments.set(id, Buffer.from(plain));
    // Whoever still reads this buffer reads rubbish.
    buffer.fill(0xee);
    this.pool.release(buffer);
    return { id, key: 0, plainBytes: plain.length, storedBytes: plain.length };
  };

  read(slices: readonly Slice[]): Buffer {
    return Buffer.concat(
      slices.map(({ id, offset, bytes }) => {
        const plain = this.segments.get(id);
        if (plain === undefined) throw new Error(`no segment ${id}`);
        expect(bytes).toBeGreaterThan(0);
        expect(offset + bytes).toBeLessThanOrEqual(plain.length);
        return plain.subarray(offset, offset + bytes);
      }),
    );
  }
}

/** Writes bytes as rows come: pieces of a larger buffer. */
function write(sink: SliceSink, bytes: Buffer, pieceBytes: number): void {
  const received = Buffer.concat([Buffer.from('#####'), bytes, Buffer.from('#####')]);
  for (let at = 0; at < bytes.length; at += pieceBytes)
    sink.write(received, 5 + at, 5 + Math.min(bytes.length, at + pieceBytes));
}

describe('what several COPYs wrote is found again by their slices', () => {
  test.each([
    ['small', [10, 0, 20, 0, 0, 5]],
    ['nothing', [0, 0]],
    ['exactly one segment', [segmentBytes]],
    ['a segment in two', [segmentBytes - 10, 10]],
    ['a segment, then more', [segmentBytes, 10, segmentBytes]],
    ['across the cut', [segmentBytes - 1, 2, segmentBytes - 2, 3]],
    ['several segments in one', [3 * segmentBytes + 1, 5]],
    ['exactly two segments, then nothing, then one byte', [2 * segmentBytes, 0, 1]],
  ])('%s', async (_, sizes) => {
    for (const pieceBytes of [100_000, segmentBytes * 4]) {
      const shelf = new Shelf();
      const cutter = new SegmentCutter(shelf.pool, shelf.store);
      const contents = sizes.map(size => randomBytes(size));
      const sinks = contents.map(bytes => {
        const sink = cutter.sink();
        write(sink, bytes, pieceBytes);
        return sink;
      });
      cutter.close();
      for (const [i, sink] of sinks.entries()) {
        const bytes = contents[i] ?? Buffer.alloc(0);
        expect(sink.bytes).toBe(bytes.length);
        expect(shelf.read(await sink.slices()).equals(bytes)).toBe(true);
      }
      const total = sizes.reduce((sum, size) => sum + size, 0);
      expect(shelf.segments.size).toBe(Math.ceil(total / segmentBytes));
      for (const plain of shelf.segments.values()) expect(plain.length).toBeLessThanOrEqual(segmentBytes);
    }
  });

  test('empty pieces leave no trace', async () => {
    const shelf = new Shelf();
    const cutter = new SegmentCutter(shelf.pool, shelf.store);
    const sink = cutter.sink();
    sink.write(Buffer.alloc(10), 5, 5);
    cutter.close();
    expect(await sink.slices()).toEqual([]);
    expect(shelf.segments.size).toBe(0);
  });
});

describe('buffers', () => {
  test('are used again, and not before they are given back', () => {
    const { pool } = new Shelf(2);
    const [one, two] = [pool.take(), pool.take()];
    expect(one).not.toBe(two);
    pool.release(two);
    expect(pool.take()).toBe(two);
  });

  test('that run out pause the reader once, and go on once there is one', () => {
    const shelf = new Shelf(2);
    const taken = [shelf.pool.take()];
    expect(shelf.congestion).toEqual([]);
    taken.push(shelf.pool.take(), shelf.pool.take(), shelf.pool.take());
    expect(shelf.congestion).toEqual([true]);
    for (const buffer of taken.splice(0, 2)) shelf.pool.release(buffer);
    expect(shelf.congestion).toEqual([true]);
    for (const buffer of taken) shelf.pool.release(buffer);
    expect(shelf.congestion).toEqual([true, false]);
  });

  test('all come back after the work, also of a segment that was given up', async () => {
    const shelf = new Shelf(2);
    const cutter = new SegmentCutter(shelf.pool, shelf.store);
    const sink = cutter.sink();
    write(sink, randomBytes(segmentBytes + 5), 1_000_000);
    expect(shelf.congestion).toEqual([true]);
    cutter.abandon();
    cutter.abandon();
    await expect.poll(() => shelf.segments.size).toBe(1);
    expect(shelf.congestion).toEqual([true, false]);
    shelf.pool.take();
    shelf.pool.take();
    expect(shelf.congestion).toEqual([true, false, true]);
  });
});

test('a segment that cannot be stored fails the slices that need it, and no others', async () => {
  const shelf = new Shelf();
  let stores = 0;
  const cutter = new SegmentCutter(shelf.pool, (plain, buffer) => {
    if (stores++ === 0) return shelf.store(plain, buffer);
    shelf.pool.release(buffer);
    return Promise.reject(new Error('no room'));
  });
  const [good, bad] = [cutter.sink(), cutter.sink()];
  write(good, randomBytes(segmentBytes), 1_000_000);
  write(bad, randomBytes(10), 10);
  cutter.close();
  expect(await good.slices()).toHaveLength(1);
  await expect(bad.slices()).rejects.toThrow('no room');
});
