// A worker thread of verify and replicate: opens the sealed segments that the main thread has fetched, and counts what is
// in them.
import { parentPort, workerData } from 'node:worker_threads';
import { type ErrorData, errorToData, PgkeepError } from '../../base/errors.ts';
import { freeBuffer } from '../../base/free-buffer.ts';
import { ThreadLine } from '../../base/thread-calls.ts';
import { openSegment } from '../../repository/segment.ts';
import { asBuffer, type ThreadSegment, takeOver } from '../thread-segment.ts';
import { type CountedSlice, countLines } from './count-lines.ts';
import { type CountedList, countNumbers } from './count-numbers.ts';

export interface SegmentWorkerData {
  secret: Uint8Array;
}

/** A part of a segment's plain bytes. */
export interface SlicePlace {
  offset: number;
  bytes: number;
}

export interface SegmentTask extends ThreadSegment {
  id: string;
  /** Parts that are row text, and those that are number lists. */
  slices: SlicePlace[];
  lists: SlicePlace[];
  /** The sealed segment is wanted back. */
  isReturned: boolean;
}

export interface CheckedSegment {
  id: string;
  storedBytes: number;
  plainBytes: number;
  /** In the order of the task's slices. */
  counts: CountedSlice[];
  /** In the order of the task's lists. */
  lists: (CountedList[] | null)[];
  /** Why it is none. */
  error?: ErrorData;
  /** As it was handed over, if it is whole and wanted back. */
  object?: Uint8Array;
}

/** What the main thread answers. */
export type SegmentHost = {
  next(nothing: null): Promise<unknown>;
  checked(result: CheckedSegment): void;
};

function check(task: SegmentTask, secret: Buffer): CheckedSegment {
  const { id, isReturned } = task;
  const { object, key } = takeOver(task);
  const storedBytes = object.length;
  let isKept = false;
  try {
    const plain = openSegment(id, object, key, secret);
    const part = ({ offset, bytes }: SlicePlace) => plain.subarray(offset, offset + bytes);
    const counts = task.slices.map(place => countLines(part(place)));
    const lists = task.lists.map(place => countNumbers(part(place)));
    const plainBytes = plain.length;
    if (plain.buffer !== object.buffer) freeBuffer(plain);
    isKept = isReturned;
    return { id, storedBytes, plainBytes, counts, lists, ...(isKept && { object }) };
  } catch (error) {
    if (!(error instanceof PgkeepError)) throw error;
    return { id, storedBytes, plainBytes: 0, counts: [], lists: [], error: errorToData(error) };
  } finally {
    if (!isKept) freeBuffer(object);
  }
}

if (parentPort === null) throw new Error('segment-worker runs as a worker thread');
const { secret } = workerData as SegmentWorkerData;
const line: ThreadLine<SegmentHost> = new ThreadLine<SegmentHost>(parentPort, {
  run: async () => {
    for (let task = (await line.call('next', null)) as SegmentTask | undefined; task !== undefined; ) {
      // Fetched while this one is opened.
      const ahead = line.call('next', null);
      ahead.catch(() => undefined);
      const checked = check(task, asBuffer(secret));
      await line.call('checked', checked, checked.object ? [checked.object.buffer as ArrayBuffer] : []);
      task = (await ahead) as SegmentTask | undefined;
    }
  },
});
