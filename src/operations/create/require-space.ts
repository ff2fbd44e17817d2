// Whether a storage has room for a backup, as far as that can be known beforehand. What a backup adds shows only when its
// rows have been compressed and compared with what is there, also by a run that found no space left: hence warnings.
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

/** Key, definitions, manifest and metadata are new in every backup, and none of them takes less than 4 KiB on a disk. */
const everyBackupBytes = 4 * 4096;
/** Of the size of the tables. */
const firstProbably = 1 / 3;
/** How far back is looked; the first backup of all adds everything, which says nothing of the next. */
const comparedBackups = 5;

/** @throws PgkeepError STORAGE_FULL where not even a backup fits that adds no rows. */
export async function requireSpace(storage: Storage): Promise<void> {
  const freeBytes = await freeBytesOf(storage);
  if (freeBytes === undefined || freeBytes >= everyBackupBytes) return;
  const free = `only ${formatBytes(freeBytes)} are free at ${storage.location}`;
  throw new PgkeepError('STORAGE_FULL', `${free}, which is too little for any backup`, {
    hint: 'free space there, as with: pgkeep cleanup; or choose another place with --repository',
    context: { freeBytes },
  });
}

/** @returns a warning where space is likely to run out. */
export async function expectSpace(storage: Storage, expected: ExpectedBackup): Promise<string | undefined> {
  const freeBytes = await freeBytesOf(storage);
  if (freeBytes === undefined) return undefined;
  const { database, tableBytes, isFirst, earlier } = expected;
  const free = `${formatBytes(freeBytes)} are free at ${storage.location}`;
  if (isFirst) {
    const against = `and the tables of ${database} have ${formatBytes(tableBytes)}`;
    const isLikely = freeBytes < tableBytes * firstProbably;
    return isLikely ? `${free}, ${against}, of which a first backup stores about a third` : undefined;
  }
  const compared = earlier.slice(0, comparedBackups);
  if (compared.length < 2) return undefined;
  const least = Math.min(...compared.map(backup => backup.newBytes));
  const against = `and each of the last ${compared.length} backups of ${database} added ${formatBytes(least)} or more`;
  return freeBytes < least ? `${free}, ${against}` : undefined;
}

/** What cannot be told is no reason to refuse: a storage that fails will say so when it is written to. */
async function freeBytesOf(storage: Storage): Promise<number | undefined> {
  return await storage.freeBytes?.().catch(() => undefined);
}
