// The recovery kit: a script without dependencies that turns any backup of a repository into SQL, and a page that says
// how. It lies in the repository, so that the backups outlive pgkeep.
import { readFile } from 'node:fs/promises';
import { PgkeepError } from '../base/errors.ts';
import type { BackupLock } from '../repository/backup-lock.ts';
import { recoveryPageName, recoveryScriptName } from '../repository/layout.ts';
import { inspectRepository } from '../repository/repository.ts';
import { openStorage } from '../storage/open-storage.ts';
import { firmlyLockedUntil, type Storage } from '../storage/storage.ts';
import type { StorageOptions } from '../storage/storage-options.ts';

export interface WriteRecoveryKitOptions {
  repository: string;
  /** How the storage is reached, where the address alone does not say it. */
  storage?: StorageOptions | undefined;
  signal?: AbortSignal | undefined;
}

export interface WriteRecoveryKitResult {
  repository: string;
  objects: RecoveryObject[];
}

export interface RecoveryObject {
  name: string;
  /** `newer`: written by a newer pgkeep, and left alone. */
  state: 'written' | 'replaced' | 'current' | 'newer';
}

/** The files of this package, which is two folders up both from the source and from the build. */
const files = [
  { name: recoveryScriptName, file: new URL('../../recovery/pgkeep-recover.mjs', import.meta.url) },
  { name: recoveryPageName, file: new URL('../../recovery/README.txt', import.meta.url) },
];

/**
 * Writes the kit into a repository, or brings it up to date. Needs no key.
 * @throws PgkeepError REPOSITORY_NOT_FOUND; what the storage failed with.
 */
export async function writeRecoveryKit(options: WriteRecoveryKitOptions): Promise<WriteRecoveryKitResult> {
  const storage = await openStorage(options.repository, options.storage, options.signal);
  try {
    if ((await inspectRepository(storage)) === undefined) {
      throw new PgkeepError('REPOSITORY_NOT_FOUND', `there is no repository at ${storage.location}`, {
        hint: 'the first pgkeep create makes it, with its recovery kit',
      });
    }
    return { repository: storage.location, objects: await keepRecoveryKit(storage) };
  } finally {
    await storage.close();
  }
}

/**
 * Writes what is missing or of an older version of the kit.
 * @param lock nobody can remove the kit before then either.
 * @throws PgkeepError what the storage failed with.
 */
export async function keepRecoveryKit(storage: Storage, lock?: BackupLock): Promise<RecoveryObject[]> {
  const wanted = await Promise.all(
    files.map(async ({ name, file }) => ({ name, bytes: await readFile(file) })),
  );
  const ours = Math.max(...wanted.map(({ bytes }) => kitNumber(bytes)));
  const objects: RecoveryObject[] = [];
  for (const { name, bytes } of wanted) {
    const object = await storage.stat(name);
    const there = object === undefined ? undefined : await storage.get(name);
    const isCurrent = there?.equals(bytes) === true;
    if (there === undefined || !(isCurrent || kitNumber(there) > ours)) {
      await storage.put(name, bytes, { lockedUntil: lock?.sharedUntil });
      objects.push({ name, state: there === undefined ? 'written' : 'replaced' });
      continue;
    }
    if (lock !== undefined && (firmlyLockedUntil(object) ?? 0) < lock.until)
      await storage.locks?.extend(name, lock.sharedUntil);
    objects.push({ name, state: isCurrent ? 'current' : 'newer' });
  }
  return objects;
}

/** Each file of a kit says in its first lines which one it belongs to; 0 for one that does not. */
function kitNumber(bytes: Buffer): number {
  return Number(/pgkeep recovery kit (\d+)\b/i.exec(bytes.toString('utf8', 0, 500))?.[1] ?? 0);
}
