// Deletes one backup. What only it named becomes garbage, which cleanups collect.
import { PgkeepError } from '../base/errors.ts';
import { ObjectsLocked } from '../storage/objects-locked.ts';
import type { Storage } from '../storage/storage.ts';
import { backupLockedUntil } from './backup-lock.ts';
import { manifestName, metadataName, verifiedName } from './layout.ts';

/** @throws ObjectsLocked when metadata or manifest are locked: then the backup stays whole. */
export async function requireUnlocked(storage: Storage, id: string): Promise<void> {
  const lockedUntil = await backupLockedUntil(storage, id);
  if (lockedUntil !== undefined) throw new ObjectsLocked([{ name: metadataName(id), lockedUntil }]);
}

/**
 * Deletes metadata, verification and manifest, in this order: a backup without metadata does not exist.
 * @param others good backups that stand for it. When somebody deletes the last of them at the same moment, this one is
 * put back. None: it is deleted whatever happens.
 * To be called for backups that are not locked.
 * @throws PgkeepError LAST_GOOD_BACKUP; nothing when somebody deleted it meanwhile.
 */
export async function removeBackup(storage: Storage, id: string, others: readonly string[]): Promise<void> {
  const name = metadataName(id);
  const metadata = await readForRemoval(storage, name);
  if (metadata !== 'gone') {
    await storage.remove([name], { unlessLocked: true });
    if (metadata !== 'unreadable' && others.length > 0 && !(await isAnyThere(storage, others))) {
      await storage.put(name, metadata, { ifAbsent: true });
      throw lastGood(id);
    }
  }
  await storage.remove([verifiedName(id)]);
  // A replication may bring the backup back meanwhile, and what shows needs its manifest: as when orphans are collected.
  const isBack = async () => (await storage.stat(name)) !== undefined;
  if (await isBack()) return;
  const manifest = await readForRemoval(storage, manifestName(id));
  await storage.remove([manifestName(id)], { unlessLocked: true });
  if (typeof manifest !== 'string' && (await isBack())) {
    await storage.put(manifestName(id), manifest, { ifAbsent: true });
  }
}

/** What may have to be put back; what cannot be read whole is removed all the same. */
async function readForRemoval(storage: Storage, name: string): Promise<Buffer | 'gone' | 'unreadable'> {
  try {
    return await storage.get(name);
  } catch (error) {
    if (error instanceof PgkeepError && error.code === 'OBJECT_MISSING') return 'gone';
    if (error instanceof PgkeepError && error.code === 'OBJECT_DAMAGED') return 'unreadable';
    throw error;
  }
}

export function lastGood(id: string): PgkeepError {
  return new PgkeepError('LAST_GOOD_BACKUP', `${id} is the last good backup of its series`, {
    hint: 'nothing else stands for it: make another one of the same server and with the same options first, or verify the others again if they were found damaged; or pass --force to pgkeep delete',
  });
}

async function isAnyThere(storage: Storage, backups: readonly string[]): Promise<boolean> {
  for (const id of backups) if ((await storage.stat(metadataName(id))) !== undefined) return true;
  return false;
}
