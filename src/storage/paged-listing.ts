// A listing that a server gives page by page. It can be asked again after a failure, and goes on where it was; all it
// remembers is the page and where the next one begins.
import type { StoredObject } from './storage.ts';

export interface Page<Position> {
  objects: readonly StoredObject[];
  /** Where the next page begins; none follows without it. */
  next: Position | undefined;
}

export class PagedListing<Position> implements AsyncIterableIterator<StoredObject> {
  #read: (position: Position) => Promise<Page<Position>>;
  #position: Position | undefined;
  #objects: Iterator<StoredObject> = [].values();

  /** @param read gives the page that begins there; called again with the same position after it has failed. */
  constructor(first: Position, read: (position: Position) => Promise<Page<Position>>) {
    this.#position = first;
    this.#read = read;
  }

  /** One call at a time. */
  async next(): Promise<IteratorResult<StoredObject, undefined>> {
    for (;;) {
      const { done, value } = this.#objects.next();
      if (!done) return { done: false, value };
      if (this.#position === undefined) return { done: true, value: undefined };
      const { objects, next } = await this.#read(this.#position);
      this.#objects = objects.values();
      this.#position = next;
    }
  }

  /** Has every page that is still to come read by way of another. @returns itself. */
  readThrough(way: (read: () => Promise<Page<Position>>) => Promise<Page<Position>>): this {
    const read = this.#read;
    this.#read = position => way(() => read(position));
    return this;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
