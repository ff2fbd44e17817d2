// The rows of page ranges as text: of a range's lines those that are not gone.
import { PgkeepError } from '../base/errors.ts';
import type { RangeEntry, Slice } from '../repository/manifest.ts';
import { type NumberRun, readNumberList } from '../repository/number-list.ts';
import type { SegmentReader } from './restore/segment-reader.ts';

const lineFeed = 0x0a;
/** Lines between gone ones are passed on as they are when they are more than this, and else copied together. */
const largeBytes = 8 * 1024;
const gatheredBytes = 64 * 1024;

/** Neighbouring ranges of a table, with what is needed to read their rows. For another thread they must be an array. */
export interface RowText {
  /** For messages. */
  table: string;
  /** Index of the first one in the table. */
  first: number;
  ranges: Iterable<TextRange>;
}

export type TextRange = Pick<RangeEntry, 'rows' | 'slices' | 'gone'>;

export function rowTextOf(table: string, ranges: readonly RangeEntry[], first: number): RowText {
  return {
    table,
    first,
    ranges: ranges.map(({ rows, slices, gone }) => ({ rows, slices, ...(gone && { gone }) })),
  };
}

/**
 * Reads rows, cut anywhere, a segment at a time. Rows of ranges of which no line is gone are passed on as they are, and not counted.
 * @throws PgkeepError OBJECT_MISSING; OBJECT_DAMAGED also when the lines of a range that are gone are no ascending
 * numbers, are not among its lines, or leave another number of rows than it has.
 */
export async function* readRows(
  reader: SegmentReader,
  { table, first, ranges }: RowText,
): AsyncGenerator<Buffer, void> {
  const texts = reader.read(slicesWithRows(ranges, ({ slices }) => slices));
  const lists = reader.read(slicesWithRows(ranges, ({ gone = [] }) => gone));
  let index = first - 1;
  for (const { rows, slices, gone } of ranges) {
    index++;
    if (rows === 0) continue;
    const remaining =
      gone && new RemainingLines(`range ${index} of ${table}`, rows, await join(lists, gone.length));
    for (let left = slices.length; left > 0; left--) {
      const piece = await next(texts);
      if (remaining === undefined) yield piece;
      else yield* remaining.of(piece);
    }
    remaining?.end();
  }
}

/** A range of which all is gone need not be read. */
function* slicesWithRows(
  ranges: Iterable<TextRange>,
  choose: (range: TextRange) => readonly Slice[],
): Iterable<Slice> {
  for (const range of ranges) if (range.rows > 0) yield* choose(range);
}

/** The lines of one range without those that are gone. */
export class RemainingLines {
  readonly #range: string;
  readonly #rows: number;
  readonly #runs: Iterator<NumberRun, number>;
  readonly #listBytes: number;
  /** The next lines that are gone. */
  #run: NumberRun | undefined;
  /** The line that begins or goes on at the place that was reached, counted from 0. */
  #line = 0;
  #gone = 0;

  constructor(range: string, rows: number, gone: Buffer) {
    this.#range = range;
    this.#rows = rows;
    this.#runs = readNumberList(gone, `the list of lines that are gone from ${range}`);
    this.#listBytes = gone.length;
    this.#advance();
  }

  /** What is left of the next bytes of the text. */
  *of(piece: Buffer): Iterable<Buffer> {
    let at = 0;
    let small = Buffer.alloc(0);
    let filled = 0;
    while (this.#run !== undefined && at < piece.length) {
      const { first, count }: NumberRun = this.#run;
      const isGone = this.#line >= first;
      const start = at;
      at = this.#skip(piece, start, isGone ? first + count : first);
      if (isGone) {
        if (this.#line === first + count) this.#advance();
        continue;
      }
      const bytes = at - start;
      const isLarge = bytes > largeBytes;
      if (filled > 0 && (isLarge || filled + bytes > small.length)) {
        yield small.subarray(0, filled);
        // What was given away is not written to again.
        small = small.subarray(filled);
        filled = 0;
      }
      if (isLarge) {
        yield piece.subarray(start, at);
      } else {
        if (bytes > small.length) small = Buffer.allocUnsafe(gatheredBytes);
        filled += piece.copy(small, filled, start, at);
      }
    }
    if (filled > 0) yield small.subarray(0, filled);
    if (at === piece.length) return;
    this.#skip(piece, at, Number.POSITIVE_INFINITY);
    yield at === 0 ? piece : piece.subarray(at);
  }

  end(): void {
    if (this.#run !== undefined) {
      throw this.#damaged(
        `line ${this.#run.first + this.#run.count - 1} is gone, and there are ${this.#line}`,
      );
    }
    const rows = this.#line - this.#gone;
    if (rows !== this.#rows)
      throw this.#damaged(`it holds ${rows} rows where the backup counts ${this.#rows}`);
  }

  /** @returns where a line begins, or the end of the piece. */
  #skip(piece: Buffer, start: number, line: number): number {
    let at = start;
    while (this.#line < line) {
      const end = piece.indexOf(lineFeed, at);
      if (end < 0) return piece.length;
      at = end + 1;
      this.#line++;
    }
    return at;
  }

  #advance(): void {
    const { done, value } = this.#runs.next();
    if (done) {
      this.#run = undefined;
      if (value !== this.#listBytes) throw this.#damaged('more follows the list of the lines that are gone');
    } else {
      this.#run = value;
      this.#gone += value.count;
    }
  }

  #damaged(why: string): PgkeepError {
    return new PgkeepError('OBJECT_DAMAGED', `${this.#range} is damaged: ${why}`);
  }
}

async function join(pieces: AsyncGenerator<Buffer, void>, count: number): Promise<Buffer> {
  const joined: Buffer[] = [];
  // Copies, as a piece is only there until the next one is asked for.
  for (let left = count; left > 0; left--) joined.push(Buffer.from(await next(pieces)));
  return Buffer.concat(joined);
}

async function next(pieces: AsyncGenerator<Buffer, void>): Promise<Buffer> {
  const { done, value } = await pieces.next();
  if (done) throw new PgkeepError('INTERNAL', 'there are fewer slices than were asked for');
  return value;
}
