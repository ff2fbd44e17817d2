// A worker thread of restore, for large objects: its own connection; opens segments of the archive, walks them in turn with
// the other workers, and writes what it found into the objects, which are there already.
import { parentPort, workerData } from 'node:worker_threads';
import { PgkeepError } from '../../base/errors.ts';
import { ThreadLine } from '../../base/thread-calls.ts';
import type { LargeObjectGroup } from '../../postgres/archive-scan.ts';
import { WireConnection } from '../../postgres/wire.ts';
import type { Slice } from '../../repository/manifest.ts';
import { asBuffer, type ThreadSegment, takeOver } from '../thread-segment.ts';
import { fromThread, type ThreadTarget } from '../thread-target.ts';
import { batchPutsOf, encodedPutsBytes, encodePuts, type PutBatch, putsSql } from './large-object-puts.ts';
import { type LargeObjectPlace, LargeObjectWalk } from './large-object-walk.ts';
import { loadSettings } from './load.ts';
import { SegmentReader } from './segment-reader.ts';

export interface LargeObjectLoadData {
  target: ThreadTarget;
  applicationName: string;
  secret: Uint8Array;
  groups: readonly LargeObjectGroup[];
}

/** What the main thread answers. */
export type LargeObjectLoadHost = {
  next(nothing: null): { index: number; slice: Slice } | undefined;
  fetch(id: string): Promise<unknown>;
  /** Where the walk is at the beginning of a slice: once those before it have been walked. */
  turn(index: number): Promise<LargeObjectPlace>;
  walked(result: { index: number; place: LargeObjectPlace }): void;
  done(progress: { bytes: number }): void;
};

/** While one slice is being written, the next one is fetched, opened and walked. */
const slicesAtOnce = 2;

class Loader {
  readonly #groups: readonly LargeObjectGroup[];
  readonly #line: ThreadLine<LargeObjectLoadHost>;
  readonly #wire: WireConnection;
  readonly #reader: SegmentReader;

  constructor(data: LargeObjectLoadData, line: ThreadLine<LargeObjectLoadHost>, wire: WireConnection) {
    this.#groups = data.groups;
    this.#line = line;
    this.#wire = wire;
    this.#reader = new SegmentReader({
      fetch: async id => takeOver((await line.call('fetch', id)) as ThreadSegment),
      secret: asBuffer(data.secret),
      isFreed: true,
    });
  }

  async run(): Promise<void> {
    await this.#wire.run(loadSettings, 'preparing the session');
    await Promise.all(Array.from({ length: slicesAtOnce }, () => this.#loadSlices()));
  }

  async #loadSlices(): Promise<void> {
    const message = Buffer.allocUnsafeSlow(encodedPutsBytes);
    for (;;) {
      const item = await this.#line.call('next', null);
      if (item === undefined) return;
      for await (const bytes of this.#reader.read([item.slice])) {
        const walk = new LargeObjectWalk(this.#groups, await this.#line.call('turn', item.index));
        const found = walk.pass(bytes);
        await this.#line.call('walked', { index: item.index, place: walk.place });
        for (const batch of batchPutsOf(found)) await this.#put(batch, message);
        await this.#line.call('done', { bytes: bytes.length });
      }
    }
  }

  async #put(batch: PutBatch, message: Buffer): Promise<void> {
    const [first, last] = [batch.puts[0]?.oid, batch.puts.at(-1)?.oid];
    const which = first === last ? `object ${first}` : `objects ${first} to ${last}`;
    const rows = await this.#wire.runBound(putsSql, encodePuts(message, batch), `writing large ${which}`);
    if (Number(rows[0]?.[0]) === batch.puts.length) return;
    throw new PgkeepError('RESTORE_INCOMPLETE', `the server did not write all of large ${which}`);
  }
}

if (parentPort === null) throw new Error('large-object-load-worker runs as a worker thread');
const data = workerData as LargeObjectLoadData;
const line: ThreadLine<LargeObjectLoadHost> = new ThreadLine<LargeObjectLoadHost>(parentPort, {
  run: async () => {
    const wire = await WireConnection.open(fromThread(data.target), data.applicationName);
    try {
      await new Loader(data, line, wire).run();
    } finally {
      await wire.close();
    }
  },
});
