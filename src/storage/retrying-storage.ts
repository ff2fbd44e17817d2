// Asks a remote storage again after failures that may pass: the only place where requests are repeated.
import { setTimeout as sleep } from 'node:timers/promises';
import { PgkeepError, throwIfAborted } from '../base/errors.ts';
import { PagedListing } from './paged-listing.ts';
import type { GetOptions, ObjectLocks, PutOptions, RemoveOptions, Storage, StoredObject } from './storage.ts';
import { TransientError } from './transient-error.ts';

export interface RetryPolicy {
  /** The first wait; each further one is twice as long. */
  firstWaitMs: number;
  longestWaitMs: number;
  /** How long a storage that has answered before may fail: as long as a restart takes, but a run holds locks meanwhile. */
  patienceMs: number;
  /** How often a storage is asked that has never answered: its address is as likely to be wrong. */
  unansweredAttempts: number;
}

const defaultPolicy: RetryPolicy = {
  firstWaitMs: 250,
  longestWaitMs: 16_000,
  patienceMs: 120_000,
  unansweredAttempts: 5,
};

export class RetryingStorage implements Storage {
  readonly location: string;
  readonly locks: ObjectLocks | undefined;
  readonly #inner: Storage;
  readonly #signal: AbortSignal | undefined;
  readonly #policy: RetryPolicy;
  #hasAnswered = false;

  /** @param signal ends the waiting. */
  constructor(inner: Storage, signal?: AbortSignal, policy: RetryPolicy = defaultPolicy) {
    this.location = inner.location;
    this.#inner = inner;
    this.#signal = signal;
    this.#policy = policy;
    const { locks } = inner;
    this.locks = locks && {
      check: () => this.#patiently(() => locks.check()),
      extend: (name, until) => this.#patiently(() => locks.extend(name, until)),
    };
  }

  /**
   * A put that failed may have been done, or be done yet: what then exists is compared with what was to be stored, so
   * that a run does not take its own object for somebody else's. Storing the same bytes twice is harmless.
   */
  async put(name: string, bytes: Buffer, options: PutOptions = {}): Promise<'stored' | 'exists'> {
    let hasFailed = false;
    const outcome = await this.#patiently(() =>
      this.#inner.put(name, bytes, options).catch(error => {
        hasFailed = true;
        throw error;
      }),
    );
    if (outcome === 'stored' || !hasFailed) return outcome;
    return bytes.equals(await this.get(name)) ? 'stored' : 'exists';
  }

  get(name: string, options?: GetOptions): Promise<Buffer> {
    return this.#patiently(() => this.#inner.get(name, options));
  }

  stat(name: string): Promise<StoredObject | undefined> {
    return this.#patiently(() => this.#inner.stat(name));
  }

  /** A listing that fails half-way goes on where it was. Of another kind it would seem to have ended, and so fails at once. */
  async *list(prefix: string): AsyncIterable<StoredObject> {
    const listing = this.#inner.list(prefix);
    if (!(listing instanceof PagedListing)) {
      yield* listing;
      return;
    }
    for (;;) {
      const { done, value } = await this.#patiently(() => listing.next());
      if (done) return;
      yield value;
    }
  }

  remove(names: readonly string[], options?: RemoveOptions): Promise<void> {
    return this.#patiently(() => this.#inner.remove(names, options));
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  /** @throws PgkeepError what the last attempt failed with; INTERRUPTED. */
  async #patiently<T>(ask: () => Promise<T>): Promise<T> {
    const { firstWaitMs, longestWaitMs, patienceMs, unansweredAttempts } = this.#policy;
    let failedSince: number | undefined;
    for (let attempt = 1; ; attempt++) {
      try {
        const result = await ask();
        this.#hasAnswered = true;
        return result;
      } catch (error) {
        throwIfAborted(this.#signal);
        if (!(error instanceof TransientError)) throw error;
        this.#hasAnswered ||= error.isAnswer;
        failedSince ??= Date.now();
        const doublings = Math.min(attempt - 1, 30);
        const waitMs = Math.min(longestWaitMs, firstWaitMs * 2 ** doublings) * (0.5 + Math.random() / 2);
        const wholeWaitMs = Math.max(waitMs, error.retryAfterMs);
        const hasTime = Date.now() - failedSince + wholeWaitMs <= patienceMs;
        if (!(this.#hasAnswered ? hasTime : attempt < unansweredAttempts)) throw givenUp(error, attempt);
        await sleep(wholeWaitMs, undefined, { ...(this.#signal && { signal: this.#signal }) }).catch(
          () => undefined,
        );
        throwIfAborted(this.#signal);
      }
    }
  }
}

function givenUp(error: TransientError, attempts: number): PgkeepError {
  const tries = attempts === 1 ? '' : ` (tried ${attempts} times)`;
  return new PgkeepError(error.code, `${error.message}${tries}`, {
    ...(error.hint !== undefined && { hint: error.hint }),
    context: { ...error.context, attempts },
    cause: error,
  });
}
