// Reads slices of segments in order, asking for the next segment while one is being worked on, and keeping those that
// are shared.
import { PgkeepError } from '../../base/errors.ts';
import { freeBuffer } from '../../base/free-buffer.ts';
import { segmentName } from '../../repository/layout.ts';
import type { Slice } from '../../repository/manifest.ts';
import { openSegment } from '../../repository/segment.ts';
import type { FetchedSegment } from '../thread-segment.ts';

export interface SegmentSource {
  fetch(id: string): Promise<FetchedSegment>;
  secret: Buffer;
  /**
   * Whether pieces are only looked at until the next one is asked for: their memory is then given back at once. Left to
   * the garbage collector, some dozens of megabytes of them pile up.
   */
  isFreed?: boolean;
}

/** Of segments that small tables or the deltas of many ranges share. */
const keptBytes = 32 * 1024 * 1024;

type Asked = OpenedSegment | FetchedSegment;

/** Plain bytes, counted for those who look at them. */
class OpenedSegment {
  readonly plain: Buffer;
  readonly #isFreed: boolean;
  #readers = 0;
  #isKept = true;

  constructor(plain: Buffer, isFreed: boolean) {
    this.plain = plain;
    this.#isFreed = isFreed;
  }

  use(): this {
    this.#readers++;
    return this;
  }

  release(): void {
    this.#readers--;
    this.#freeUnused();
  }

  /** Nobody will be given it again. */
  drop(): void {
    this.#isKept = false;
    this.#freeUnused();
  }

  #freeUnused(): void {
    if (this.#isFreed && !this.#isKept && this.#readers === 0) freeBuffer(this.plain);
  }
}

interface Ahead {
  slice: Slice;
  asked: Promise<Asked>;
}

export class SegmentReader {
  readonly #source: SegmentSource;
  /** Segments that may be wanted again, the one used last being the last. */
  readonly #opened = new Map<string, OpenedSegment>();
  /** The one among them that is not kept for longer: a slice is most of it. */
  #passing: string | undefined;

  constructor(source: SegmentSource) {
    this.#source = source;
  }

  /**
   * Asks for the first segment at once. Several may read at the same time. A piece is that of the segment itself and
   * not to be changed; of a source that says so, it is only there until the next one is asked for.
   * @param slices gone through as they are read, one ahead.
   * @throws PgkeepError OBJECT_MISSING, OBJECT_DAMAGED.
   */
  read(slices: Iterable<Slice>): AsyncGenerator<Buffer, void> {
    const waiting = slices[Symbol.iterator]();
    return this.#read(waiting, this.#askNext(waiting));
  }

  async *#read(waiting: Iterator<Slice>, first: Ahead | undefined): AsyncGenerator<Buffer, void> {
    for (let ahead = first; ahead !== undefined; ) {
      const { slice, asked } = ahead;
      const found = await asked;
      ahead = this.#askNext(waiting);
      const opened = found instanceof OpenedSegment ? found : this.#open(slice, found).use();
      const { plain } = opened;
      if (slice.offset + slice.bytes > plain.length) {
        const name = segmentName(slice.id);
        throw new PgkeepError('OBJECT_DAMAGED', `${name} is damaged: it is shorter than the backup says`, {
          context: { object: name },
        });
      }
      yield plain.subarray(slice.offset, slice.offset + slice.bytes);
      // Not so where the reading ends early: what failed may still be sending the piece, and nobody counts on its memory.
      opened.release();
    }
  }

  #askNext(waiting: Iterator<Slice>): Ahead | undefined {
    const next = waiting.next();
    return next.done ? undefined : { slice: next.value, asked: this.#ask(next.value) };
  }

  #ask({ id }: Slice): Promise<Asked> {
    const opened = this.#opened.get(id);
    if (opened !== undefined) {
      this.#opened.delete(id);
      this.#opened.set(id, opened);
      return Promise.resolve(opened.use());
    }
    const asked = this.#source.fetch(id);
    // Awaited in its turn, which may never come when the load fails first.
    asked.catch(() => undefined);
    return asked;
  }

  #open({ id, bytes }: Slice, { object, key }: FetchedSegment): OpenedSegment {
    const plain = openSegment(id, object, key, this.#source.secret);
    // Without encryption, what could not be compressed is a view of the object.
    if (this.#source.isFreed && plain.buffer !== object.buffer) freeBuffer(object);
    if (this.#passing !== undefined) this.#drop(this.#passing);
    this.#passing = bytes * 2 > plain.length ? id : undefined;
    // Another reader may have fetched it meanwhile.
    this.#drop(id);
    let room = keptBytes - plain.length;
    for (const kept of this.#opened.values()) room -= kept.plain.length;
    for (const [other, kept] of this.#opened) {
      if (room >= 0) break;
      room += kept.plain.length;
      this.#drop(other);
    }
    const opened = new OpenedSegment(plain, this.#source.isFreed ?? false);
    this.#opened.set(id, opened);
    return opened;
  }

  #drop(id: string): void {
    this.#opened.get(id)?.drop();
    this.#opened.delete(id);
  }
}
