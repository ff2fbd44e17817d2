// One operation of the library in a process of its own, measured: time, memory, and what it asked of the storage, each call
// of it counted. `runMeasured` starts it; as a program it takes a MeasuredRun as JSON and prints its costs as JSON.

import { resolve } from 'node:path';
import type * as library from '../../src/index.ts';
import type { GetOptions, PutOptions, Storage, StoredObject } from '../../src/storage/storage.ts';
import { interceptStorage } from './faulty-storage.ts';
import { startModule } from './pgkeep-process.ts';

type Operation = 'listBackups' | 'verifyBackups' | 'cleanupRepository';

export interface MeasuredRun<Name extends Operation = Operation> {
  operation: Name;
  options: Parameters<(typeof library)[Name]>[0];
}

export interface Requests {
  get: number;
  put: number;
  stat: number;
  /** Listings, and the objects that they had. */
  list: number;
  listed: number;
  /** Objects removed. */
  removed: number;
}

export interface Costs<Name extends Operation> {
  wallMs: number;
  cpuMs: number;
  /** The most that was resident. */
  peakBytes: number;
  requests: Requests;
  result: Awaited<ReturnType<(typeof library)[Name]>>;
}

/**
 * @param heapMb the most that the heap may hold; the process dies when it needs more.
 * @throws Error with what the process said when it failed.
 */
export async function runMeasured<Name extends Operation>(
  operation: Name,
  options: MeasuredRun<Name>['options'],
  heapMb?: number,
): Promise<Costs<Name>> {
  const env = heapMb === undefined ? {} : { NODE_OPTIONS: `--max-old-space-size=${heapMb}` };
  const { exitCode, signal, out, err } = await startModule(import.meta.filename, { operation, options }, env)
    .ended;
  if (exitCode !== 0) throw new Error(`${operation} ended with ${signal ?? exitCode}: ${err}`);
  return JSON.parse(out) as Costs<Name>;
}

/** Counts what is asked of a storage. */
class CountedStorage implements Storage {
  readonly location: string;
  readonly #inner: Storage;
  readonly #requests: Requests;

  constructor(inner: Storage, requests: Requests) {
    this.location = inner.location;
    this.#inner = inner;
    this.#requests = requests;
  }

  put(name: string, bytes: Buffer, options?: PutOptions): Promise<'stored' | 'exists'> {
    this.#requests.put++;
    return this.#inner.put(name, bytes, options);
  }

  get(name: string, options?: GetOptions): Promise<Buffer> {
    this.#requests.get++;
    return this.#inner.get(name, options);
  }

  stat(name: string): Promise<StoredObject | undefined> {
    this.#requests.stat++;
    return this.#inner.stat(name);
  }

  async *list(prefix: string): AsyncIterable<StoredObject> {
    this.#requests.list++;
    for await (const object of this.#inner.list(prefix)) {
      this.#requests.listed++;
      yield object;
    }
  }

  remove(names: readonly string[]): Promise<void> {
    this.#requests.removed += names.length;
    return this.#inner.remove(names);
  }

  close(): Promise<void> {
    return this.#inner.close();
  }
}

async function main(argument: string): Promise<void> {
  const { operation, options } = JSON.parse(argument) as MeasuredRun;
  const operations: Readonly<Record<string, unknown>> = await import('../../src/index.ts');
  const perform = operations[operation] as (given: object) => Promise<never>;
  const requests: Requests = { get: 0, put: 0, stat: 0, list: 0, listed: 0, removed: 0 };
  using _ = interceptStorage(options.repository, inner => new CountedStorage(inner, requests));
  const startedAt = performance.now();
  const before = process.cpuUsage();
  const result = await perform({ environment: { PATH: process.env.PATH }, ...options });
  const { user, system } = process.cpuUsage(before);
  const costs: Costs<Operation> = {
    wallMs: performance.now() - startedAt,
    cpuMs: (user + system) / 1000,
    peakBytes: process.resourceUsage().maxRSS * 1024,
    requests,
    result,
  };
  process.stdout.write(JSON.stringify(costs));
}

if (process.argv[1] === resolve(import.meta.filename)) await main(process.argv[2] ?? '');
