// The parts of segments whose rows or number lists verify counts, and what it has counted: some dozens of bytes each, as there
// may be millions. The parts of a segment are a chain.
import { randomBytes } from 'node:crypto';
import { fillZeros } from '../../base/fill-zeros.ts';
import { mixBits } from '../../base/mix-bits.ts';
import type { CountedSlice } from './count-lines.ts';
import type { CountedList } from './count-numbers.ts';
import type { SlicePlace } from './segment-worker.ts';

/** What a part is read as: row text, or number lists. */
export type PartKind = 'text' | 'lists';

/** Parts of a segment by their numbers, and where they are. */
export interface PartsToCount {
  parts: number[];
  places: SlicePlace[];
}

const firstSlots = 1024;
/** Of the slots, so many are taken at most. */
const maxLoad = 0.7;
/** Offset and length of a part are below 2^26. */
const lengthUnit = 2 ** 27;
/** More than the lists of a part can be. */
const listsUnit = 2 ** 10;
const noLists = -1;

export class CountedParts {
  /** Of each part: the place of its segment; offset and length in one number, which is negative for lists. */
  readonly #segments: number[] = [];
  readonly #keys: number[] = [];
  /** Of each part: the next one of its segment, plus 1. */
  readonly #next: number[] = [];
  /** Of each part: 0 until it is counted. */
  readonly #results: number[] = [];
  /** By place of the segment: its part that came last, plus 1. */
  readonly #last: number[] = [];
  /** Of each number list; those of a part follow each other. */
  readonly #counts: number[] = [];
  readonly #ends: number[] = [];
  /** 0, or the number of a part, plus 1. */
  #slots = new Uint32Array(firstSlots);
  /** Chance of this process: parts that somebody made up must not fall into one slot. */
  readonly #seed = randomBytes(4).readUInt32LE();

  /** Has a part counted when its segment is read next, unless it has been. @param segment the place of its id. */
  want(segment: number, place: SlicePlace, kind: PartKind): void {
    const key = keyOf(place, kind);
    const slot = this.#slotOf(segment, key);
    if (this.#slots[slot] !== 0) return;
    fillZeros(this.#last, segment);
    this.#segments.push(segment);
    this.#results.push(0);
    this.#next.push(this.#last[segment] ?? 0);
    const part = this.#keys.push(key);
    this.#last[segment] = part;
    this.#slots[slot] = part;
    if (part > this.#slots.length * maxLoad) this.#addSlots();
  }

  /** Whether a part of the segment has yet to be counted. */
  lacks(segment: number): boolean {
    return this.#uncounted(segment).next().done !== true;
  }

  /** What has yet to be counted of a segment. */
  toCount(segment: number, kind: PartKind): PartsToCount {
    const found: PartsToCount = { parts: [], places: [] };
    for (const part of this.#uncounted(segment)) {
      const key = this.#keys[part] ?? 0;
      if (key < 0 !== (kind === 'lists')) continue;
      found.parts.push(part);
      found.places.push(placeOf(key));
    }
    return found;
  }

  noteText(part: number, { rows, isClosed }: CountedSlice): void {
    this.#results[part] = 1 + 2 * rows + (isClosed ? 1 : 0);
  }

  /** @param lists `null` when the part is no whole lists. */
  noteLists(part: number, lists: readonly CountedList[] | null): void {
    if (lists === null) {
      this.#results[part] = noLists;
      return;
    }
    this.#results[part] = 1 + this.#counts.length * listsUnit + lists.length;
    for (const { count, end } of lists) {
      this.#counts.push(count);
      this.#ends.push(end);
    }
  }

  /** What was counted of a part; `undefined` when nothing was. */
  text(segment: number, place: SlicePlace): CountedSlice | undefined {
    const result = this.#resultOf(segment, place, 'text');
    if (result === 0) return undefined;
    return { rows: Math.floor((result - 1) / 2), isClosed: (result - 1) % 2 === 1 };
  }

  /** The same of lists; `null` when the part is no whole lists. */
  lists(segment: number, place: SlicePlace): CountedList[] | null | undefined {
    const result = this.#resultOf(segment, place, 'lists');
    if (result === 0) return undefined;
    if (result === noLists) return null;
    const first = Math.floor((result - 1) / listsUnit);
    return Array.from({ length: (result - 1) % listsUnit }, (_, index) => ({
      count: this.#counts[first + index] ?? 0,
      end: this.#ends[first + index] ?? 0,
    }));
  }

  #resultOf(segment: number, place: SlicePlace, kind: PartKind): number {
    const part = this.#slots[this.#slotOf(segment, keyOf(place, kind))] ?? 0;
    return part === 0 ? 0 : (this.#results[part - 1] ?? 0);
  }

  *#uncounted(segment: number): Generator<number, void> {
    for (let part = this.#last[segment] ?? 0; part !== 0; part = this.#next[part - 1] ?? 0)
      if (this.#results[part - 1] === 0) yield part - 1;
  }

  /** The slot that holds the part, or the one that would. */
  #slotOf(segment: number, key: number): number {
    // The upper bits of the key, then the lower ones.
    const upper = mixBits(this.#seed ^ segment) ^ Math.floor(key / 2 ** 32);
    const mask = this.#slots.length - 1;
    let slot = mixBits(mixBits(upper) ^ (key | 0)) & mask;
    for (;;) {
      const part = this.#slots[slot] ?? 0;
      if (part === 0 || (this.#keys[part - 1] === key && this.#segments[part - 1] === segment)) return slot;
      slot = (slot + 1) & mask;
    }
  }

  #addSlots(): void {
    this.#slots = new Uint32Array(this.#slots.length * 2);
    for (const [part, key] of this.#keys.entries())
      this.#slots[this.#slotOf(this.#segments[part] ?? 0, key)] = part + 1;
  }
}

function keyOf({ offset, bytes }: SlicePlace, kind: PartKind): number {
  const key = offset * lengthUnit + bytes;
  return kind === 'lists' ? -1 - key : key;
}

function placeOf(key: number): SlicePlace {
  const positive = key < 0 ? -1 - key : key;
  return { offset: Math.floor(positive / lengthUnit), bytes: positive % lengthUnit };
}
