// A set of segment ids that may be millions, in little memory.
import { SegmentIds } from './segment-ids.ts';

export class SegmentIdSet {
  readonly #ids = new SegmentIds();

  get size(): number {
    return this.#ids.size;
  }

  has(id: string): boolean {
    return this.#ids.placeOf(id) !== undefined;
  }

  /** @param id 64 hexadecimal digits. @returns whether it was not there yet. */
  add(id: string): boolean {
    const before = this.#ids.size;
    this.#ids.add(id);
    return this.#ids.size > before;
  }

  /** In the order in which they were added. */
  values(): Generator<string, void> {
    return this.#ids.values();
  }
}
