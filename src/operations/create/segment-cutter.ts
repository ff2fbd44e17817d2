// Cuts the bytes of several COPYs into segments. Each COPY has a sink of its own, which notes the slices of
// segments its bytes went to; the buffers are few and used again.

import type { CopySink } from '../../postgres/wire.ts';
import type { SegmentRef, Slice } from '../../repository/manifest.ts';
import { segmentBytes } from '../../repository/segment.ts';

/** Segment buffers of one worker. Never refuses one, but says when the reader should pause. */
export class BufferPool {
  readonly bufferBytes: number;
  readonly #free: Buffer[] = [];
  readonly #capacity: number;
  readonly #onCongested: (isCongested: boolean) => void;
  #taken = 0;

  /** @param bufferBytes at most those of a segment. */
  constructor(capacity: number, onCongested: (isCongested: boolean) => void, bufferBytes = segmentBytes) {
    this.bufferBytes = bufferBytes;
    this.#capacity = capacity;
    this.#onCongested = onCongested;
  }

  take(): Buffer {
    this.#taken++;
    if (this.#taken === this.#capacity) this.#onCongested(true);
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.bufferBytes);
  }

  release(buffer: Buffer): void {
    this.#taken--;
    if (this.#taken === this.#capacity - 1) this.#onCongested(false);
    if (this.#free.length < this.#capacity) this.#free.push(buffer);
  }
}

const nothing = Buffer.alloc(0);

class OpenSegment {
  /** Empty once the segment is closed: those who wait for it do not keep it. */
  buffer: Buffer;
  isOpen = true;
  filled = 0;
  /** Resolves when the segment is in the repository. */
  readonly stored = Promise.withResolvers<SegmentRef>();

  constructor(buffer: Buffer) {
    this.buffer = buffer;
    // Whoever asks for the slices sees the failure; nobody may ask when the run fails elsewhere first.
    this.stored.promise.catch(() => undefined);
  }
}

/** Stores a segment's plain bytes and gives the buffer back to the pool when it no longer needs it. */
export type StoreSegment = (plain: Buffer, buffer: Buffer) => Promise<SegmentRef>;

export class SegmentCutter {
  readonly #pool: BufferPool;
  readonly #store: StoreSegment;
  #open: OpenSegment | undefined;

  constructor(pool: BufferPool, store: StoreSegment) {
    this.#pool = pool;
    this.#store = store;
  }

  /** A sink for the next COPY. */
  sink(): SliceSink {
    return new SliceSink(this);
  }

  /** The segment being filled. */
  get current(): OpenSegment {
    this.#open ??= new OpenSegment(this.#pool.take());
    return this.#open;
  }

  /** Bytes in the segment being filled. */
  get filled(): number {
    return this.#open?.filled ?? 0;
  }

  /** Takes as many of the bytes as the segment being filled has room for, and has it stored once it is full. @returns how many. */
  fill(chunk: Buffer, start: number, end: number): number {
    const segment = this.current;
    const { buffer, filled } = segment;
    const taken = Math.min(end - start, buffer.length - filled);
    chunk.copy(buffer, filled, start, start + taken);
    segment.filled = filled + taken;
    if (segment.filled === buffer.length) this.close();
    return taken;
  }

  /** Ends the segment being filled, if there is one, and has it stored. */
  close(): void {
    const segment = this.#open;
    if (segment === undefined) return;
    this.#open = undefined;
    const { buffer } = segment;
    segment.isOpen = false;
    segment.buffer = nothing;
    this.#store(buffer.subarray(0, segment.filled), buffer).then(
      segment.stored.resolve,
      segment.stored.reject,
    );
  }

  /** Drops the segment being filled. */
  abandon(): void {
    if (this.#open !== undefined) this.#pool.release(this.#open.buffer);
    this.#open = undefined;
  }
}

interface Piece {
  segment: OpenSegment;
  offset: number;
  bytes: number;
}

export class SliceSink implements CopySink {
  readonly #cutter: SegmentCutter;
  readonly #pieces: Piece[] = [];
  #piece: Piece | undefined;
  bytes = 0;

  constructor(cutter: SegmentCutter) {
    this.#cutter = cutter;
  }

  write(chunk: Buffer, start: number, end: number): void {
    let at = start;
    while (at < end) {
      const piece = this.#isAtEnd(this.#piece) ? this.#piece : this.#begin();
      const taken = this.#cutter.fill(chunk, at, end);
      piece.bytes += taken;
      at += taken;
    }
    this.bytes += end - start;
  }

  /** Where the bytes went, once all those segments are stored. */
  async slices(): Promise<Slice[]> {
    const slices: Slice[] = [];
    for (const { segment, offset, bytes } of this.#pieces) {
      slices.push({ ...(await segment.stored.promise), offset, bytes });
    }
    return slices;
  }

  /** Another sink of the cutter may have written since, or the segment may have been closed. */
  #isAtEnd(piece: Piece | undefined): piece is Piece {
    return piece?.segment.isOpen === true && piece.offset + piece.bytes === piece.segment.filled;
  }

  #begin(): Piece {
    const segment = this.#cutter.current;
    const piece = { segment, offset: segment.filled, bytes: 0 };
    this.#piece = piece;
    this.#pieces.push(piece);
    return piece;
  }
}
