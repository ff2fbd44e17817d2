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
  /** One of an item's segments, by its place among these; once more when the item is read again. */
  stored(segment: SegmentRef & { item: number; index: number }): void;
  /** An item was read, which consists of so many. */
  done(result: { item: number; segments: number }): void;
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
    const segments = new ItemSegments(item, this.#line, this.#sealer, this.#pool);
    // What cannot be stored is not worth the rest of the object, which may be long.
    segments.failure.catch(() => this.#wire.destroy());
    const sink = new LargeObjectSink(this.#data.plan, item, segments.cutter);
    const { oids } = sink;
    const which = oids.length === 1 ? `object ${oids[0]}` : `objects ${oids[0]} to ${oids.at(-1)}`;
    try {
      await this.#wire.copyOut(largeObjectsSql(oids), `reading large ${which}`, sink);
      sink.finish();
    } catch (error) {
      await segments.abandon();
      throw error;
    }
    await this.#line.call('done', { item, segments: await segments.close() });
  }
}

/** What becomes of the segments of an item: they are told one by one, and forgotten. */
class ItemSegments {
  readonly cutter: SegmentCutter;
  /** Rejects with what storing fails with; never resolves. */
  readonly failure: Promise<never>;
  readonly #storing = new Set<Promise<void>>();
  #count = 0;

  constructor(item: number, line: ThreadLine<LargeObjectHost>, sealer: SegmentSealer, pool: BufferPool) {
    const failure = Promise.withResolvers<never>();
    this.failure = failure.promise;
    this.cutter = new SegmentCutter(pool, async (plain, buffer) => {
      const index = this.#count++;
      const stored = sealer.store(plain, () => pool.release(buffer));
      const told = stored.then(segment => line.call('stored', { ...segment, item, index }));
      this.#storing.add(told);
      told.then(() => this.#storing.delete(told), failure.reject);
      return stored;
    });
  }

  /** Waits until all are stored and told. @returns how many there are. */
  async close(): Promise<number> {
    this.cutter.close();
    await Promise.all(this.#storing);
    return this.#count;
  }

  /** Waits until none is under way any more. @throws what storing has failed with. */
  async abandon(): Promise<void> {
    this.cutter.abandon();
    // Those that have failed are still among them.
    const ended = await Promise.allSettled(this.#storing);
    for (const end of ended) if (end.status === 'rejected') throw end.reason;
  }
}

if (parentPort === null) throw new Error('large-object-worker runs as a worker thread');
const data = workerData as LargeObjectWorkerData;
const line: ThreadLine<LargeObjectHost> = new ThreadLine<LargeObjectHost>(parentPort, {
  run: () => readInSnapshot(data, wire => new Reader(data, line, wire)),
});
