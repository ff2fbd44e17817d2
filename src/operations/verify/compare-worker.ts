// A worker thread of verify at level restore: digests the rows of a backup, and those of the database restored from it.
import { parentPort, workerData } from 'node:worker_threads';
import { ThreadLine } from '../../base/thread-calls.ts';
import { WireConnection } from '../../postgres/wire.ts';
import { SegmentReader } from '../restore/segment-reader.ts';
import { type RowText, readRows } from '../row-text.ts';
import { rowTextSettings } from '../row-text-settings.ts';
import { asBuffer, type ThreadSegment, takeOver } from '../thread-segment.ts';
import { fromThread, type ThreadTarget } from '../thread-target.ts';
import { type DigestedRows, RowDigest } from './row-digest.ts';

export interface CompareWorkerData {
  target: ThreadTarget;
  applicationName: string;
  secret: Uint8Array;
}

/** Rows of one side of a group of tables. */
export type CompareTask = { group: number; order: number[] | null } & (
  | { side: 'backup'; text: RowText }
  | { side: 'database'; sql: string; of: string }
);

export interface ComparedRows extends DigestedRows {
  group: number;
  side: 'backup' | 'database';
}

/** What the main thread answers. */
export type CompareHost = {
  next(nothing: null): CompareTask[] | undefined;
  fetch(id: string): Promise<unknown>;
  done(result: ComparedRows): void;
};

async function digest(task: CompareTask, wire: WireConnection, reader: SegmentReader): Promise<DigestedRows> {
  const rows = new RowDigest(task.order);
  if (task.side === 'backup') for await (const bytes of readRows(reader, task.text)) rows.write(bytes);
  else await wire.copyOut(task.sql, `reading the restored table ${task.of}`, rows);
  return rows.digest;
}

async function run(data: CompareWorkerData, line: ThreadLine<CompareHost>): Promise<void> {
  const wire = await WireConnection.open(fromThread(data.target), data.applicationName);
  try {
    await wire.run(rowTextSettings, 'preparing the session');
    const reader = new SegmentReader({
      fetch: async id => takeOver((await line.call('fetch', id)) as ThreadSegment),
      secret: asBuffer(data.secret),
      isFreed: true,
    });
    for (let item = await line.call('next', null); item !== undefined; item = await line.call('next', null)) {
      for (const task of item) {
        const { rows, sums } = await digest(task, wire, reader);
        await line.call('done', { group: task.group, side: task.side, rows, sums });
      }
    }
  } finally {
    await wire.close();
  }
}

if (parentPort === null) throw new Error('compare-worker runs as a worker thread');
const data = workerData as CompareWorkerData;
const line: ThreadLine<CompareHost> = new ThreadLine<CompareHost>(parentPort, { run: () => run(data, line) });
