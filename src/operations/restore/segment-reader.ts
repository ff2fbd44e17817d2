// Reads slices of segments in order, asking for the next segment while one is being worked on.
import { PgkeepError } from '../../base/errors.ts';
import { segmentName } from '../../repository/layout.ts';
import type { Slice } from '../../repository/manifest.ts';
import { openSegment } from '../../repository/segment.ts';
import type { FetchedSegment } from '../thread-segment.ts';

export interface SegmentSource {
  fetch(id: string): Promise<FetchedSegment>;
  secret: Buffer;
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
      const plain = 'plain' in found ? found.plain : this.#open(slice.id, found);
      if (slice.offset + slice.bytes > plain.length) {
        const name = segmentName(slice.id);
        throw new PgkeepError('OBJECT_DAMAGED', `${name} is damaged: it is shorter than the backup says`, {
          context: { object: name },
        });
      }
      yield plain.subarray(slice.offset, slice.offset + slice.bytes);
    }
  }

  #ask(slice: Slice): Promise<{ plain: Buffer } | FetchedSegment> {
    if (slice.id === this.#last?.id) return Promise.resolve({ plain: this.#last.plain });
    const asked = this.#source.fetch(slice.id);
    // Awaited in its turn, which may never come when the load fails first.
    asked.catch(() => undefined);
    return asked;
  }

  #open(id: string, { object, key }: FetchedSegment): Buffer {
    const plain = openSegment(id, object, key, this.#source.secret);
    this.#last = { id, plain };
    return plain;
  }
}
