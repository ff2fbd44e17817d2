// What the worker threads of create have in common, whatever they read: a connection in the shared snapshot, items taken from one
// counter, and transactions that are begun anew where a lock is not to be had.
import { setTimeout as sleep } from 'node:timers/promises';
import { PgkeepError } from '../../base/errors.ts';
import type { DataKey } from '../../crypto/seal.ts';
import { joinSnapshot } from '../../postgres/join-snapshot.ts';
import type { DatabaseTarget } from '../../postgres/target.ts';
import { WireConnection } from '../../postgres/wire.ts';
import type { Repository } from '../../repository/repository.ts';
import { rowTextSettings } from '../row-text-settings.ts';
import { asBuffer } from '../thread-segment.ts';
import { fromThread, type ThreadTarget, toThread } from '../thread-target.ts';
import { type LoadLimit, Turn } from './load-limit.ts';
import type { SealerOptions } from './segment-sealer.ts';

/** What reading from the snapshot takes, on the main thread. */
export interface SnapshotReading {
  target: DatabaseTarget;
  applicationName: string;
  snapshotId: string;
  repository: Repository;
  key: DataKey | null;
  level: number;
  /** Holds workers back, when it is told of the server's load. */
  limit: LoadLimit;
}

/** The same as it crosses into the threads. */
export interface SnapshotReaderData {
  target: ThreadTarget;
  applicationName: string;
  snapshotId: string;
  /** One counter for all workers: the next item. */
  nextItem: SharedArrayBuffer;
  /** Which workers may take one. */
  turns: SharedArrayBuffer;
  secret: Uint8Array;
  key: { id: string; bytes: Uint8Array } | null;
  level: number;
}

/** Begins the limit anew; whoever runs the workers ends it. */
export function snapshotReaderData(reading: SnapshotReading, workers: number): SnapshotReaderData {
  return {
    target: toThread(reading.target),
    applicationName: reading.applicationName,
    snapshotId: reading.snapshotId,
    nextItem: new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT),
    turns: reading.limit.begin(workers),
    secret: reading.repository.secret,
    key: reading.key,
    level: reading.level,
  };
}

export function sealerOptions({
  secret,
  key,
  level,
}: SnapshotReaderData): Pick<SealerOptions, 'secret' | 'key' | 'level'> {
  return { secret: asBuffer(secret), key: key && { id: key.id, bytes: asBuffer(key.bytes) }, level };
}

/** What is done with the items. */
export interface ItemReader {
  /** How many there are to take. */
  readonly items: number;
  /** Whether the transaction holds as many locks as it should; no more is read in it then. */
  readonly isTransactionFull: boolean;
  /** A transaction begins, in the same snapshot. */
  beginTransaction?(): void;
  /** Reads one, by number; all of it again when it failed for want of a lock. */
  readItem(item: number): Promise<void>;
  /** None is left to take. */
  finish?(): Promise<void>;
}

/** Items whose COPYs are sent ahead, so that the server never waits for a round trip. */
const sentAhead = 2;
const lockTimeoutMs = 2_000;
const lockPauseMs = 200;
/** How often a worker that is held back looks whether it may go on. */
const heldBackMs = 100;

/**
 * Connects and reads items until none is left. The other workers take from the same counter.
 * @throws PgkeepError DATABASE_CONNECTION_LOST, also when it is the session with the snapshot that was lost; what reading fails with.
 */
export async function readInSnapshot(
  data: SnapshotReaderData,
  makeReader: (wire: WireConnection) => ItemReader,
): Promise<void> {
  const wire = await WireConnection.open(fromThread(data.target), data.applicationName);
  try {
    await wire.run(rowTextSettings, 'preparing the session');
    const reader = makeReader(wire);
    await new Taking(data, wire, reader).run();
    await reader.finish?.();
  } finally {
    await wire.close();
  }
}

class Taking {
  readonly #snapshotId: string;
  readonly #wire: WireConnection;
  readonly #reader: ItemReader;
  readonly #nextItem: Int32Array;
  readonly #turn: Turn;
  /** Those that failed for want of a lock. */
  readonly #again: number[] = [];

  constructor({ snapshotId, nextItem, turns }: SnapshotReaderData, wire: WireConnection, reader: ItemReader) {
    this.#snapshotId = snapshotId;
    this.#wire = wire;
    this.#reader = reader;
    this.#nextItem = new Int32Array(nextItem);
    this.#turn = new Turn(turns);
  }

  async run(): Promise<void> {
    const reader = this.#reader;
    await this.#begin();
    const underWay: { item: number; ended: Promise<void> }[] = [];
    for (;;) {
      while (underWay.length < sentAhead && !reader.isTransactionFull) {
        if (this.#isHeldBack && underWay.length > 0) break;
        while (this.#isHeldBack) await sleep(heldBackMs);
        const item = this.#take();
        if (item === undefined) break;
        const ended = reader.readItem(item);
        // Awaited in its turn below.
        ended.catch(() => undefined);
        underWay.push({ item, ended });
      }
      const first = underWay.shift();
      if (first === undefined) {
        if (!reader.isTransactionFull) return;
        // With nothing under way: what was found out about transactions' ages holds in this one alone.
        await this.#wire.run('COMMIT', 'ending a transaction');
        await this.#begin();
        continue;
      }
      try {
        await first.ended;
      } catch (error) {
        // What was sent ahead failed with it, in the same transaction, unless it had ended before. It may also be what failed first.
        const rest = underWay.splice(0);
        const settled = await Promise.allSettled(rest.map(({ ended }) => ended));
        const failed = rest.filter((_, index) => settled[index]?.status === 'rejected');
        const others = settled.flatMap(end => (end.status === 'rejected' ? [end.reason] : []));
        const cause = causeAmong([error, ...others]);
        // Nothing else goes away by trying again.
        if (sqlstateOf(cause) !== lockNotAvailable) throw cause;
        this.#again.push(first.item, ...failed.map(({ item }) => item));
        await this.#wire.run('ROLLBACK', 'giving up a lock');
        await sleep(lockPauseMs);
        await this.#begin();
      }
    }
  }

  async #begin(): Promise<void> {
    this.#reader.beginTransaction?.();
    // A lock wait here means DDL queues behind the leader's lock; the watcher decides how long that may last.
    await joinSnapshot((sql, doing) => this.#wire.run(sql, doing), this.#snapshotId, lockTimeoutMs);
  }

  /** Once nothing is left to take there is nothing to wait for: others may be active for ever. */
  get #isHeldBack(): boolean {
    return this.#turn.isHeldBack && Atomics.load(this.#nextItem, 0) < this.#reader.items;
  }

  #take(): number | undefined {
    const again = this.#again.shift();
    if (again !== undefined) return again;
    const next = Atomics.add(this.#nextItem, 0, 1);
    return next < this.#reader.items ? next : undefined;
  }
}

const lockNotAvailable = '55P03';
const inFailedTransaction = '25P02';

function sqlstateOf(error: unknown): unknown {
  return error instanceof PgkeepError ? error.context.sqlstate : undefined;
}

/** Of failures in one transaction the first that is not only because of another: of what was sent ahead, each fails, and any of it may be awaited first. */
export function causeAmong(errors: readonly unknown[]): unknown {
  return errors.find(error => sqlstateOf(error) !== inFailedTransaction) ?? errors[0];
}
