// The main thread's side of reading large objects: their contents become the end of the archive
// (docs/decisions/large-objects.md).
import { PgkeepError } from '../../base/errors.ts';
import { formatCount } from '../../base/units.ts';
import type { LargeObjectGroup } from '../../postgres/archive-scan.ts';
import { maxPlainBytes, type SegmentRef } from '../../repository/manifest.ts';
import { runWorkers } from '../worker-pool.ts';
import { planLargeObjects } from './large-object-plan.ts';
import type { LargeObjectHost, LargeObjectWorkerData } from './large-object-worker.ts';
import type { ReadItemsOptions } from './read-tables.ts';
import { sealerHost } from './segment-sealer.ts';
import { type SnapshotReading, snapshotReaderData } from './snapshot-reader.ts';

/** Fewer large objects that take less, pg_dump has read before a worker has started. */
const leastObjects = 500;
const leastBytes = 4 * 1024 * 1024;

/** What a manifest says of a segment of the archive takes about so much of what it may have in all; a tenth is left for all else. */
const referenceBytes = 125;
const maxReferences = (0.9 * maxPlainBytes) / referenceBytes;

export function areWorthWorkers(count: number, totalBytes: number): boolean {
  return count >= leastObjects || totalBytes >= leastBytes;
}

export interface LargeObjectOptions
  extends SnapshotReading,
    Pick<ReadItemsOptions, 'store' | 'jobs' | 'signal' | 'onProgress'> {
  groups: readonly LargeObjectGroup[];
  /** Of all of them, roughly. */
  totalBytes: number;
}

/**
 * Stores the contents of large objects as they are to follow an archive that ends in front of them.
 * @throws PgkeepError what the server, the storage or a worker failed with; the workers have ended by then.
 */
export async function storeLargeObjects(
  options: LargeObjectOptions,
): Promise<{ bytes: number; segments: SegmentRef[] }> {
  const { groups, totalBytes, store, limit } = options;
  const plan = planLargeObjects(groups, totalBytes);
  const stored: SegmentRef[][] = Array.from(plan.items, () => []);
  /** Of each item, once it was read. */
  const counts = new Uint32Array(plan.items.length);
  let references = 0;
  let doneBytes = 0;
  const host: LargeObjectHost = {
    ...sealerHost(store),
    stored: ({ item, index, ...segment }) => {
      const ofItem = stored[item] ?? [];
      // They come as they are stored. One that comes again is the same.
      if (ofItem[index] !== undefined) return;
      ofItem[index] = segment;
      if (++references > maxReferences) throw tooMany(references);
      doneBytes += segment.plainBytes;
      options.onProgress(doneBytes, 0);
    },
    done: ({ item, segments }) => {
      counts[item] = segments;
    },
  };
  const workers = Math.min(options.jobs, plan.items.length);
  const data: LargeObjectWorkerData = {
    ...snapshotReaderData(options, workers),
    plan,
  };
  try {
    await runWorkers({
      module: new URL('./large-object-worker', import.meta.url),
      count: workers,
      workerData: data,
      plannedTables: plan.groups.length,
      methods: host,
      signal: options.signal,
    });
  } finally {
    limit.end();
  }
  const segments: SegmentRef[] = [];
  for (let item = 0; item < plan.items.length; item++) {
    const count = counts[item] ?? 0;
    for (let index = 0; index < Math.max(1, count); index++) {
      const segment = index < count ? stored[item]?.[index] : undefined;
      // A hole would be large objects lost without a word.
      if (segment === undefined)
        throw new PgkeepError('INTERNAL', `item ${item} of the large objects was not read, or not all of it`);
      segments.push(segment);
    }
  }
  return { bytes: bytesOf(segments), segments };
}

function bytesOf(segments: readonly SegmentRef[]): number {
  return segments.reduce((sum, { plainBytes }) => sum + plainBytes, 0);
}

function tooMany(references: number): PgkeepError {
  return new PgkeepError(
    'OPTION_INVALID',
    `the large objects take more than ${formatCount(references)} segments, and the list of so many does not fit into the backup's manifest`,
    {
      hint: 'back up schemas, which leaves large objects out (--schema), and the large objects in another way',
    },
  );
}
