// The main thread's side of reading rows: answers the workers, stores what they seal, passes on the ranges.
import { PgkeepError } from '../../base/errors.ts';
import { forEachAtOnce } from '../../base/for-each-at-once.ts';
import { segmentIdIn } from '../../repository/layout.ts';
import { type RangeEntry, type Slice, slicesOf } from '../../repository/manifest.ts';
import type { SegmentStore } from '../../repository/segment-store.ts';
import { handOver } from '../thread-segment.ts';
import { runWorkers } from '../worker-pool.ts';
import type { RangeTaker } from './collected-ranges.ts';
import { type CopyPlan, type CopyTask, tasksOf } from './copy-plan.ts';
import type { CopyHost, CopyWorkerData, RangeReference } from './copy-worker.ts';
import { sealerHost } from './segment-sealer.ts';
import { type SnapshotReading, snapshotReaderData } from './snapshot-reader.ts';

export interface ReadItemsOptions extends SnapshotReading {
  plan: CopyPlan;
  /** The items to read, by number; all of them without it. */
  items?: Uint32Array;
  /** What an earlier backup has of each table of the plan that can be built on; `undefined` without such a backup. */
  earlier: readonly (EarlierTable | undefined)[] | undefined;
  /** Read everything, and compare it with what building on the earlier backup would have given. */
  isVerified: boolean;
  store: SegmentStore;
  jobs: number;
  signal: AbortSignal;
  /** What the earlier backup has of a range cannot be read: it is read from the database. */
  onUnreadable: (message: string) => void;
  /** What is there does not follow from the earlier backup: all is read again. */
  onContradiction: (error: PgkeepError) => void;
  /** After each item: bytes of tables (as on disk) and rows so far. */
  onProgress: (doneBytes: number, rows: number) => void;
}

export interface EarlierTable {
  /** The range, unless it has gone out of reach. */
  range(index: number): RangeEntry | undefined;
  xmin: string;
}

/**
 * Reads every item of the plan, or those that are asked for. What is there may not follow from the earlier backup: then all of
 * it is read again, without that. A segment of the earlier backup may turn out to be damaged or missing when ranges that consist of it
 * have been taken over already: then all is gone through again, without the ranges that need it.
 * @param begin makes what takes the ranges; once more for each reading anew, when what the one before got is void.
 * @returns who has taken the ranges; where what was read is not what building on the earlier backup would have given; and which
 * segments of that are damaged or missing.
 * @throws PgkeepError what the server, the storage or a worker failed with; the workers have ended by then.
 */
export async function readItems<T extends RangeTaker>(
  options: ReadItemsOptions,
  begin: () => T,
): Promise<{ taken: T; mismatches: string[]; damaged: ReadonlySet<string> }> {
  let damaged: ReadonlySet<string> = new Set();
  for (;;) {
    const taken = begin();
    const found = new Set(damaged);
    try {
      const mismatches = await readOnce(options, taken, damaged, found);
      if (found.size === damaged.size) return { taken, mismatches, damaged };
      damaged = found;
    } catch (error) {
      if (!(error instanceof PgkeepError) || error.code !== 'INCREMENTAL_MISMATCH') throw error;
      options.onContradiction(error);
      const again = begin();
      await readOnce({ ...options, earlier: undefined }, again, found, found);
      return { taken: again, mismatches: [error.message], damaged: found };
    }
  }
}

/**
 * @param damaged segments that no range is taken over from.
 * @param found those that turn out to be so are added.
 */
async function readOnce(
  options: ReadItemsOptions,
  taker: RangeTaker,
  damaged: ReadonlySet<string>,
  found: Set<string>,
): Promise<string[]> {
  const { plan, store, repository } = options;
  const mismatches: string[] = [];
  let doneBytes = 0;
  let rows = 0;
  const earlierRange = (table: number, range: number) => {
    const entry = options.earlier?.[table]?.range(range);
    const isDamaged = damaged.size > 0 && entry !== undefined && consistsOf(entry, damaged);
    return isDamaged ? undefined : entry;
  };
  const reference = async ({ table, range }: CopyTask): Promise<RangeReference | undefined> => {
    const entry = earlierRange(table, range);
    const xmin = options.earlier?.[table]?.xmin;
    if (entry === undefined || xmin === undefined) return undefined;
    const ids = new Set(slicesOf(entry).map(({ id }) => id));
    const isWhole = await Promise.all([...ids].map(id => store.has(id)));
    return isWhole.every(Boolean) ? { entry, xmin } : undefined;
  };
  const distrust = (id: string) => {
    store.distrust(id);
    found.add(id);
  };
  const host: CopyHost = {
    ...sealerHost(store),
    references: tasks => Promise.all(tasks.map(reference)),
    fetch: async id => handOver(await repository.fetchSegment(id), {}),
    progress: read => {
      for (const { table, rows: more } of read) {
        rows += more;
        doneBytes += (plan.tables[table]?.sizeBytes ?? 0) / (plan.tables[table]?.ranges ?? 1);
      }
      options.onProgress(doneBytes, rows);
    },
    mismatch: message => {
      mismatches.push(message);
    },
    unreadable: ({ message, object }) => {
      const id = segmentIdIn(object);
      if (id !== undefined) distrust(id);
      options.onUnreadable(message);
    },
    done: async results => {
      for (const result of results) {
        const { table, range } = result;
        const entry = result.kind === 'unread' ? earlierRange(table, range) : result.entry;
        if (entry !== undefined) await taker.take(result, await useSegments(store, entry, distrust));
      }
    },
  };
  const workers = Math.min(options.jobs, options.items?.length ?? plan.items);
  const workerData: CopyWorkerData = {
    ...snapshotReaderData(options, workers),
    plan,
    hasParent: options.earlier !== undefined,
    isVerified: options.isVerified,
    items: options.items,
  };
  if (workers > 0) {
    const ahead = lookAhead(store, earlierSegments(options, earlierRange));
    try {
      await runWorkers({
        module: new URL('./copy-worker', import.meta.url),
        count: workers,
        workerData,
        plannedTables: plan.tables.length,
        methods: host,
        signal: options.signal,
      });
    } finally {
      options.limit.end();
      await ahead.stop();
    }
  }
  return mismatches;
}

/** What the ranges of an earlier backup consist of, in the order in which ranges are read. */
function* earlierSegments(
  { plan, items }: ReadItemsOptions,
  earlierRange: (table: number, range: number) => RangeEntry | undefined,
): Iterable<string> {
  const count = items?.length ?? plan.items;
  for (let index = 0; index < count; index++) {
    for (const { table, range } of tasksOf(plan, items?.[index] ?? index)) {
      const entry = earlierRange(table, range);
      if (entry !== undefined) for (const { id } of slicesOf(entry)) yield id;
    }
  }
}

/**
 * Looks for segments before workers ask for them one range after the other: to a storage that is far away, each look is a
 * way to and fro. Those that would have to be read whole wait until they are asked for. What it fails with is told to those who ask.
 */
function lookAhead(store: SegmentStore, ids: Iterable<string>): { stop(): Promise<void> } {
  let isStopped = false;
  const wanted = function* () {
    for (const id of ids) {
      if (isStopped) return;
      if (store.isVouchedFor(id)) yield id;
    }
  };
  const ended = forEachAtOnce(wanted(), id =>
    store.has(id).then(
      () => undefined,
      () => undefined,
    ),
  );
  return {
    stop: () => {
      isStopped = true;
      return ended;
    },
  };
}

/**
 * The entry with references of this backup: those of an earlier one number their keys in another way.
 * @param onMissing told of a segment that is none any more.
 */
async function useSegments(
  store: SegmentStore,
  entry: RangeEntry,
  onMissing: (id: string) => void,
): Promise<RangeEntry> {
  const use = (slices: readonly Slice[]) =>
    Promise.all(
      slices.map(async slice => {
        const ref = await store.find(slice.id);
        if (ref === undefined) onMissing(slice.id);
        return { ...slice, ...ref };
      }),
    );
  return {
    ...entry,
    slices: await use(entry.slices),
    ...(entry.ctids && { ctids: await use(entry.ctids) }),
    ...(entry.gone && { gone: await use(entry.gone) }),
  };
}

/** Whether a range needs one of these segments. */
export function consistsOf(entry: RangeEntry, segments: ReadonlySet<string>): boolean {
  return [...slicesOf(entry)].some(({ id }) => segments.has(id));
}
