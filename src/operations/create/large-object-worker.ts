// A worker thread of create, for large objects: its own connection in the shared snapshot, COPY in, cut, and whatever
// becomes of segments.
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { ThreadLine } from '../../base/thread-calls.ts';
import { WireConnection } from '../../postgres/wire.ts';
import type { SegmentRef } from '../../repository/manifest.ts';
import { rowTextSettings } from '../row-text-settings.ts';
import { asBuffer } from '../thread-segment.ts';
import { fromThread, type ThreadTarget } from '../thread-target.ts';
import type { LargeObjectPlan } from './large-object-plan.ts';
import { LargeObjectSink, largeObjectsSql } from './large-object-sink.ts';
import { Turn } from './load-limit.ts';
import { BufferPool, SegmentCutter } from './segment-cutter.ts';
import { type SealerHost, SegmentSealer } from './segment-sealer.ts';

export interface LargeObjectWorkerData {
  target: ThreadTarget;
  applicationName: string;
  snapshotId: string;
  plan: LargeObjectPlan;
  /** One counter for all workers: the next item. */
  nextItem: SharedArrayBuffer;
  /** Which workers may take one. */
  turns: SharedArrayBuffer;
  secret: Uint8Array;
  key: { id: string; bytes: Uint8Array } | null;
  level: number;
}

/** What the main thread answers. */
export type LargeObjectHost = SealerHost & {
  /** All segments of an item, in order. */
  done(result: { item: number; segments: SegmentRef[] }): void;
};

/** Segment buffers: one being filled, the others on their way through lookup, compression and sealing. */
const buffers = 4;
/** Items whose COPYs are sent ahead, so that the server never waits for a round trip. */
const sentAhead = 2;
/** How often a worker that is held back looks whether it may go on. */
const heldBackMs = 100;

class Reader {
  readonly #data: LargeObjectWorkerData;
  readonly #line: ThreadLine<LargeObjectHost>;
  readonly #wire: WireConnection;
  readonly #pool: BufferPool;
  readonly #sealer: SegmentSealer;
  readonly #nextItem: Int32Array;
  readonly #turn: Turn;

  constructor(data: LargeObjectWorkerData, line: ThreadLine<LargeObjectHost>, wire: WireConnection) {
    this.#data = data;
    this.#line = line;
    this.#wire = wire;
    this.#nextItem = new Int32Array(data.nextItem);
    this.#turn = new Turn(data.turns);
    this.#pool = new BufferPool(buffers, isCongested => {
      if (isCongested) wire.pause();
      else wire.resume();
    });
    this.#sealer = new SegmentSealer({
      find: id => line.call('find', id),
      put: segment => line.call('put', segment, [segment.object.buffer]),
      secret: asBuffer(data.secret),
      key: data.key && { id: data.key.id, bytes: asBuffer(data.key.bytes) },
      level: data.level,
    });
  }

  async run(): Promise<void> {
    await this.#wire.run(rowTextSettings, 'preparing the session');
    await this.#wire.run(
      `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '${this.#data.snapshotId}'`,
      'joining the snapshot',
    );
    const { items } = this.#data.plan;
    const underWay: Promise<void>[] = [];
    for (;;) {
      while (underWay.length < sentAhead) {
        const isLeft = Atomics.load(this.#nextItem, 0) < items.length;
        if (isLeft && this.#turn.isHeldBack && underWay.length > 0) break;
        if (isLeft && this.#turn.isHeldBack) {
          await sleep(heldBackMs);
          continue;
        }
        const item = Atomics.add(this.#nextItem, 0, 1);
        if (item >= items.length) break;
        const ended = this.#readItem(item);
        // Awaited in its turn below.
        ended.catch(() => undefined);
        underWay.push(ended);
      }
      const first = underWay.shift();
      if (first === undefined) return;
      await first;
    }
  }

  async #readItem(item: number): Promise<void> {
    const pool = this.#pool;
    const cutter = new SegmentCutter(pool, (plain, buffer) =>
      this.#sealer.store(plain, () => pool.release(buffer)),
    );
    const sink = new LargeObjectSink(this.#data.plan, item, cutter);
    const { oids } = sink;
    const which = oids.length === 1 ? `object ${oids[0]}` : `objects ${oids[0]} to ${oids.at(-1)}`;
    await this.#wire.copyOut(largeObjectsSql(oids), `reading large ${which}`, sink);
    sink.finish();
    cutter.close();
    const slices = await sink.out.slices();
    const segments = slices.map(({ id, key, plainBytes, storedBytes }) => ({
      id,
      key,
      plainBytes,
      storedBytes,
    }));
    await this.#line.call('done', { item, segments });
  }
}

if (parentPort === null) throw new Error('large-object-worker runs as a worker thread');
const data = workerData as LargeObjectWorkerData;
const line: ThreadLine<LargeObjectHost> = new ThreadLine<LargeObjectHost>(parentPort, {
  run: async () => {
    const wire = await WireConnection.open(fromThread(data.target), data.applicationName);
    try {
      await new Reader(data, line, wire).run();
    } finally {
      wire.close();
    }
  },
});
