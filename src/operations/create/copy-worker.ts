// A worker thread of create: its own connection in the shared snapshot; COPY in, cut, hash, look up, compress, seal,
// check. The main thread, which alone talks to the storage, is handed sealed objects without copying.
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { PgkeepError } from '../../base/errors.ts';
import { ThreadLine } from '../../base/thread-calls.ts';
import type { DataKey } from '../../crypto/seal.ts';
import { WireConnection } from '../../postgres/wire.ts';
import type { RangeEntry, SegmentRef } from '../../repository/manifest.ts';
import { sealSegment, segmentId } from '../../repository/segment.ts';
import { rowTextSettings } from '../row-text-settings.ts';
import { fromThread, type ThreadTarget } from '../thread-target.ts';
import { type CopyPlan, type CopyTask, tasksOf } from './copy-plan.ts';
import { BufferPool, SegmentCutter, type SliceSink } from './segment-cutter.ts';

export interface CopyWorkerData {
  target: ThreadTarget;
  applicationName: string;
  snapshotId: string;
  plan: CopyPlan;
  /** One counter for all workers: the next item of the plan. */
  nextItem: SharedArrayBuffer;
  secret: Uint8Array;
  key: { id: string; bytes: Uint8Array } | null;
  level: number;
}

/** What the main thread answers. */
export type CopyHost = {
  find(id: string): Promise<SegmentRef | undefined>;
  put(segment: { id: string; object: Uint8Array<ArrayBuffer>; plainBytes: number }): Promise<SegmentRef>;
  done(results: TaskResult[]): void;
};

export interface TaskResult {
  table: number;
  range: number;
  entry: RangeEntry;
}

/** Segment buffers: one being filled, the others on their way through lookup, compression and sealing. */
const buffers = 4;
/** Sealed objects on their way to the storage. */
const maxPuts = 4;
/** Items whose COPYs are sent ahead, so that the server never waits for a round trip. */
const sentAhead = 2;
const lockTimeoutMs = 2_000;

class Reader {
  readonly #data: CopyWorkerData;
  readonly #line: ThreadLine<CopyHost>;
  readonly #wire: WireConnection;
  readonly #pool: BufferPool;
  readonly #secret: Buffer;
  readonly #key: DataKey | null;
  readonly #nextItem: Int32Array;
  readonly #again: number[] = [];
  readonly #putWaiters: (() => void)[] = [];
  #puts = 0;

  constructor(data: CopyWorkerData, line: ThreadLine<CopyHost>, wire: WireConnection) {
    this.#data = data;
    this.#line = line;
    this.#wire = wire;
    this.#secret = asBuffer(data.secret);
    this.#key = data.key && { id: data.key.id, bytes: asBuffer(data.key.bytes) };
    this.#nextItem = new Int32Array(data.nextItem);
    this.#pool = new BufferPool(buffers, isCongested => (isCongested ? wire.pause() : wire.resume()));
  }

  async run(): Promise<void> {
    await this.#wire.run(rowTextSettings, 'preparing the session');
    await this.#begin();
    const underWay: { item: number; ended: Promise<void> }[] = [];
    for (;;) {
      while (underWay.length < sentAhead) {
        const item = this.#take();
        if (item === undefined) break;
        const ended = this.#readItem(item);
        // Awaited in its turn below.
        ended.catch(() => undefined);
        underWay.push({ item, ended });
      }
      const first = underWay.shift();
      if (first === undefined) return;
      try {
        await first.ended;
      } catch (error) {
        if (!isLostLockRace(error)) throw error;
        // What was sent ahead failed with it, in the same transaction.
        const rest = underWay.splice(0);
        await Promise.allSettled(rest.map(({ ended }) => ended));
        this.#again.push(first.item, ...rest.map(({ item }) => item));
        await this.#wire.run('ROLLBACK', 'giving up a lock');
        await sleep(200);
        await this.#begin();
      }
    }
  }

  #take(): number | undefined {
    const again = this.#again.shift();
    if (again !== undefined) return again;
    const item = Atomics.add(this.#nextItem, 0, 1);
    return item < this.#data.plan.items ? item : undefined;
  }

  async #begin(): Promise<void> {
    // A lock wait here means DDL queues behind the leader's lock; the watcher decides how long that may last.
    await this.#wire.run(
      `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '${this.#data.snapshotId}'; SET LOCAL lock_timeout = ${lockTimeoutMs}`,
      'joining the snapshot',
    );
  }

  async #readItem(item: number): Promise<void> {
    const cutter = new SegmentCutter(this.#pool, (plain, buffer) => this.#store(plain, buffer));
    const tasks = tasksOf(this.#data.plan, item);
    const copies = tasks.map(task => this.#copy(task, cutter.sink()));
    const ended = await Promise.allSettled(copies);
    const failed = ended.find(copy => copy.status === 'rejected');
    if (failed !== undefined) {
      cutter.abandon();
      throw failed.reason;
    }
    cutter.close();
    const results: TaskResult[] = [];
    for (const [index, copy] of ended.entries()) {
      const task = tasks[index];
      if (copy.status === 'rejected' || task === undefined) continue;
      const { rows, sink } = copy.value;
      results.push({
        table: task.table,
        range: task.range,
        entry: { rows, bytes: sink.bytes, slices: await sink.slices() },
      });
    }
    await this.#line.call('done', results);
  }

  async #copy(task: CopyTask, sink: SliceSink): Promise<{ rows: number; sink: SliceSink }> {
    const from = this.#data.plan.tables[task.table]?.from ?? '';
    const rows = await this.#wire.copyOut(task.sql, `reading table ${from}`, sink);
    return { rows, sink };
  }

  async #store(plain: Buffer, buffer: Buffer): Promise<SegmentRef> {
    const id = segmentId(this.#secret, plain);
    let object: Buffer;
    const plainBytes = plain.length;
    try {
      const found = await this.#line.call('find', id);
      if (found !== undefined) return found;
      object = sealSegment(id, plain, this.#key, this.#data.level);
      // Holding the buffer while the storage is slow is what slows the reading down.
      await this.#putTurn();
    } finally {
      this.#pool.release(buffer);
    }
    try {
      const bytes = new Uint8Array(object.buffer as ArrayBuffer, object.byteOffset, object.length);
      return await this.#line.call('put', { id, object: bytes, plainBytes }, [bytes.buffer]);
    } finally {
      this.#puts--;
      this.#putWaiters.shift()?.();
    }
  }

  async #putTurn(): Promise<void> {
    while (this.#puts >= maxPuts) await new Promise<void>(resolve => this.#putWaiters.push(resolve));
    this.#puts++;
  }
}

/** A lock not granted in time, or a COPY sent ahead in the transaction that this ended. */
function isLostLockRace(error: unknown): boolean {
  return (
    error instanceof PgkeepError && (error.context.sqlstate === '55P03' || error.context.sqlstate === '25P02')
  );
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

if (parentPort === null) throw new Error('copy-worker runs as a worker thread');
const data = workerData as CopyWorkerData;
const line: ThreadLine<CopyHost> = new ThreadLine<CopyHost>(parentPort, {
  run: async () => {
    const wire = await WireConnection.open(fromThread(data.target), data.applicationName);
    try {
      await new Reader(data, line, wire).run();
    } finally {
      wire.close();
    }
  },
});
