// Lists the backups of a repository, and of its replica if asked, from what can be read of them without a key.
import { PgkeepError } from '../base/errors.ts';
import { forEachAtOnce } from '../base/for-each-at-once.ts';
import { backupLockedUntil, mayHoldLocks } from '../repository/backup-lock.ts';
import type { BackupMetadata } from '../repository/metadata.ts';
import { readAllMetadata } from '../repository/repository.ts';
import { readVerifications, type VerificationRecord } from '../repository/verification.ts';
import { openStorageToRead } from '../storage/open-storage.ts';
import type { StorageOptions } from '../storage/storage-options.ts';
import type { RunOptions } from './events.ts';
import { requireInteger } from './option-check.ts';

export interface ListBackupsOptions extends RunOptions {
  repository: string;
  /** How the storage is reached, where the address alone does not say it. */
  storage?: StorageOptions | undefined;
  /** A second repository: its backups are listed too. */
  replica?: string | undefined;
  /** How the replica's storage is reached. */
  replicaStorage?: StorageOptions | undefined;
  database?: string | undefined;
  /** Every tag must be on the backup. */
  tags?: readonly string[];
  /** Only backups taken at or after this time. */
  since?: Date | undefined;
  limit?: number | undefined;
}

export interface ListedBackup extends BackupMetadata {
  /** What its last verification found; `null` when there was none, or it was one of another manifest. */
  verified: VerificationSummary | null;
  /** Until when nobody can delete it, ISO 8601; `null` when nothing keeps it. */
  lockedUntil: string | null;
  inRepository: boolean;
  /** `null` when no replica was asked for, or it could not be listed. */
  inReplica: boolean | null;
}

export type VerificationSummary = Pick<
  VerificationRecord,
  'level' | 'valid' | 'sample' | 'lastFull' | 'errorCount' | 'verifiedAt'
>;

/**
 * The backups that meet every condition, newest first; each once, wherever it is. Those whose metadata are damaged are told as
 * warnings, and so is a replica that cannot be listed.
 * @throws PgkeepError REPOSITORY_NOT_FOUND, STORAGE_UNREACHABLE of the repository itself.
 */
export async function listBackups(options: ListBackupsOptions): Promise<ListedBackup[]> {
  requireInteger('limit', options.limit, { min: 1, max: Number.MAX_SAFE_INTEGER });
  const here = await listPlace(options.repository, options.storage, options);
  const there = await listReplica(options);
  const listed = new Map(here.map(backup => [backup.metadata.id, { ...backup, inRepository: true }]));
  for (const backup of there ?? []) {
    const { id } = backup.metadata;
    if (!listed.has(id)) listed.set(id, { ...backup, inRepository: false });
  }
  const inReplica = there && new Set(there.map(({ metadata }) => metadata.id));
  return [...listed.values()]
    .map(({ metadata, verified, lockedUntil, inRepository }) => ({
      ...metadata,
      verified,
      lockedUntil,
      inRepository,
      inReplica: inReplica?.has(metadata.id) ?? null,
    }))
    .sort((a, b) => b.timestamp.localeCompare(a.timestamp) || b.id.localeCompare(a.id))
    .slice(0, options.limit);
}

interface Found {
  metadata: BackupMetadata;
  verified: VerificationSummary | null;
  lockedUntil: string | null;
}

async function listReplica(options: ListBackupsOptions): Promise<Found[] | undefined> {
  if (options.replica === undefined) return undefined;
  try {
    return await listPlace(options.replica, options.replicaStorage, options);
  } catch (error) {
    if (!(error instanceof PgkeepError) || error.code === 'INTERRUPTED') throw error;
    const message = `the replica could not be listed: ${error.message}`;
    options.onEvent?.({
      type: 'warning',
      message,
      hint:
        error.code === 'REPOSITORY_NOT_FOUND'
          ? 'pgkeep replicate makes it'
          : (error.hint ?? 'try again later'),
    });
    return undefined;
  }
}

async function listPlace(
  place: string,
  storageOptions: StorageOptions | undefined,
  { database, tags = [], since, limit, signal, onEvent }: ListBackupsOptions,
): Promise<Found[]> {
  const storage = await openStorageToRead(place, storageOptions, signal);
  try {
    const { backups, damaged } = await readAllMetadata(storage);
    const shown = backups
      .filter(metadata => database === undefined || metadata.database === database)
      .filter(metadata => tags.every(tag => metadata.tags.includes(tag)))
      .filter(metadata => since === undefined || Date.parse(metadata.timestamp) >= since.getTime())
      .slice(0, limit);
    const verified = await readVerifications(storage, new Set(shown.map(({ id }) => id)));
    for (const { id, error } of damaged) {
      const hint = `see what is left of this backup with: pgkeep verify ${id} --repository ${storage.location}`;
      onEvent?.({ type: 'warning', message: `not listed from ${storage.location}: ${error.message}`, hint });
    }
    for (const { message, hint } of verified.damaged)
      onEvent?.({ type: 'warning', message, ...(hint !== undefined && { hint }) });
    const locks = new Map<string, string>();
    await forEachAtOnce((await mayHoldLocks(storage)) ? shown : [], async ({ id }) => {
      const lockedUntil = await backupLockedUntil(storage, id);
      if (lockedUntil !== undefined) locks.set(id, lockedUntil.toISOString());
    });
    return shown.map(metadata => ({
      metadata,
      verified: summarize(verified.records.get(metadata.id), metadata),
      lockedUntil: locks.get(metadata.id) ?? null,
    }));
  } finally {
    await storage.close();
  }
}

function summarize(
  record: VerificationRecord | undefined,
  metadata: BackupMetadata,
): VerificationSummary | null {
  if (record === undefined || record.checksum !== metadata.checksum) return null;
  const { level, valid, sample, lastFull, errorCount, verifiedAt } = record;
  return { level, valid, sample, lastFull, errorCount, verifiedAt };
}
