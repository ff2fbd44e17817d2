// Keeps what is asked of a storage below limits: so many bytes a second, and so many requests under way at once. It paces
// whole objects, not packets: each is sent as fast as the line allows, and the next has to wait until the time of those
// before it is used up.
import { setTimeout as sleep } from 'node:timers/promises';
import { throwIfAborted } from '../base/errors.ts';
import { forEachAtOnce } from '../base/for-each-at-once.ts';
import { requireObjectName } from './object-name.ts';
import { type LockedObject, ObjectsLocked } from './objects-locked.ts';
import { PagedListing } from './paged-listing.ts';
import type { GetOptions, ObjectLocks, PutOptions, RemoveOptions, Storage, StoredObject } from './storage.ts';

export interface StorageLimits {
  uploadBytesPerSecond?: number | undefined;
  downloadBytesPerSecond?: number | undefined;
  /** How many calls may be under way at once; a page of a remote listing counts as one, and so does each removal. */
  requests?: number | undefined;
}

export class LimitedStorage implements Storage {
  readonly location: string;
  readonly locks: ObjectLocks | undefined;
  readonly #inner: Storage;
  readonly #upload: Pace;
  readonly #download: Pace;
  readonly #slots: Slots | undefined;
  /** One whole get after the other: how large an object is shows only when it has been read. */
  #lastGet: Promise<unknown> = Promise.resolve();

  /** @param signal ends the waiting. */
  constructor(inner: Storage, limits: StorageLimits, signal?: AbortSignal) {
    this.location = inner.location;
    this.#inner = inner;
    this.#upload = new Pace(limits.uploadBytesPerSecond ?? Number.POSITIVE_INFINITY, signal);
    this.#download = new Pace(limits.downloadBytesPerSecond ?? Number.POSITIVE_INFINITY, signal);
    this.#slots = limits.requests === undefined ? undefined : new Slots(limits.requests, signal);
    const { locks } = inner;
    this.locks = locks && {
      check: () => this.#ask(() => locks.check()),
      extend: (name, until) => this.#ask(() => locks.extend(name, until)),
    };
  }

  async put(name: string, bytes: Buffer, options?: PutOptions): Promise<'stored' | 'exists'> {
    await this.#upload.turn(bytes.length);
    return await this.#ask(() => this.#inner.put(name, bytes, options));
  }

  async get(name: string, options?: GetOptions): Promise<Buffer> {
    const read = () => this.#ask(() => this.#inner.get(name, options));
    if (!this.#download.isLimited) return await read();
    const { firstBytes } = options ?? {};
    if (firstBytes !== undefined) {
      await this.#download.turn(firstBytes);
      const bytes = await read();
      this.#download.use(Math.max(0, bytes.length - firstBytes));
      return bytes;
    }
    const get = async () => {
      await this.#download.turn(0);
      const bytes = await read();
      this.#download.use(bytes.length);
      return bytes;
    };
    const got = this.#lastGet.then(get, get);
    this.#lastGet = got;
    return await got;
  }

  stat(name: string): Promise<StoredObject | undefined> {
    return this.#ask(() => this.#inner.stat(name));
  }

  list(prefix: string): AsyncIterable<StoredObject> {
    const listing = this.#inner.list(prefix);
    return listing instanceof PagedListing ? listing.readThrough(read => this.#ask(read)) : listing;
  }

  /** Under a limit of requests each name is a call of its own: the storage removes several at once. */
  async remove(names: readonly string[], options?: RemoveOptions): Promise<void> {
    if (this.#slots === undefined) return await this.#inner.remove(names, options);
    for (const name of names) requireObjectName(name);
    const locked: LockedObject[] = [];
    const remove = async (name: string) => {
      await this.#ask(() => this.#inner.remove([name], options)).catch((error: unknown) => {
        if (!(error instanceof ObjectsLocked)) throw error;
        locked.push(...error.objects);
      });
    };
    await forEachAtOnce(names, remove, this.#slots.count);
    if (locked.length > 0) throw new ObjectsLocked(locked);
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  #ask<T>(request: () => Promise<T>): Promise<T> {
    return this.#slots === undefined ? request() : this.#slots.run(request);
  }
}

class Slots {
  readonly count: number;
  readonly #signal: AbortSignal | undefined;
  readonly #waiting: (() => void)[] = [];
  #free: number;

  constructor(count: number, signal: AbortSignal | undefined) {
    this.count = count;
    this.#free = count;
    this.#signal = signal;
  }

  /** Waits for those under way, which an interruption ends. @throws PgkeepError INTERRUPTED. */
  async run<T>(request: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>(resolve => this.#waiting.push(resolve));
    try {
      throwIfAborted(this.#signal);
      return await request();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free++;
      else next();
    }
  }
}

class Pace {
  readonly #bytesPerSecond: number;
  readonly #signal: AbortSignal | undefined;
  /** When the time of all bytes so far is used up. */
  #freeAt = 0;

  constructor(bytesPerSecond: number, signal: AbortSignal | undefined) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#signal = signal;
  }

  get isLimited(): boolean {
    return Number.isFinite(this.#bytesPerSecond);
  }

  /** Waits until the bytes before these have had their time. @throws PgkeepError INTERRUPTED. */
  async turn(bytes: number): Promise<void> {
    const waitMs = this.#freeAt - performance.now();
    this.use(bytes);
    if (waitMs <= 0) return;
    await sleep(waitMs, undefined, { ...(this.#signal && { signal: this.#signal }) }).catch(() => undefined);
    throwIfAborted(this.#signal);
  }

  use(bytes: number): void {
    this.#freeAt = Math.max(this.#freeAt, performance.now()) + (bytes / this.#bytesPerSecond) * 1000;
  }
}
