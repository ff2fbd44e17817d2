// Segments at hand for a reader, counted when they are fetched.

import { SegmentReader } from '../../../src/operations/restore/segment-reader.ts';
import type { Slice } from '../../../src/repository/manifest.ts';
import { sealSegment, segmentId } from '../../../src/repository/segment.ts';

const secret = Buffer.alloc(32, 7);

export class SegmentShelf {
  readonly #objects = new Map<string, Buffer>();
  /** Ids of segments in the order in which they were fetched. */
  readonly fetched: string[] = [];

  /** A slice of a segment made of these bytes, with so many others before and after it. */
  put(bytes: Buffer, before = 0, after = 0): Slice {
    const plain = Buffer.concat([Buffer.alloc(before, 'b\n'), bytes, Buffer.alloc(after, 'a\n')]);
    const id = segmentId(secret, plain);
    const object = this.#objects.get(id) ?? sealSegment(id, plain, null, 1);
    this.#objects.set(id, object);
    const ref = { id, key: -1, plainBytes: plain.length, storedBytes: object.length };
    return { ...ref, offset: before, bytes: bytes.length };
  }

  reader({ isFreed = false } = {}): SegmentReader {
    return new SegmentReader({
      secret,
      isFreed,
      fetch: async id => {
        this.fetched.push(id);
        const object = this.#objects.get(id);
        if (object === undefined) throw new Error(`no segment ${id}`);
        return { object: Buffer.from(object), key: null };
      },
    });
  }
}
