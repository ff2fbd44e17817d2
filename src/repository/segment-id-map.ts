// Numbers by segment ids that may be millions.
import { SegmentIds } from './segment-ids.ts';

/** Numbers are kept in blocks, so that nothing is copied as they become more. */
const blockNumbers = 4096;

export class SegmentIdMap {
  readonly #ids = new SegmentIds();
  readonly #blocks: Float64Array[] = [];

  get size(): number {
    return this.#ids.size;
  }

  has(id: string): boolean {
    return this.#ids.placeOf(id) !== undefined;
  }

  get(id: string): number | undefined {
    const place = this.#ids.placeOf(id);
    return place === undefined
      ? undefined
      : this.#blocks[Math.floor(place / blockNumbers)]?.[place % blockNumbers];
  }

  /** @param id 64 hexadecimal digits. @returns whether it was not there yet. */
  set(id: string, value: number): boolean {
    const before = this.#ids.size;
    const place = this.#ids.add(id);
    const index = Math.floor(place / blockNumbers);
    let block = this.#blocks[index];
    if (block === undefined) {
      block = new Float64Array(blockNumbers);
      this.#blocks.push(block);
    }
    block[place % blockNumbers] = value;
    return this.#ids.size > before;
  }

  /** In the order in which they were added; also those that are added meanwhile. */
  keys(): Generator<string, void> {
    return this.#ids.values();
  }
}
