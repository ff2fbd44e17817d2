// Deletes one backup, whatever its age. Needs no key: what only it needed is collected by cleanups.
import { PgkeepError } from '../base/errors.ts';
import { isBackupId } from '../repository/backup-id.ts';
import { findKnownDamage } from '../repository/known-damage.ts';
import { metadataName } from '../repository/layout.ts';
import { lastGood, removeBackup, requireUnlocked } from '../repository/remove-backup.ts';
import { readAllMetadata } from '../repository/repository.ts';
import { standsFor } from '../repository/series.ts';
import { readVerifications } from '../repository/verification.ts';
import { openStorage, openStorageToRead } from '../storage/open-storage.ts';
import type { StorageOptions } from '../storage/storage-options.ts';

export interface DeleteBackupOptions {
  /** Ends requests under way; what was deleted by then is not put back. */
  signal?: AbortSignal | undefined;
  repository: string;
  /** How the storage is reached, where the address alone does not say it. */
  storage?: StorageOptions | undefined;
  /** An id; not `latest`. */
  backup: string;
  /** Deletes the last good backup of its series too, also if the others are damaged, and one whose metadata cannot be read. */
  force?: boolean;
  /** Checks everything and changes nothing. */
  dryRun?: boolean;
}

export interface DeleteBackupResult {
  repository: string;
  id: string;
  /** `null` when the metadata cannot be read. */
  database: string | null;
  timestamp: string | null;
  /** Whether no good backup stands for it then, or none that is not damaged. */
  wasLastGood: boolean;
  dryRun: boolean;
}

/** @throws PgkeepError REPOSITORY_NOT_FOUND, BACKUP_NOT_FOUND, LAST_GOOD_BACKUP, OBJECT_LOCKED, OBJECT_DAMAGED, INTERRUPTED. */
export async function deleteBackup(options: DeleteBackupOptions): Promise<DeleteBackupResult> {
  const { backup: id, force = false, dryRun = false } = options;
  if (!isBackupId(id)) {
    throw new PgkeepError('BACKUP_NOT_FOUND', `${JSON.stringify(id)} is not the id of a backup`, {
      hint: 'give an id as pgkeep list prints it',
    });
  }
  const open = options.dryRun ? openStorageToRead : openStorage;
  const storage = await open(options.repository, options.storage, options.signal);
  try {
    const { backups, damaged } = await readAllMetadata(storage);
    const problem = damaged.find(one => one.id === id)?.error;
    if (problem !== undefined && !force) {
      throw new PgkeepError('OBJECT_DAMAGED', problem.message, {
        hint: 'it may be the last good backup of its series; delete it all the same with --force',
        context: { object: metadataName(id) },
      });
    }
    const metadata = backups.find(backup => backup.id === id);
    if (metadata === undefined && problem === undefined) {
      throw new PgkeepError('BACKUP_NOT_FOUND', `${storage.location} has no backup ${id}`, {
        hint: 'see what there is with: pgkeep list',
      });
    }
    const good = backups.filter(backup => backup.complete && metadata && standsFor(backup, metadata));
    const { records } = await readVerifications(storage, new Set(good.map(backup => backup.id)));
    const knownDamage = await findKnownDamage(storage, good, records);
    // One that is damaged does not take the place of one that is not.
    const others = good
      .map(backup => backup.id)
      .filter(other => other !== id && (!knownDamage.has(other) || knownDamage.has(id)));
    const wasLastGood = metadata?.complete === true && others.length === 0;
    if (wasLastGood && !force) throw lastGood(id);
    await requireUnlocked(storage, id);
    if (!dryRun) await removeBackup(storage, id, force || metadata?.complete !== true ? [] : others);
    return {
      repository: storage.location,
      id,
      database: metadata?.database ?? null,
      timestamp: metadata?.timestamp ?? null,
      wasLastGood,
      dryRun,
    };
  } finally {
    await storage.close();
  }
}
