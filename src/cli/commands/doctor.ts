// pgkeep doctor: is everything in place? A line for each check on stdout, and below it what mends it.
import { homedir } from 'node:os';
import { join } from 'node:path';
import { checkSetup, type SetupFile } from '../../operations/check-setup.ts';
import { readEncryptionKey } from '../encryption-key.ts';
import { configFileName } from '../options/config-file.ts';
import { printChecks } from '../output/checks.ts';
import { storageOptions } from '../storage-options.ts';
import type { Invocation } from './command.ts';

export async function run(invocation: Invocation<'doctor'>): Promise<void> {
  const { options, environment, signal, io } = invocation;
  const result = await checkSetup({
    database: options.database,
    environment,
    repository: options.repository,
    storage: storageOptions(options),
    encryptionKey: () => readEncryptionKey(invocation),
    ...(options.encryption !== undefined && { encryption: options.encryption }),
    jobs: options.jobs,
    maxLoad: options.maxLoad,
    programs: options.programs,
    files: filesInUse(invocation),
    signal,
  });
  await printChecks(result, 'pgkeep doctor', options.json, io);
}

/** Files whose permissions matter; those that are not there are passed over. */
function filesInUse({ options, environment, io }: Invocation<'doctor'>): SetupFile[] {
  const passwords = environment.PGPASSFILE || join(environment.HOME || homedir(), '.pgpass');
  return [
    { path: join(io.cwd, '.env'), holds: 'secrets' },
    { path: options.config ?? join(io.cwd, configFileName), holds: 'settings' },
    ...(options.keyFile === undefined ? [] : [{ path: options.keyFile, holds: 'secrets' as const }]),
    { path: passwords, holds: 'secrets' },
  ];
}
