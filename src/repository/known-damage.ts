// Which backups are known not to be whole, as far as that can be told without a key: no other backup goes for their sake.
import type { Storage } from '../storage/storage.ts';
import { manifestPrefix } from './layout.ts';
import type { BackupMetadata } from './metadata.ts';
import { idsIn } from './named-objects.ts';
import { type VerificationRecord, wasFoundDamaged } from './verification.ts';

/**
 * The ids of those whose last verification failed, or that have no manifest.
 * @param backups read before this is called: a manifest is stored before its metadata.
 */
export async function findKnownDamage(
  storage: Storage,
  backups: readonly BackupMetadata[],
  records: ReadonlyMap<string, VerificationRecord>,
): Promise<Set<string>> {
  const manifests = new Set(await idsIn(storage, manifestPrefix, '.backup'));
  const damaged = backups.filter(
    metadata => !manifests.has(metadata.id) || wasFoundDamaged(records.get(metadata.id), metadata),
  );
  return new Set(damaged.map(({ id }) => id));
}
