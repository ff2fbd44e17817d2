// Reads slices of segments in order, asking for the next segment while one is being worked on.
import { PgkeepError } from '../../base/errors.ts';
import type { DataKey } from '../../crypto/seal.ts';
import type { Slice } from '../../repository/manifest.ts';
import { openSegment } from '../../repository/segment.ts';

export interface SegmentSource {
  /** Fetches a sealed segment. */
  fetch(id: string): Promise<Buffer>;
  secret: Buffer;
  /** The backup's data keys, in the order of the manifest; empty without encryption. */
  keys: readonly DataKey[];
}

export class SegmentReader {
  readonly #source: SegmentSource;
  /** The last segment opened: small tables share one. */
  #last: { id: string; plain: Buffer } | undefined;

  constructor(source: SegmentSource) {
    this.#source = source;
  }

  /** @throws PgkeepError OBJECT_MISSING, OBJECT_DAMAGED. */
  async *read(slices: readonly Slice[]): AsyncIterable<Buffer> {
    let ahead = slices[0] && this.#ask(slices[0]);
    for (const [index, slice] of slices.entries()) {
      const found = await ahead;
      if (found === undefined) throw new PgkeepError('INTERNAL', 'a segment was not asked for');
      const next = slices[index + 1];
      ahead = next && this.#ask(next);
      const plain = 'plain' in found ? found.plain : this.#open(slice, found.object);
      yield plain.subarray(slice.offset, slice.offset + slice.bytes);
    }
  }

  #ask(slice: Slice): Promise<{ plain: Buffer } | { object: Buffer }> {
    if (slice.id === this.#last?.id) return Promise.resolve({ plain: this.#last.plain });
    const asked = this.#source.fetch(slice.id).then(object => ({ object }));
    // Awaited in its turn, which may never come when the load fails first.
    asked.catch(() => undefined);
    return asked;
  }

  #open(slice: Slice, object: Buffer): Buffer {
    const key = slice.key < 0 ? null : this.#source.keys[slice.key];
    if (key === undefined) {
      throw new PgkeepError(
        'OBJECT_DAMAGED',
        `the manifest names no data key ${slice.key} for segment ${slice.id}`,
      );
    }
    const plain = openSegment(slice.id, object, key, this.#source.secret);
    this.#last = { id: slice.id, plain };
    return plain;
  }
}
