// Reads a listing to its end.

import type { Storage } from '../../src/storage/storage.ts';

/** The names under a prefix, sorted. */
export async function names(storage: Storage, prefix: string): Promise<string[]> {
  const found: string[] = [];
  for await (const object of storage.list(prefix)) found.push(object.name);
  return found.sort();
}
