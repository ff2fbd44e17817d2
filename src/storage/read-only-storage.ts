// A storage that nothing can be written to: a run that only reads, or a dry run, cannot change a repository by a mistake.
import { PgkeepError } from '../base/errors.ts';
import type { GetOptions, ObjectLocks, Storage, StoredObject } from './storage.ts';

export class ReadOnlyStorage implements Storage {
  readonly location: string;
  readonly locks: ObjectLocks | undefined;
  readonly #inner: Storage;

  constructor(inner: Storage) {
    this.location = inner.location;
    this.#inner = inner;
    const { locks } = inner;
    this.locks = locks && {
      check: () => locks.check(),
      extend: async name => {
        throw this.#refusal(`lock ${name} in`);
      },
    };
  }

  /** @throws PgkeepError INTERNAL. */
  async put(name: string): Promise<never> {
    throw this.#refusal(`store ${name} in`);
  }

  get(name: string, options?: GetOptions): Promise<Buffer> {
    return this.#inner.get(name, options);
  }

  stat(name: string): Promise<StoredObject | undefined> {
    return this.#inner.stat(name);
  }

  list(prefix: string): AsyncIterable<StoredObject> {
    return this.#inner.list(prefix);
  }

  /** @throws PgkeepError INTERNAL. */
  async remove(names: readonly string[]): Promise<never> {
    throw this.#refusal(`remove ${names.join(', ')} from`);
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  #refusal(what: string): PgkeepError {
    return new PgkeepError('INTERNAL', `a run that only reads was about to ${what} ${this.location}`);
  }
}
