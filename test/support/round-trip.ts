// Backs up a database into a repository of its own and restores it: the two steps every round-trip test begins with.
import {
  type CreateBackupOptions,
  type CreateBackupResult,
  createBackup,
} from '../../src/operations/create-backup.ts';
import {
  type RestoreBackupOptions,
  type RestoreBackupResult,
  restoreBackup,
} from '../../src/operations/restore-backup.ts';
import type { Server } from './postgres-server.ts';

/** The key of every repository that a test makes. */
export const testKey = '00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff';

/** Without variables of the machine the tests run on, only the server's own programs are found. */
function surroundings(server: Server) {
  return { environment: { PATH: process.env.PATH }, programs: server.binDir, encryptionKey: testKey };
}

export function backUp(
  server: Server,
  database: string,
  repository: string,
  options: Partial<CreateBackupOptions> = {},
): Promise<CreateBackupResult> {
  return createBackup({ ...surroundings(server), database: server.url(database), repository, ...options });
}

export function restoreInto(
  server: Server,
  database: string,
  repository: string,
  options: Partial<RestoreBackupOptions> = {},
): Promise<RestoreBackupResult> {
  return restoreBackup({
    ...surroundings(server),
    to: server.url(database),
    repository,
    backup: 'latest',
    ...options,
  });
}
