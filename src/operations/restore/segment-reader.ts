// Reads slices of segments in order, asking for the next segment while one is being worked on, and keeping those that
// are shared.
import { PgkeepError } from '../../base/errors.ts';
import { segmentName } from '../../repository/layout.ts';
import type { Slice } from '../../repository/manifest.ts';
import { openSegment } from '../../repository/segment.ts';
import type { FetchedSegment } from '../thread-segment.ts';

export interface SegmentSource {
  fetch(id: string): Promise<FetchedSegment>;
  secret: Buffer;
}

/** Of segments that small tables or the deltas of many ranges share. */
const keptBytes = 32 * 1024 * 1024;

type Asked = Buffer | FetchedSegment;

export class SegmentReader {
  readonly #source: SegmentSource;
  /** Segments that may be wanted again, the one used last being the last. */
  readonly #opened = new Map<string, Buffer>();
  /** The one among them that is not kept for longer: a slice is most of it. */
  #passing: string | undefined;

  constructor(source: SegmentSource) {
    this.#source = source;
  }

  /**
   * Asks for the first segment at once. Several may read at the same time.
   * @throws PgkeepError OBJECT_MISSING, OBJECT_DAMAGED.
   */
  read(slices: readonly Slice[]): AsyncGenerator<Buffer, void> {
    return this.#read(slices, slices[0] && this.#ask(slices[0]));
  }

  async *#read(slices: readonly Slice[], first: Promise<Asked> | undefined): AsyncGenerator<Buffer, void> {
    let ahead = first;
    for (const [index, slice] of slices.entries()) {
      const found = await ahead;
      if (found === undefined) throw new PgkeepError('INTERNAL', 'a segment was not asked for');
      const next = slices[index + 1];
      ahead = next && this.#ask(next);
      const plain = Buffer.isBuffer(found) ? found : this.#open(slice, found);
      if (slice.offset + slice.bytes > plain.length) {
        const name = segmentName(slice.id);
        throw new PgkeepError('OBJECT_DAMAGED', `${name} is damaged: it is shorter than the backup says`, {
          context: { object: name },
        });
      }
      yield plain.subarray(slice.offset, slice.offset + slice.bytes);
    }
  }

  #ask({ id }: Slice): Promise<Asked> {
    const plain = this.#opened.get(id);
    if (plain !== undefined) {
      this.#opened.delete(id);
      this.#opened.set(id, plain);
      return Promise.resolve(plain);
    }
    const asked = this.#source.fetch(id);
    // Awaited in its turn, which may never come when the load fails first.
    asked.catch(() => undefined);
    return asked;
  }

  #open(slice: Slice, { object, key }: FetchedSegment): Buffer {
    const plain = openSegment(slice.id, object, key, this.#source.secret);
    if (this.#passing !== undefined) this.#opened.delete(this.#passing);
    this.#passing = slice.bytes * 2 > plain.length ? slice.id : undefined;
    let room = keptBytes - plain.length;
    for (const opened of this.#opened.values()) room -= opened.length;
    for (const [id, opened] of this.#opened) {
      if (room >= 0) break;
      this.#opened.delete(id);
      room += opened.length;
    }
    this.#opened.set(slice.id, plain);
    return plain;
  }
}
