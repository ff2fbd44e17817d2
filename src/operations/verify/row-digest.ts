// A digest of rows as a multiset: their order does not matter, and how often each occurs does. The sum of the rows'
// hashes, in four sums of 32 bits.
import { createHash, type Hash, hash } from 'node:crypto';
import type { CopySink } from '../../postgres/wire.ts';

const lineFeed = 0x0a;
const tab = 0x09;

export interface DigestedRows {
  rows: number;
  sums: readonly [number, number, number, number];
}

export const noRows: DigestedRows = { rows: 0, sums: [0, 0, 0, 0] };

export function addDigests(one: DigestedRows, other: DigestedRows): DigestedRows {
  const [a, b, c, d] = one.sums;
  const [e, f, g, h] = other.sums;
  return { rows: one.rows + other.rows, sums: [(a + e) >>> 0, (b + f) >>> 0, (c + g) >>> 0, (d + h) >>> 0] };
}

export function isSameRows(one: DigestedRows, other: DigestedRows): boolean {
  return one.rows === other.rows && one.sums.every((sum, index) => sum === other.sums[index]);
}

/** Takes row text, cut anywhere. */
export class RowDigest implements CopySink {
  /** For each column of the digest, its place in the text; `null` when they are the same. */
  readonly #order: readonly number[] | null;
  #digest = noRows;
  /** A row of which the end is still to come: hashed so far, or kept when its columns must change places. */
  #hash: Hash | undefined;
  #pieces: Buffer[] = [];

  constructor(order: readonly number[] | null) {
    this.#order = order;
  }

  /** The rows whose end has come. */
  get digest(): DigestedRows {
    return this.#digest;
  }

  write(chunk: Buffer, start = 0, end = chunk.length): void {
    for (let at = start; at < end; ) {
      const found = chunk.indexOf(lineFeed, at);
      const stop = found < 0 || found >= end ? end : found;
      const isEnd = stop < end;
      this.#take(chunk.subarray(at, stop), isEnd);
      at = isEnd ? stop + 1 : stop;
    }
  }

  #take(piece: Buffer, isEnd: boolean): void {
    if (this.#order !== null) {
      this.#takeInOrder(piece, isEnd, this.#order);
    } else if (!isEnd) {
      this.#hash = (this.#hash ?? createHash('sha256')).update(piece);
    } else if (this.#hash === undefined) {
      this.#add(hash('sha256', piece, 'buffer'));
    } else {
      this.#add(this.#hash.update(piece).digest());
      this.#hash = undefined;
    }
  }

  #takeInOrder(piece: Buffer, isEnd: boolean, order: readonly number[]): void {
    // A copy: what was received is overwritten by what comes next.
    this.#pieces.push(isEnd ? piece : Buffer.from(piece));
    if (!isEnd) return;
    const row = Buffer.concat(this.#pieces);
    this.#pieces = [];
    const columns = splitColumns(row);
    const digest = createHash('sha256');
    for (const [index, place] of order.entries()) {
      if (index > 0) digest.update('\t');
      digest.update(columns[place] ?? '');
    }
    this.#add(digest.digest());
  }

  #add(rowHash: Buffer): void {
    const sums = [0, 4, 8, 12].map(at => rowHash.readUInt32LE(at)) as [number, number, number, number];
    this.#digest = addDigests(this.#digest, { rows: 1, sums });
  }
}

/** Tabs inside values are escaped. */
function splitColumns(row: Buffer): Buffer[] {
  const columns: Buffer[] = [];
  let start = 0;
  for (let at = row.indexOf(tab); at >= 0; at = row.indexOf(tab, start)) {
    columns.push(row.subarray(start, at));
    start = at + 1;
  }
  columns.push(row.subarray(start));
  return columns;
}
