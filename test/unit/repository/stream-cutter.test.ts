import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { segmentBytes } from '../../../src/repository/segment.ts';
import { cutByContent } from '../../../src/repository/stream-cutter.ts';

const mib = 1024 * 1024;
const secret = Buffer.alloc(32, 7);

/** Bytes without a pattern, the same each time. */
function bytesOf(seed: string, length: number): Buffer {
  const blocks: Buffer[] = [];
  for (let block = 0; block * 32 < length; block++)
    blocks.push(createHash('sha256').update(`${seed} ${block}`).digest());
  return Buffer.concat(blocks).subarray(0, length);
}

async function* inChunks(bytes: Buffer, chunkBytes: number): AsyncIterable<Buffer> {
  for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
}

async function cut(bytes: Buffer, chunkBytes = 65_536, key = secret): Promise<Buffer[]> {
  const pieces: Buffer[] = [];
  for await (const piece of cutByContent(key, inChunks(bytes, chunkBytes))) pieces.push(Buffer.from(piece));
  return pieces;
}

const digests = (pieces: readonly Buffer[]) =>
  pieces.map(piece => createHash('sha256').update(piece).digest('hex'));

const source = bytesOf('source', 12 * mib);

describe('a stream cut by its contents', () => {
  test('is whole again when its pieces are joined', async () => {
    const pieces = await cut(source);
    expect(Buffer.concat(pieces).equals(source)).toBe(true);
    expect(pieces.length).toBeGreaterThan(4);
    for (const piece of pieces.slice(0, -1)) expect(piece.length).toBeGreaterThan(mib / 2);
    for (const piece of pieces) expect(piece.length).toBeLessThanOrEqual(segmentBytes);
  });

  test('has the same pieces however it arrives', async () => {
    const expected = digests(await cut(source));
    for (const chunkBytes of [777, 3 * mib, source.length])
      expect(digests(await cut(source, chunkBytes))).toEqual(expected);
  });

  test('has the same pieces before and after a place that changed', async () => {
    const before = digests(await cut(source));
    const half = source.length / 2;
    const changes = {
      inserted: [source.subarray(0, half), bytesOf('new', 1000), source.subarray(half)],
      removed: [source.subarray(0, half), source.subarray(half + 1000)],
      overwritten: [source.subarray(0, half), bytesOf('new', 1000), source.subarray(half + 1000)],
    };
    for (const [change, parts] of Object.entries(changes)) {
      const after = digests(await cut(Buffer.concat(parts)));
      const different = after.filter(digest => !before.includes(digest));
      expect(different.length, change).toBeGreaterThan(0);
      expect(different.length, change).toBeLessThanOrEqual(2);
    }
  });

  test('is cut elsewhere in another repository', async () => {
    const sizes = (pieces: readonly Buffer[]) => pieces.map(({ length }) => length);
    expect(sizes(await cut(source, 65_536, Buffer.alloc(32, 8)))).not.toEqual(sizes(await cut(source)));
  });

  test('is cut where a segment is full when its contents say nothing', async () => {
    const pieces = await cut(Buffer.alloc(2 * segmentBytes + 5, 'x'));
    expect(pieces.map(({ length }) => length)).toEqual([segmentBytes, segmentBytes, 5]);
  });
});
