// Lists the backups of a repository from their public metadata; needs no key.
import type { BackupMetadata } from '../repository/metadata.ts';
import { listMetadata } from '../repository/repository.ts';
import { openStorage } from '../storage/open-storage.ts';
import type { StorageOptions } from '../storage/storage-options.ts';
import { requireInteger } from './option-check.ts';

export interface ListBackupsOptions {
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

/**
 * The backups that meet every condition, newest first.
 * @throws PgkeepError REPOSITORY_NOT_FOUND, OBJECT_DAMAGED, STORAGE_UNREACHABLE.
 */
export async function listBackups(options: ListBackupsOptions): Promise<BackupMetadata[]> {
  requireInteger('limit', options.limit, { min: 1, max: Number.MAX_SAFE_INTEGER });
  const storage = await openStorage(options.repository, options.storage);
  try {
    const { database, tags = [], since, limit } = options;
    const all = await listMetadata(storage);
    return all
      .filter(metadata => database === undefined || metadata.database === database)
      .filter(metadata => tags.every(tag => metadata.tags.includes(tag)))
      .filter(metadata => since === undefined || Date.parse(metadata.timestamp) >= since.getTime())
      .slice(0, limit);
  } finally {
    await storage.close();
  }
}
