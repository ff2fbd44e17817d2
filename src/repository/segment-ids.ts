// Segment ids that may be millions, numbered in the order in which they come: about forty bytes each, where a Map of
// strings takes several times as much, on the heap.
import { randomBytes } from 'node:crypto';
import { mixBits } from '../base/mix-bits.ts';

const idBytes = 32;
const idWords = idBytes / Uint32Array.BYTES_PER_ELEMENT;
/** Ids are kept in blocks, so that nothing is copied as they become more. */
const blockIds = 4096;
const firstSlots = 1024;
/** Of the slots, so many are taken at most. */
const maxLoad = 0.7;

/** The bytes of ids, and the same as numbers. */
interface Block {
  bytes: Buffer;
  words: Uint32Array;
}

export class SegmentIds {
  readonly #blocks: Block[] = [];
  #size = 0;
  /** 0, or the place of an id, counted from 1. */
  #slots = new Uint32Array(firstSlots);
  readonly #probe = newBlock(1);
  /** Chance of this process: ids in a list that somebody made up must not fall into one slot. */
  readonly #seed = randomBytes(4).readUInt32LE() | 1;

  get size(): number {
    return this.#size;
  }

  /** Where the id is, counted from 0; `undefined` when it is not there. */
  placeOf(id: string): number | undefined {
    const place = this.#slots[this.#find(id)] ?? 0;
    return place === 0 ? undefined : place - 1;
  }

  /** The place of the id, which is there from then on. @param id 64 hexadecimal digits. */
  add(id: string): number {
    const slot = this.#find(id);
    const place = this.#slots[slot] ?? 0;
    if (place !== 0) return place - 1;
    const at = this.#size % blockIds;
    if (at === 0) this.#blocks.push(newBlock(blockIds));
    this.#blocks.at(-1)?.words.set(this.#probe.words, at * idWords);
    this.#slots[slot] = ++this.#size;
    if (this.#size > this.#slots.length * maxLoad) this.#addSlots();
    return this.#size - 1;
  }

  /** @throws RangeError where there is none. */
  at(place: number): string {
    const block = this.#blocks[Math.floor(place / blockIds)];
    if (block === undefined || place >= this.#size) throw new RangeError(`there is no segment id ${place}`);
    const start = (place % blockIds) * idBytes;
    return block.bytes.toString('hex', start, start + idBytes);
  }

  /** In the order of their places; also those that are added meanwhile. */
  *values(): Generator<string, void> {
    for (let place = 0; place < this.#size; place++) yield this.at(place);
  }

  /** The slot that holds the place of the id, or the one that would. */
  #find(id: string): number {
    this.#probe.bytes.write(id, 'hex');
    return this.#slotOf(this.#probe.words, 0);
  }

  #slotOf(words: Uint32Array, start: number): number {
    let hash = this.#seed;
    for (let at = start; at < start + idWords; at++) hash = mixBits(hash ^ (words[at] ?? 0));
    const mask = this.#slots.length - 1;
    let slot = hash & mask;
    for (;;) {
      const place = this.#slots[slot] ?? 0;
      if (place === 0 || this.#isAt(place - 1, words, start)) return slot;
      slot = (slot + 1) & mask;
    }
  }

  #isAt(place: number, words: Uint32Array, start: number): boolean {
    const block = this.#blocks[Math.floor(place / blockIds)]?.words;
    const first = (place % blockIds) * idWords;
    for (let at = 0; at < idWords; at++) if (block?.[first + at] !== words[start + at]) return false;
    return true;
  }

  #addSlots(): void {
    this.#slots = new Uint32Array(this.#slots.length * 2);
    for (let place = 0; place < this.#size; place++) {
      const { words } = this.#blocks[Math.floor(place / blockIds)] ?? this.#probe;
      this.#slots[this.#slotOf(words, (place % blockIds) * idWords)] = place + 1;
    }
  }
}

function newBlock(ids: number): Block {
  const words = new Uint32Array(ids * idWords);
  return { bytes: Buffer.from(words.buffer), words };
}
