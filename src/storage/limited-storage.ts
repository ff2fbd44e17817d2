// Keeps what is sent to and read from a storage below so many bytes a second. It paces whole objects, not packets: each
// is sent as fast as the line allows, and the next has to wait until the time of those before it is used up.
import { setTimeout as sleep } from 'node:timers/promises';
import { throwIfAborted } from '../base/errors.ts';
import type { GetOptions, ObjectLocks, PutOptions, RemoveOptions, Storage, StoredObject } from './storage.ts';

export interface BandwidthLimits {
  uploadBytesPerSecond?: number | undefined;
  downloadBytesPerSecond?: number | undefined;
}

export class LimitedStorage implements Storage {
  readonly location: string;
  readonly locks: ObjectLocks | undefined;
  readonly #inner: Storage;
  readonly #upload: Pace;
  readonly #download: Pace;
  /** One get after the other: how large an object is shows only when it has been read. */
  #lastGet: Promise<unknown> = Promise.resolve();

  /** @param signal ends the waiting. */
  constructor(inner: Storage, limits: BandwidthLimits, signal?: AbortSignal) {
    this.location = inner.location;
    this.locks = inner.locks;
    this.#inner = inner;
    this.#upload = new Pace(limits.uploadBytesPerSecond ?? Number.POSITIVE_INFINITY, signal);
    this.#download = new Pace(limits.downloadBytesPerSecond ?? Number.POSITIVE_INFINITY, signal);
  }

  async put(name: string, bytes: Buffer, options?: PutOptions): Promise<'stored' | 'exists'> {
    await this.#upload.turn(bytes.length);
    return await this.#inner.put(name, bytes, options);
  }

  get(name: string, options?: GetOptions): Promise<Buffer> {
    if (!this.#download.isLimited) return this.#inner.get(name, options);
    const get = async () => {
      await this.#download.turn(0);
      const bytes = await this.#inner.get(name, options);
      this.#download.use(bytes.length);
      return bytes;
    };
    const got = this.#lastGet.then(get, get);
    this.#lastGet = got;
    return got;
  }

  stat(name: string): Promise<StoredObject | undefined> {
    return this.#inner.stat(name);
  }

  list(prefix: string): AsyncIterable<StoredObject> {
    return this.#inner.list(prefix);
  }

  remove(names: readonly string[], options?: RemoveOptions): Promise<void> {
    return this.#inner.remove(names, options);
  }

  close(): Promise<void> {
    return this.#inner.close();
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
