// The main thread's side of reading rows: answers the workers, stores what they seal, gathers each table's ranges.
import { freeBuffer } from '../../base/free-buffer.ts';
import type { DataKey } from '../../crypto/seal.ts';
import type { DatabaseTarget } from '../../postgres/target.ts';
import type { RangeEntry } from '../../repository/manifest.ts';
import type { SegmentStore } from '../../repository/segment-store.ts';
import { toThread } from '../thread-target.ts';
import { runWorkers } from '../worker-pool.ts';
import type { CopyPlan } from './copy-plan.ts';
import type { CopyHost, CopyWorkerData } from './copy-worker.ts';

export interface ReadTablesOptions {
  target: DatabaseTarget;
  applicationName: string;
  snapshotId: string;
  plan: CopyPlan;
  store: SegmentStore;
  secret: Buffer;
  key: DataKey | null;
  level: number;
  jobs: number;
  signal: AbortSignal;
  /** After each item: bytes of tables (as on disk) and rows so far. */
  onProgress: (doneBytes: number, rows: number) => void;
}

/**
 * Reads every item of the plan.
 * @returns the ranges of each table of the plan, in order.
 * @throws PgkeepError what the server, the storage or a worker failed with; the workers have ended by then.
 */
export async function readTables(options: ReadTablesOptions): Promise<RangeEntry[][]> {
  const { plan, store, key } = options;
  const ranges: (RangeEntry | undefined)[][] = plan.tables.map(table => new Array(table.ranges));
  let doneBytes = 0;
  let rows = 0;
  const host: CopyHost = {
    find: id => store.find(id),
    put: async ({ id, object, plainBytes }) => {
      const bytes = Buffer.from(object.buffer, object.byteOffset, object.length);
      try {
        return await store.put(id, bytes, plainBytes);
      } finally {
        freeBuffer(bytes);
      }
    },
    done: results => {
      for (const { table, range, entry } of results) {
        const entries = ranges[table];
        if (entries !== undefined) entries[range] = entry;
        rows += entry.rows;
        doneBytes += (plan.tables[table]?.sizeBytes ?? 0) / (plan.tables[table]?.ranges ?? 1);
      }
      options.onProgress(doneBytes, rows);
    },
  };
  const workerData: CopyWorkerData = {
    target: toThread(options.target),
    applicationName: options.applicationName,
    snapshotId: options.snapshotId,
    plan,
    nextItem: new SharedArrayBuffer(4),
    secret: options.secret,
    key,
    level: options.level,
  };
  const workers = Math.min(options.jobs, plan.items);
  if (workers > 0) {
    await runWorkers({
      module: new URL('./copy-worker', import.meta.url),
      count: workers,
      workerData,
      plannedTables: plan.tables.length,
      methods: host,
      signal: options.signal,
    });
  }
  // A hole would be rows lost without a word.
  return ranges.map((entries, table) => Array.from(entries, entry => entry ?? missing(plan, table)));
}

function missing(plan: CopyPlan, table: number): never {
  throw new Error(`a range of ${plan.tables[table]?.from} was not read`);
}
