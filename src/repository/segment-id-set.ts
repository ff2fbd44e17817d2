// A set of segment ids that may be millions, in little memory.
import { SegmentIdMap } from './segment-id-map.ts';

export class SegmentIdSet {
  readonly #map = new SegmentIdMap();

  get size(): number {
    return this.#map.size;
  }

  has(id: string): boolean {
    return this.#map.has(id);
  }

  /** @param id 64 hexadecimal digits. @returns whether it was not there yet. */
  add(id: string): boolean {
    return this.#map.set(id, 0);
  }

  /** In the order in which they were added. */
  values(): Iterable<string> {
    return this.#map.keys();
  }
}
