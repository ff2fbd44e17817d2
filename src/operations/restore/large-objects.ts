// Restores large objects: what pg_restore prints of their definitions and privileges is run many statements at a time, and
// workers write the contents, straight from the segments of the archive (docs/decisions/large-objects.md).
import { PgkeepError, throwIfAborted } from '../../base/errors.ts';
import { ArchiveScan, type LargeObjectEntries } from '../../postgres/archive-scan.ts';
import { statementsOf } from '../../postgres/archive-script.ts';
import type { Program } from '../../postgres/programs.ts';
import { statementBatches } from '../../postgres/statement-batches.ts';
import type { DatabaseTarget } from '../../postgres/target.ts';
import { WireConnection } from '../../postgres/wire.ts';
import type { SegmentRef, Slice } from '../../repository/manifest.ts';
import type { Repository } from '../../repository/repository.ts';
import { handOver } from '../thread-segment.ts';
import { toThread } from '../thread-target.ts';
import { runWorkers } from '../worker-pool.ts';
import { ArchiveFile } from './archive-file.ts';
import type { LargeObjectLoadData, LargeObjectLoadHost } from './large-object-load-worker.ts';
import { firstPlace, type LargeObjectPlace } from './large-object-walk.ts';

export interface RestoreLargeObjectsOptions {
  target: DatabaseTarget;
  applicationName: string;
  repository: Repository;
  pgRestore: Program;
  /** Of the archive. */
  segments: readonly SegmentRef[];
  largeObjects: LargeObjectEntries;
  jobs: number;
  env: Readonly<Record<string, string>>;
  noOwner: boolean;
  noPrivileges: boolean;
  signal: AbortSignal | undefined;
  onProgress: (doneBytes: number, totalBytes: number) => void;
}

const damagedHint = { hint: 'see what is wrong with it: pgkeep verify --level data' };

/** Creates objects and sets their owners, fills them, and sets their privileges last: those may keep their owner from writing. */
export async function restoreLargeObjects(options: RestoreLargeObjectsOptions): Promise<void> {
  const { pgRestore, repository, segments, largeObjects, noPrivileges } = options;
  const scan = new ArchiveScan(true);
  await using archive = await ArchiveFile.write(
    pgRestore,
    scan.pass(repository.readSegments(segments, true)),
  );
  if (!scan.isCut)
    throw new PgkeepError(
      'RESTORE_INCOMPLETE',
      'the large objects of the backup are not where its table of contents says',
      damagedHint,
    );
  await runPrinted(options, archive, largeObjects.definitions);
  await loadContents(options, scan.passedBytes);
  if (!noPrivileges) await runPrinted(options, archive, largeObjects.privileges);
}

/** Runs what pg_restore prints of these entries. */
async function runPrinted(
  options: RestoreLargeObjectsOptions,
  archive: ArchiveFile,
  dumpIds: readonly number[],
): Promise<void> {
  if (dumpIds.length === 0) return;
  const { target, signal, env, noOwner, noPrivileges } = options;
  const wire = await WireConnection.open(target, options.applicationName);
  const onAbort = () => wire.destroy();
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    await wire.run('SET synchronous_commit = off', 'preparing the session');
    await archive.print({
      dumpIds,
      env,
      noOwner,
      noPrivileges,
      signal,
      onScript: async script => {
        // Sent ahead by one, so that the server never waits for a round trip.
        let before: Promise<unknown> = Promise.resolve();
        for await (const batch of statementBatches(statementsOf(script))) {
          const ran = wire.runAll(batch, 'latin1');
          // Awaited in its turn.
          ran.catch(() => undefined);
          await before;
          before = ran;
        }
        await before;
      },
    });
  } catch (error) {
    throwIfAborted(signal);
    throw error;
  } finally {
    signal?.removeEventListener('abort', onAbort);
    await wire.close();
  }
}

/** @param beginAt where the contents begin in the archive. */
async function loadContents(options: RestoreLargeObjectsOptions, beginAt: number): Promise<void> {
  const { repository, largeObjects } = options;
  const slices = slicesFrom(options.segments, beginAt);
  const totalBytes = slices.reduce((sum, { bytes }) => sum + bytes, 0);
  const places = new Places();
  let next = 0;
  let doneBytes = 0;
  const host: LargeObjectLoadHost = {
    next: () => {
      const index = next++;
      const slice = slices[index];
      return slice && { index, slice };
    },
    fetch: async id => handOver(await repository.fetchSegment(id), {}),
    turn: index => places.take(index),
    walked: ({ index, place }) => places.set(index + 1, place),
    done: ({ bytes }) => {
      doneBytes += bytes;
      options.onProgress(doneBytes, totalBytes);
    },
  };
  places.set(0, firstPlace);
  const workerData: LargeObjectLoadData = {
    target: toThread(options.target),
    applicationName: options.applicationName,
    secret: repository.secret,
    groups: largeObjects.groups,
  };
  await runWorkers({
    module: new URL('./large-object-load-worker', import.meta.url),
    count: Math.min(options.jobs, slices.length),
    workerData,
    plannedTables: largeObjects.groups.length,
    methods: host,
    signal: options.signal,
  });
  const { step } = await places.take(slices.length);
  if (step === 'end') return;
  throw new PgkeepError('RESTORE_INCOMPLETE', 'the backup ends among its large objects', damagedHint);
}

/** All of an archive from an offset on. */
function slicesFrom(segments: readonly SegmentRef[], beginAt: number): Slice[] {
  const slices: Slice[] = [];
  let end = 0;
  for (const segment of segments) {
    end += segment.plainBytes;
    const bytes = Math.min(end - beginAt, segment.plainBytes);
    if (bytes > 0) slices.push({ ...segment, offset: segment.plainBytes - bytes, bytes });
  }
  return slices;
}

/** Where a walk is at the beginning of each slice, for whoever waits for it. */
class Places {
  readonly #places = new Map<number, PromiseWithResolvers<LargeObjectPlace>>();

  set(index: number, place: LargeObjectPlace): void {
    this.#at(index).resolve(place);
  }

  /** Waits for it. To be asked for once. */
  async take(index: number): Promise<LargeObjectPlace> {
    const place = await this.#at(index).promise;
    this.#places.delete(index);
    return place;
  }

  #at(index: number): PromiseWithResolvers<LargeObjectPlace> {
    const there = this.#places.get(index);
    if (there !== undefined) return there;
    const place = Promise.withResolvers<LargeObjectPlace>();
    this.#places.set(index, place);
    return place;
  }
}
