// A process that takes a backup, or does a shard's part of one, and kills itself (SIGKILL) at a chosen object: just
// before it would be stored, or just after it was. The argument is a DyingCreate as JSON.

import { type CreateBackupOptions, createBackup } from '../../src/operations/create-backup.ts';
import { type JoinBackupOptions, joinBackup } from '../../src/operations/join-backup.ts';
import { LocalStorage } from '../../src/storage/local/local-storage.ts';

export interface DyingCreate {
  options: Pick<
    CreateBackupOptions,
    'database' | 'repository' | 'encryptionKey' | 'programs' | 'jobs' | 'shards' | 'join'
  >;
  /** Which part to do of the backup that another process makes. */
  part?: Pick<JoinBackupOptions, 'shard' | 'shards' | 'join'>;
  /** The beginning of the object's name. */
  name: string;
  when: 'before' | 'after';
  /** At the how many-th object of that name that is about to be stored, or has been; 1 is the first. */
  nth: number;
}

const { options, part, name, when, nth } = JSON.parse(process.argv[2] ?? '{}') as DyingCreate;
let met = 0;
const put = LocalStorage.prototype.put;
LocalStorage.prototype.put = async function (this: LocalStorage, ...args: Parameters<typeof put>) {
  // Several are on their way at once: of those that have been stored, so many are there.
  const isHere = (moment: DyingCreate['when']) =>
    when === moment && args[0].startsWith(name) && ++met === nth;
  if (isHere('before')) process.kill(process.pid, 'SIGKILL');
  const outcome = await put.apply(this, args);
  if (isHere('after')) process.kill(process.pid, 'SIGKILL');
  return outcome;
};
const environment = { PATH: process.env.PATH };
if (part === undefined) await createBackup({ ...options, environment });
else await joinBackup({ ...options, ...part, environment });
