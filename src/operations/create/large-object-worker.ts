// A worker thread of create, for large objects: its own connection in the shared snapshot, COPY in, cut, and whatever
// becomes of segments.
import { parentPort, workerData } from 'node:worker_threads';
import { ThreadLine } from '../../base/thread-calls.ts';
import type { WireConnection } from '../../postgres/wire.ts';
import type { SegmentRef } from '../../repository/manifest.ts';
import type { LargeObjectPlan } from './large-object-plan.ts';
import { LargeObjectSink, largeObjectsSql } from './large-object-sink.ts';
import { BufferPool, SegmentCutter } from './segment-cutter.ts';
import { type SealerHost, SegmentSealer } from './segment-sealer.ts';
import {
  type ItemReader,
  readInSnapshot,
  type SnapshotReaderData,
  sealerOptions,
} from './snapshot-reader.ts';

export interface LargeObjectWorkerData extends SnapshotReaderData {
  plan: LargeObjectPlan;
}

/** What the main thread answers. */
export type LargeObjectHost = SealerHost & {
  /** All segments of an item, in order. */
  done(result: { item: number; segments: SegmentRef[] }): void;
};

/** Segment buffers: one being filled, the others on their way through lookup, compression and sealing. */
const buffers = 4;
class Reader implements ItemReader {
  /** Of all large objects together there is one lock. */
  readonly isTransactionFull = false;
  readonly #data: LargeObjectWorkerData;
  readonly #line: ThreadLine<LargeObjectHost>;
  readonly #wire: WireConnection;
  readonly #pool: BufferPool;
  readonly #sealer: SegmentSealer;

  constructor(data: LargeObjectWorkerData, line: ThreadLine<LargeObjectHost>, wire: WireConnection) {
    this.#data = data;
    this.#line = line;
    this.#wire = wire;
    this.#pool = new BufferPool(buffers, isCongested => {
      if (isCongested) wire.pause();
      else wire.resume();
    });
    this.#sealer = new SegmentSealer({
      find: id => line.call('find', id),
      put: segment => line.call('put', segment, [segment.object.buffer]),
      ...sealerOptions(data),
    });
  }

  get items(): number {
    return this.#data.plan.items.length;
  }

  async readItem(item: number): Promise<void> {
    const pool = this.#pool;
    const cutter = new SegmentCutter(pool, (plain, buffer) =>
      this.#sealer.store(plain, () => pool.release(buffer)),
    );
    const sink = new LargeObjectSink(this.#data.plan, item, cutter);
    const { oids } = sink;
    const which = oids.length === 1 ? `object ${oids[0]}` : `objects ${oids[0]} to ${oids.at(-1)}`;
    try {
      await this.#wire.copyOut(largeObjectsSql(oids), `reading large ${which}`, sink);
      sink.finish();
    } catch (error) {
      cutter.abandon();
      throw error;
    }
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
  run: () => readInSnapshot(data, wire => new Reader(data, line, wire)),
});
