// A storage in memory, for tests that put thousands of objects.

import { PgkeepError } from '../../src/base/errors.ts';
import { requireObjectName } from '../../src/storage/object-name.ts';
import type { PutOptions, Storage, StoredObject } from '../../src/storage/storage.ts';

export class MemoryStorage implements Storage {
  readonly location = 'memory';
  readonly #objects = new Map<string, { bytes: Buffer; modified: Date }>();

  async put(name: string, bytes: Buffer, options: PutOptions = {}): Promise<'stored' | 'exists'> {
    requireObjectName(name);
    if (options.ifAbsent && this.#objects.has(name)) return 'exists';
    const copy = Buffer.allocUnsafeSlow(bytes.length);
    bytes.copy(copy);
    this.#objects.set(name, { bytes: copy, modified: new Date() });
    return 'stored';
  }

  async get(name: string): Promise<Buffer> {
    requireObjectName(name);
    const object = this.#objects.get(name);
    if (object === undefined) {
      throw new PgkeepError('OBJECT_MISSING', `${name} is missing`, { context: { object: name } });
    }
    return Buffer.from(object.bytes);
  }

  async stat(name: string): Promise<StoredObject | undefined> {
    requireObjectName(name);
    const object = this.#objects.get(name);
    return object && { name, sizeBytes: object.bytes.length, modified: object.modified };
  }

  async *list(prefix: string): AsyncIterable<StoredObject> {
    for (const [name, { bytes, modified }] of [...this.#objects]) {
      if (name.startsWith(prefix)) yield { name, sizeBytes: bytes.length, modified };
    }
  }

  async remove(names: readonly string[]): Promise<void> {
    for (const name of names) requireObjectName(name);
    for (const name of names) this.#objects.delete(name);
  }

  async close(): Promise<void> {}
}
