// The last steps of a run that stored or copied a backup: manifest, metadata, and after each a look at the cleanups.
import type { DataKey } from '../crypto/seal.ts';
import { type BackupLock, lockParts } from './backup-lock.ts';
import { type Needed, requireManifestStays, requireNotCollected } from './garbage.ts';
import { manifestName, metadataName } from './layout.ts';
import type { Manifest } from './manifest.ts';
import type { BackupMetadata } from './metadata.ts';
import type { Repository } from './repository.ts';
import type { SegmentStore } from './segment-store.ts';

/**
 * Stores manifest and metadata; from then on the backup exists.
 * @param summarize makes the metadata, given checksum and size of the manifest's object.
 * @param lock the backup is locked before it exists.
 * @throws PgkeepError CLEANUP_CONFLICT when a cleanup deletes something that the backup needs; it then does not exist.
 */
export async function publishBackup(
  repository: Repository,
  key: DataKey | null,
  manifest: Manifest,
  store: SegmentStore,
  summarize: (checksum: string, manifestBytes: number) => BackupMetadata,
  lock?: BackupLock,
): Promise<BackupMetadata> {
  const { storage } = repository;
  const { backup } = manifest;
  const { checksum, storedBytes } = await repository.writeManifest(manifest, key);
  try {
    const keys = new Set(manifest.keys);
    if (key !== null) keys.add(key.id);
    await requireNotCollected(repository, { backup, segments: store.used, keys });
    // Not earlier, so that a run which ends here leaves nothing locked that it did not store.
    if (lock !== undefined) await lockParts(storage, lock, backup, keys, store.lockedTooShort(lock.until));
  } catch (error) {
    // What cannot be taken back names nothing that exists, and is collected.
    await storage.remove([manifestName(backup)]).catch(() => undefined);
    throw error;
  }
  const metadata = summarize(checksum, storedBytes);
  await repository.writeMetadata(metadata, lock?.until);
  try {
    await requireManifestStays(storage, backup);
  } catch (error) {
    await storage
      .remove([metadataName(backup)])
      .then(() => storage.remove([manifestName(backup)]))
      .catch(() => undefined);
    throw error;
  }
  return metadata;
}

/**
 * The same for a backup that is copied: its sealed manifest and its metadata as they are elsewhere. Nothing is taken back but
 * metadata that came by this call, since others may be copying the same backup.
 * @returns whether it was this call by which the backup came into being.
 * @throws PgkeepError CLEANUP_CONFLICT when a cleanup deletes something that the backup needs.
 */
export async function publishCopy(
  repository: Repository,
  copy: { manifest: Buffer; metadata: Buffer },
  needed: Needed,
): Promise<boolean> {
  const { storage } = repository;
  const { backup } = needed;
  // Also where it is there, without metadata so far: it may stand in a list, and is newer than that from now on.
  await storage.put(manifestName(backup), copy.manifest);
  await requireNotCollected(repository, needed);
  if ((await storage.put(metadataName(backup), copy.metadata, { ifAbsent: true })) === 'exists') return false;
  try {
    await requireManifestStays(storage, backup);
  } catch (error) {
    await storage.remove([metadataName(backup)]).catch(() => undefined);
    throw error;
  }
  return true;
}
