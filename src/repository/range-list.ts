// The ranges of a table, packed: some dozens of bytes each, outside the heap, where objects take a thousand on it. A range
// is made when it is asked for, and made anew each time.
//
// A packed range is a run of variable-length integers, seven bits to a byte, the lowest first: rows, bytes, then slices,
// ctids, gone and base. A list of slices is how many there are, counted from 1 (0: there is no list), and of each place of
// the id, key + 1, plain and stored bytes, offset, bytes. A base is 0, or 1 with its numbers, where xmin is text.
import type { RangeBase, RangeEntry, Ranges, Slice } from './manifest.ts';
import type { SegmentIds } from './segment-ids.ts';

const [firstBlockBytes, largestBlockBytes] = [1024, 1024 * 1024];
/** A place is the number of a block times this, and where in the block. */
const placeUnit = 2 ** 32;
/** Of an integer below 2^53. */
const maxIntegerBytes = 8;
const integersOfSlice = 6;
/** What is not slices, the text of xmin among it. */
const otherBytes = 16 * maxIntegerBytes;

export class RangeList implements Ranges {
  readonly #ids: SegmentIds;
  readonly #blocks: Buffer[] = [];
  /** The end of what is filled of the last block. */
  #end = 0;
  /** Where each range is, plus 1; 0 where there is none yet. */
  readonly #places: number[];
  /** Where reading or writing is. */
  #block: Buffer = Buffer.alloc(0);
  #at = 0;

  /**
   * @param ids numbers segments; those of the ranges are added.
   * @param length of a list that is filled in any order.
   */
  constructor(ids: SegmentIds, length = 0) {
    this.#ids = ids;
    this.#places = new Array<number>(length).fill(0);
  }

  get length(): number {
    return this.#places.length;
  }

  /** Whether every range is there. */
  get isWhole(): boolean {
    return !this.#places.includes(0);
  }

  has(index: number): boolean {
    return (this.#places[index] ?? 0) !== 0;
  }

  push(range: RangeEntry): void {
    this.#places.push(this.#pack(range) + 1);
  }

  set(index: number, range: RangeEntry): void {
    this.#places[index] = this.#pack(range) + 1;
  }

  at(index: number): RangeEntry | undefined {
    const place = this.#places[index] ?? 0;
    return place === 0 ? undefined : this.#unpack(place - 1);
  }

  /** @throws RangeError when one is not there yet: a hole would be rows lost without a word. */
  *[Symbol.iterator](): Generator<RangeEntry, void> {
    for (let index = 0; index < this.#places.length; index++) {
      const range = this.at(index);
      if (range === undefined) throw new RangeError(`range ${index} of ${this.#places.length} is not there`);
      yield range;
    }
  }

  /** @returns where it is. */
  #pack({ rows, bytes, slices, ctids, gone, base }: RangeEntry): number {
    const count = slices.length + (ctids?.length ?? 0) + (gone?.length ?? 0);
    this.#reserve(otherBytes + count * integersOfSlice * maxIntegerBytes);
    this.#at = this.#end;
    this.#write(rows);
    this.#write(bytes);
    this.#writeSlices(slices);
    this.#writeSlices(ctids);
    this.#writeSlices(gone);
    this.#writeBase(base);
    const place = (this.#blocks.length - 1) * placeUnit + this.#end;
    this.#end = this.#at;
    return place;
  }

  #unpack(place: number): RangeEntry {
    this.#block = this.#blocks[Math.floor(place / placeUnit)] ?? this.#block;
    this.#at = place % placeUnit;
    const rows = this.#read();
    const bytes = this.#read();
    const slices = this.#readSlices() ?? [];
    const ctids = this.#readSlices();
    const gone = this.#readSlices();
    const base = this.#readBase();
    // In the order of fields in which create writes them: what has not changed is to be the same text.
    return { rows, bytes, slices, ...(ctids && { ctids }), ...(base && { base }), ...(gone && { gone }) };
  }

  /** Blocks double, as most tables are small. */
  #reserve(bytes: number): void {
    const last = this.#blocks.at(-1);
    if (last === undefined || this.#end + bytes > last.length) {
      const doubled = Math.min(largestBlockBytes, firstBlockBytes * 2 ** this.#blocks.length);
      this.#blocks.push(Buffer.allocUnsafeSlow(Math.max(doubled, bytes)));
      this.#end = 0;
    }
    this.#block = this.#blocks.at(-1) ?? this.#block;
  }

  #writeSlices(slices: readonly Slice[] | undefined): void {
    this.#write(slices === undefined ? 0 : slices.length + 1);
    for (const { id, key, plainBytes, storedBytes, offset, bytes } of slices ?? []) {
      this.#write(this.#ids.add(id));
      this.#write(key + 1);
      this.#write(plainBytes);
      this.#write(storedBytes);
      this.#write(offset);
      this.#write(bytes);
    }
  }

  #readSlices(): Slice[] | undefined {
    const count = this.#read() - 1;
    if (count < 0) return undefined;
    const slices: Slice[] = [];
    while (slices.length < count) {
      const id = this.#ids.at(this.#read());
      const key = this.#read() - 1;
      const plainBytes = this.#read();
      const storedBytes = this.#read();
      const offset = this.#read();
      slices.push({ id, key, plainBytes, storedBytes, offset, bytes: this.#read() });
    }
    return slices;
  }

  #writeBase(base: RangeBase | undefined): void {
    this.#write(base === undefined ? 0 : 1);
    if (base === undefined) return;
    for (const number of [base.rows, base.slices, base.ctids, base.deltas, base.added]) this.#write(number);
    this.#write(base.xmin.length);
    this.#at += this.#block.write(base.xmin, this.#at, 'latin1');
  }

  #readBase(): RangeBase | undefined {
    if (this.#read() === 0) return undefined;
    const [rows, slices, ctids, deltas, added] = [1, 2, 3, 4, 5].map(() => this.#read());
    const length = this.#read();
    const xmin = this.#block.toString('latin1', this.#at, this.#at + length);
    return { rows, slices, ctids, xmin, deltas, added } as RangeBase;
  }

  #write(number: number): void {
    let rest = number;
    // Division, as the numbers may have more than 32 bits.
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) this.#block[this.#at++] = (rest % 0x80) | 0x80;
    this.#block[this.#at++] = rest;
  }

  #read(): number {
    let number = 0;
    for (let scale = 1; ; scale *= 0x80) {
      const byte = this.#block[this.#at++] ?? 0;
      number += (byte & 0x7f) * scale;
      if (byte < 0x80) return number;
    }
  }
}
