// The main thread's side of loading rows: hands out the work and fetches sealed segments for the workers.
import type { DatabaseTarget } from '../../postgres/target.ts';
import type { Repository } from '../../repository/repository.ts';
import { handOver } from '../thread-segment.ts';
import { toThread } from '../thread-target.ts';
import { runWorkers } from '../worker-pool.ts';
import { type PlannedLoad, toTask } from './load-plan.ts';
import { LoadQueue } from './load-queue.ts';
import type { LoadHost, LoadWorkerData } from './load-worker.ts';

export interface LoadTablesOptions {
  target: DatabaseTarget;
  applicationName: string;
  repository: Repository;
  items: PlannedLoad[][];
  jobs: number;
  /** Whether the target bears the mark of the restore, in which loaded ranges are noted. */
  isMarked: boolean;
  signal: AbortSignal | undefined;
  onProgress: (doneBytes: number, rows: number) => void;
}

/** @throws PgkeepError what the server, the storage or the backup failed with; the workers have ended by then. */
export async function loadTables(options: LoadTablesOptions): Promise<void> {
  const queue = new LoadQueue(options.items);
  let doneBytes = 0;
  let doneRows = 0;
  const host: LoadHost = {
    next: table => queue.next(table)?.map(toTask),
    fetch: async id => handOver(await options.repository.fetchSegment(id), {}),
    done: ({ rows, bytes }) => {
      doneRows += rows;
      doneBytes += bytes;
      options.onProgress(doneBytes, doneRows);
    },
  };
  const workerData: LoadWorkerData = {
    target: toThread(options.target),
    applicationName: options.applicationName,
    secret: options.repository.secret,
    isMarked: options.isMarked,
  };
  const workers = Math.min(options.jobs, options.items.length);
  if (workers > 0) {
    await runWorkers({
      module: new URL('./load-worker', import.meta.url),
      count: workers,
      workerData,
      plannedTables: 0,
      methods: host,
      signal: options.signal,
    });
  }
}
