// A worker thread of restore: its own connection; takes COPYs from the main thread, opens their segments and sends
// the rows.
import { parentPort, workerData } from 'node:worker_threads';
import { ThreadLine } from '../../base/thread-calls.ts';
import { WireConnection } from '../../postgres/wire.ts';
import { asBuffer, type ThreadSegment, takeOver } from '../thread-segment.ts';
import { fromThread, type ThreadTarget } from '../thread-target.ts';
import { load, loadSettings } from './load.ts';
import type { LoadTask } from './load-plan.ts';
import { SegmentReader } from './segment-reader.ts';
import { noteLoaded } from './unfinished-restore.ts';

export interface LoadWorkerData {
  target: ThreadTarget;
  applicationName: string;
  secret: Uint8Array;
  /** Whether the target bears the mark of the restore, in which loaded ranges are noted. */
  isMarked: boolean;
}

/** What the main thread answers. */
export type LoadHost = {
  /** @param table of the item before, as its number in the plan; none at first. */
  next(table: number | undefined): LoadTask[] | undefined;
  fetch(id: string): Promise<unknown>;
  done(progress: { rows: number; bytes: number }): void;
};

async function run(data: LoadWorkerData, line: ThreadLine<LoadHost>): Promise<void> {
  const wire = await WireConnection.open(fromThread(data.target), data.applicationName);
  try {
    await wire.run(loadSettings, 'preparing the session');
    const reader = new SegmentReader({
      fetch: async id => takeOver((await line.call('fetch', id)) as ThreadSegment),
      secret: asBuffer(data.secret),
      isFreed: true,
    });
    let committed: Promise<unknown> = Promise.resolve();
    for (let item = await line.call('next', undefined); item !== undefined; ) {
      // Asked for before it is needed, so that the server never waits for the answer.
      const ahead = line.call('next', item[0]?.table);
      ahead.catch(() => undefined);
      for (const task of item) {
        // Sent ahead, as the commit of the one before was: the server answers in order.
        const begun = data.isMarked ? wire.run('BEGIN', 'beginning to load') : undefined;
        begun?.catch(() => undefined);
        await load(wire, reader, task);
        await Promise.all([begun, committed]);
        if (data.isMarked) {
          committed = wire.run(`${noteLoaded(task.ranges)}; COMMIT`, `committing rows of ${task.into}`);
          committed.catch(() => undefined);
        }
        await line.call('done', { rows: task.rows, bytes: task.bytes });
      }
      item = await ahead;
    }
    await committed;
  } finally {
    await wire.close();
  }
}

if (parentPort === null) throw new Error('load-worker runs as a worker thread');
const data = workerData as LoadWorkerData;
const line: ThreadLine<LoadHost> = new ThreadLine<LoadHost>(parentPort, { run: () => run(data, line) });
