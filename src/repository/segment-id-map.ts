// Numbers by segment ids that may be millions: some dozens of bytes each, where a Map of strings takes several times as much.
import { randomBytes } from 'node:crypto';

const idBytes = 32;
const firstCapacity = 1024;

export class SegmentIdMap {
  #size = 0;
  /** In the order in which they were added. */
  #ids = Buffer.alloc(firstCapacity * idBytes);
  #values = new Float64Array(firstCapacity);
  /** Twice as many as there can be ids: 0, or the place of an id, counted from 1. */
  #slots = new Uint32Array(firstCapacity * 2);
  readonly #probe = Buffer.alloc(idBytes);
  /** Chance of this process: ids in a list that somebody made up must not fall into one slot. */
  readonly #seed = randomBytes(4).readUInt32LE() | 1;

  get size(): number {
    return this.#size;
  }

  has(id: string): boolean {
    return this.#slots[this.#find(id)] !== 0;
  }

  get(id: string): number | undefined {
    const place = this.#slots[this.#find(id)] ?? 0;
    return place === 0 ? undefined : this.#values[place - 1];
  }

  /** @param id 64 hexadecimal digits. @returns whether it was not there yet. */
  set(id: string, value: number): boolean {
    const slot = this.#find(id);
    const place = this.#slots[slot] ?? 0;
    if (place !== 0) {
      this.#values[place - 1] = value;
      return false;
    }
    this.#probe.copy(this.#ids, this.#size * idBytes);
    this.#values[this.#size] = value;
    this.#slots[slot] = ++this.#size;
    if (this.#size === this.#values.length) this.#grow();
    return true;
  }

  /** In the order in which they were added. */
  *keys(): Generator<string, void> {
    for (let place = 0; place < this.#size; place++) {
      yield this.#ids.toString('hex', place * idBytes, (place + 1) * idBytes);
    }
  }

  /** The slot that holds the place of the id, or the one that would. */
  #find(id: string): number {
    this.#probe.write(id, 'hex');
    return this.#slotOf(this.#probe);
  }

  #slotOf(id: Buffer): number {
    let hash = this.#seed;
    for (let at = 0; at < idBytes; at += 4) hash = mixed(hash ^ id.readUInt32LE(at));
    let slot = (hash >>> 0) % this.#slots.length;
    for (;;) {
      const place = this.#slots[slot] ?? 0;
      const start = (place - 1) * idBytes;
      if (place === 0 || id.compare(this.#ids, start, start + idBytes, 0, idBytes) === 0) return slot;
      slot = (slot + 1) % this.#slots.length;
    }
  }

  #grow(): void {
    const [ids, values] = [this.#ids, this.#values];
    this.#ids = Buffer.alloc(ids.length * 2);
    ids.copy(this.#ids);
    this.#values = new Float64Array(values.length * 2);
    this.#values.set(values);
    this.#slots = new Uint32Array(this.#slots.length * 2);
    for (let place = 0; place < this.#size; place++) {
      this.#slots[this.#slotOf(this.#ids.subarray(place * idBytes, (place + 1) * idBytes))] = place + 1;
    }
  }
}

/** Every bit of 32 decides about every other: the finalizer of MurmurHash3. */
function mixed(bits: number): number {
  let hash = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}
