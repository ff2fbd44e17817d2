// Backups that nobody can delete before a time, where the storage can lock objects: docs/decisions/object-lock.md.
import { PgkeepError } from '../base/errors.ts';
import { forEachAtOnce } from '../base/for-each-at-once.ts';
import { firmlyLockedUntil, type Storage } from '../storage/storage.ts';
import { descriptorName, keyName, manifestName, metadataName, segmentName } from './layout.ts';

export interface BackupLock {
  /** Until when the backup and all it needs is locked at least. */
  until: Date;
  /** How long what backups share is locked wherever that does not last: longer, so that it is not extended by every backup. */
  sharedUntil: Date;
}

/** What of {@link BackupLock} is added for shared objects. */
const sharedPart = 1 / 8;

/**
 * The lock of a backup that begins now.
 * @throws PgkeepError STORAGE_UNFIT when the storage cannot lock objects; STORAGE_DENIED.
 */
export async function beginLock(storage: Storage, lockForMs: number): Promise<BackupLock> {
  if (storage.locks === undefined) {
    throw new PgkeepError('STORAGE_UNFIT', `${storage.location} cannot lock objects`, {
      hint: 'leave out --lock-days, or keep backups in an S3 bucket that was made with Object Lock',
    });
  }
  const now = (await storage.locks.check()).getTime();
  return {
    until: wholeSecond(now + lockForMs),
    sharedUntil: wholeSecond(now + lockForMs * (1 + sharedPart)),
  };
}

/** Rounded up: storages may know no less. */
function wholeSecond(ms: number): Date {
  return new Date(Math.ceil(ms / 1000) * 1000);
}

/** Locks the object that every backup needs. To be called before anything is stored: it shows whether locks are kept. */
export async function lockDescriptor(storage: Storage, lock: BackupLock): Promise<void> {
  await storage.locks?.extend(descriptorName, lock.sharedUntil);
}

/**
 * Locks what a backup needs and is not locked for as long. To be called when no cleanup can take any of it any more, and
 * before the metadata are stored: a backup that exists is locked.
 * @param segments ids of those that are not locked for long enough.
 * @throws PgkeepError what the storage failed with, by the name of the object.
 */
export async function lockParts(
  storage: Storage,
  lock: BackupLock,
  backup: string,
  keys: Iterable<string>,
  segments: Iterable<string>,
): Promise<void> {
  const { locks } = storage;
  if (locks === undefined) return;
  await forEachAtOnce(segments, id => locks.extend(segmentName(id), lock.sharedUntil));
  await forEachAtOnce(keys, async id => {
    const key = await storage.stat(keyName(id));
    if ((firmlyLockedUntil(key) ?? 0) < lock.until) await locks.extend(keyName(id), lock.sharedUntil);
  });
  await locks.extend(manifestName(backup), lock.until);
}

/**
 * Whether there can be locks in the storage: not in a bucket made without them. Asked once, so that not every object is.
 * @throws PgkeepError when the storage does not answer.
 */
export async function mayHoldLocks({ locks }: Storage): Promise<boolean> {
  if (locks === undefined) return false;
  try {
    await locks.check();
    return true;
  } catch (error) {
    if (!(error instanceof PgkeepError)) throw error;
    if (error.code === 'STORAGE_UNFIT') return false;
    // Who may not see how the bucket is made may see its objects.
    if (error.code === 'STORAGE_DENIED') return true;
    throw error;
  }
}

/** Until when a backup cannot be deleted; undefined when nothing keeps it. */
export async function backupLockedUntil(storage: Storage, backup: string): Promise<Date | undefined> {
  if (storage.locks === undefined) return undefined;
  const found = await Promise.all(
    [metadataName(backup), manifestName(backup)].map(name => storage.stat(name)),
  );
  const ends = found.map(object => object?.lockedUntil?.getTime() ?? 0);
  const last = Math.max(...ends);
  return last === 0 ? undefined : new Date(last);
}
