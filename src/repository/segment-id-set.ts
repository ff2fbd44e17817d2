// A set of segment ids that may be millions: 32 bytes each in one table, where strings would take five times as much.
import { randomBytes } from 'node:crypto';

const idBytes = 32;
const firstSlots = 1024;

export class SegmentIdSet {
  #size = 0;
  #slots = firstSlots;
  #table = Buffer.alloc(firstSlots * idBytes);
  #taken = new Uint8Array(firstSlots);
  readonly #probe = Buffer.alloc(idBytes);
  /** Chance of this process: ids in a list that somebody made up must not fall into one slot. */
  readonly #seed = randomBytes(4).readUInt32LE() | 1;

  get size(): number {
    return this.#size;
  }

  /** @param id 64 hexadecimal digits. @returns whether it was not there yet. */
  add(id: string): boolean {
    const slot = this.#find(id);
    if (this.#taken[slot] === 1) return false;
    this.#probe.copy(this.#table, slot * idBytes);
    this.#taken[slot] = 1;
    this.#size++;
    if (this.#size * 4 > this.#slots * 3) this.#grow();
    return true;
  }

  has(id: string): boolean {
    return this.#taken[this.#find(id)] === 1;
  }

  /** The slot that holds the id, or the one that would. */
  #find(id: string): number {
    this.#probe.write(id, 'hex');
    return this.#slotOf(this.#probe);
  }

  #slotOf(id: Buffer): number {
    let hash = this.#seed;
    for (let at = 0; at < idBytes; at += 4)
      hash = Math.imul(hash ^ id.readUInt32LE(at), 0x9e3779b1) ^ (hash >>> 15);
    let slot = (hash >>> 0) % this.#slots;
    while (
      this.#taken[slot] === 1 &&
      id.compare(this.#table, slot * idBytes, (slot + 1) * idBytes, 0, idBytes) !== 0
    ) {
      slot = (slot + 1) % this.#slots;
    }
    return slot;
  }

  #grow(): void {
    const [table, taken] = [this.#table, this.#taken];
    this.#slots *= 2;
    this.#table = Buffer.alloc(this.#slots * idBytes);
    this.#taken = new Uint8Array(this.#slots);
    for (let slot = 0; slot < taken.length; slot++) {
      if (taken[slot] !== 1) continue;
      const id = table.subarray(slot * idBytes, (slot + 1) * idBytes);
      const target = this.#slotOf(id);
      id.copy(this.#table, target * idBytes);
      this.#taken[target] = 1;
    }
  }
}
