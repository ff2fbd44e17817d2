// Counts what is asked of a storage, repetitions included.
import type { GetOptions, ObjectLocks, PutOptions, RemoveOptions, Storage, StoredObject } from './storage.ts';

/** What went to and fro; calls that failed count as requests, and their bytes as sent. */
export interface Traffic {
  /** Calls of the storage; a listing is one, however many pages it has. */
  requests: number;
  /** Contents of objects, without what protocols add. */
  sentBytes: number;
  receivedBytes: number;
}

export function addTraffic(one: Traffic, other: Traffic): Traffic {
  return {
    requests: one.requests + other.requests,
    sentBytes: one.sentBytes + other.sentBytes,
    receivedBytes: one.receivedBytes + other.receivedBytes,
  };
}

export class CountingStorage implements Storage {
  readonly location: string;
  readonly traffic: Traffic = { requests: 0, sentBytes: 0, receivedBytes: 0 };
  readonly locks: ObjectLocks | undefined;
  readonly #inner: Storage;

  constructor(inner: Storage) {
    this.location = inner.location;
    this.#inner = inner;
    const { locks } = inner;
    this.locks = locks && {
      check: () => {
        this.traffic.requests++;
        return locks.check();
      },
      extend: (name, until) => {
        this.traffic.requests++;
        return locks.extend(name, until);
      },
    };
  }

  put(name: string, bytes: Buffer, options?: PutOptions): Promise<'stored' | 'exists'> {
    this.traffic.requests++;
    this.traffic.sentBytes += bytes.length;
    return this.#inner.put(name, bytes, options);
  }

  async get(name: string, options?: GetOptions): Promise<Buffer> {
    this.traffic.requests++;
    const bytes = await this.#inner.get(name, options);
    this.traffic.receivedBytes += bytes.length;
    return bytes;
  }

  stat(name: string): Promise<StoredObject | undefined> {
    this.traffic.requests++;
    return this.#inner.stat(name);
  }

  list(prefix: string): AsyncIterable<StoredObject> {
    this.traffic.requests++;
    return this.#inner.list(prefix);
  }

  remove(names: readonly string[], options?: RemoveOptions): Promise<void> {
    this.traffic.requests += names.length;
    return this.#inner.remove(names, options);
  }

  close(): Promise<void> {
    return this.#inner.close();
  }
}
