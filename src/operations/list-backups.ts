// Lists the backups of a repository from what can be read of them without a key.
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
}

export type VerificationSummary = Pick<
  VerificationRecord,
  'level' | 'valid' | 'sample' | 'lastFull' | 'errorCount' | 'verifiedAt'
>;

/**
 * The backups that meet every condition, newest first. Those whose metadata are damaged are told as warnings.
 * @throws PgkeepError REPOSITORY_NOT_FOUND, STORAGE_UNREACHABLE.
 */
export async function listBackups(options: ListBackupsOptions): Promise<ListedBackup[]> {
  requireInteger('limit', options.limit, { min: 1, max: Number.MAX_SAFE_INTEGER });
  const storage = await openStorageToRead(options.repository, options.storage, options.signal);
  try {
    const { database, tags = [], since, limit, onEvent } = options;
    const { backups, damaged } = await readAllMetadata(storage);
    const shown = backups
      .filter(metadata => database === undefined || metadata.database === database)
      .filter(metadata => tags.every(tag => metadata.tags.includes(tag)))
      .filter(metadata => since === undefined || Date.parse(metadata.timestamp) >= since.getTime())
      .slice(0, limit);
    const verified = await readVerifications(storage, new Set(shown.map(({ id }) => id)));
    for (const { id, error } of damaged) {
      const hint = `see what is left of this backup with: pgkeep verify ${id}`;
      onEvent?.({ type: 'warning', message: `not listed: ${error.message}`, hint });
    }
    for (const { message, hint } of verified.damaged)
      onEvent?.({ type: 'warning', message, ...(hint !== undefined && { hint }) });
    return shown.map(metadata => ({
      ...metadata,
      verified: summarize(verified.records.get(metadata.id), metadata),
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
