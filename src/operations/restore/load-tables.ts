// The main thread's side of loading rows: hands out the work and fetches sealed segments for the workers.
import { Handover } from '../../base/thread-calls.ts';
import type { DatabaseTarget } from '../../postgres/target.ts';
import type { Repository } from '../../repository/repository.ts';
import { toThread } from '../thread-target.ts';
import { runWorkers } from '../worker-pool.ts';
import type { LoadTask } from './load-plan.ts';
import type { LoadHost, LoadWorkerData, ThreadSegment } from './load-worker.ts';

export interface LoadTablesOptions {
  target: DatabaseTarget;
  applicationName: string;
  repository: Repository;
  items: LoadTask[][];
  jobs: number;
  signal: AbortSignal | undefined;
  onProgress: (doneBytes: number, rows: number) => void;
}

/** @throws PgkeepError what the server, the storage or the backup failed with; the workers have ended by then. */
export async function loadTables(options: LoadTablesOptions): Promise<void> {
  const waiting = [...options.items].reverse();
  let doneBytes = 0;
  let doneRows = 0;
  const host: LoadHost = {
    next: () => waiting.pop(),
    fetch: async id => {
      const { object, key } = await options.repository.fetchSegment(id);
      // A pooled buffer cannot be handed over: its memory is shared.
      const own =
        object.byteLength === object.buffer.byteLength ? object : Buffer.from(new Uint8Array(object));
      return new Handover<ThreadSegment>({ object: own, key }, [own.buffer as ArrayBuffer]);
    },
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
