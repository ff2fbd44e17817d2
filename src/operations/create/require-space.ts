// Whether a storage has room for a backup, as far as that can be known beforehand. A run is refused only where it is
// clear: what a backup adds shows when it has been compressed and compared with what is there.
import { PgkeepError } from '../../base/errors.ts';
import { formatBytes } from '../../base/units.ts';
import type { BackupMetadata } from '../../repository/metadata.ts';
import type { Storage } from '../../storage/storage.ts';

export interface ExpectedBackup {
  database: string;
  /** What the tables have whose rows will be read. */
  tableBytes: number;
  /** Whether the repository has no backup of the database, whole or in part. */
  isFirst: boolean;
  /** Complete backups of the same series, newest first. */
  earlier: readonly BackupMetadata[];
}

/** Rows that compress better are not met outside of tests. */
const firstAtLeast = 1 / 100;
const firstProbably = 1 / 3;
/** How far back is looked; the first backup of all adds everything, which says nothing of the next. */
const comparedBackups = 5;
const laterAtLeast = 1 / 2;

/**
 * @returns a warning where space is likely to run out.
 * @throws PgkeepError STORAGE_FULL where it clearly does.
 */
export async function requireSpace(storage: Storage, expected: ExpectedBackup): Promise<string | undefined> {
  // What cannot be told is no reason to refuse: a storage that fails will say so when it is written to.
  const freeBytes = await storage.freeBytes?.().catch(() => undefined);
  if (freeBytes === undefined) return undefined;
  const { database, tableBytes, isFirst, earlier } = expected;
  const free = `${formatBytes(freeBytes)} are free at ${storage.location}`;
  if (isFirst) {
    const against = `and the tables of ${database} have ${formatBytes(tableBytes)}`;
    if (freeBytes < tableBytes * firstAtLeast) throw full(`only ${free}, ${against}`, freeBytes);
    const isLikely = freeBytes < tableBytes * firstProbably;
    return isLikely ? `${free}, ${against}, of which a first backup stores about a third` : undefined;
  }
  const compared = earlier.slice(0, comparedBackups);
  if (compared.length < 2) return undefined;
  const least = Math.min(...compared.map(backup => backup.newBytes));
  const against = `and each of the last ${compared.length} backups of ${database} added ${formatBytes(least)} or more`;
  if (freeBytes < least * laterAtLeast) throw full(`only ${free}, ${against}`, freeBytes);
  return freeBytes < least ? `${free}, ${against}` : undefined;
}

function full(message: string, freeBytes: number): PgkeepError {
  return new PgkeepError('STORAGE_FULL', message, {
    hint: 'free space there, as with: pgkeep cleanup; or choose another place with --repository',
    context: { freeBytes },
  });
}
