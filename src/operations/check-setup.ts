// Looks at everything a backup needs, and says what is in order and what mends the rest. Changes nothing: an object it
// writes to try the storage is removed again. Never stops at the first failure, and ends in bounded time.
import { throwIfAborted } from '../base/errors.ts';
import type { Environment } from '../postgres/target.ts';
import { openStorage } from '../storage/open-storage.ts';
import type { StorageOptions } from '../storage/storage-options.ts';
import { checkDatabase } from './check-setup/database.ts';
import { checkRepository } from './check-setup/repository.ts';
import { checkFiles, checkNode, checkPrograms, type SetupFile } from './check-setup/surroundings.ts';
import { type Check, Checklist, type CheckReport, type CheckStatus } from './checklist.ts';
import type { RunOptions } from './events.ts';
import { jobsLimits, maxLoadLimits, requireInteger } from './option-check.ts';

export type { Check, CheckStatus, SetupFile };

export interface CheckSetupOptions extends Pick<RunOptions, 'signal'> {
  /** A postgres:// URL. Without it libpq's PG* variables of `environment` are used. */
  database?: string | undefined;
  environment?: Environment;
  repository: string;
  /** How the storage is reached, where the address alone does not say it. */
  storage?: StorageOptions | undefined;
  /** 64 hexadecimal digits, or how to find them. */
  encryptionKey?: string | (() => string | undefined) | undefined;
  /** `false`: a new repository would not be encrypted. */
  encryption?: boolean | undefined;
  /** As create would be told. Default 2. */
  jobs?: number;
  /** As create would be told: the check `load` is done only with it. */
  maxLoad?: number | undefined;
  /** A folder with PostgreSQL's client programs. */
  programs?: string | undefined;
  /** Files whose permissions are looked at, if they exist. */
  files?: readonly SetupFile[];
}

export type CheckSetupResult = CheckReport;

const defaultJobs = 2;

/**
 * Checks the setup; what it finds is the result, never an error.
 * @throws PgkeepError INTERRUPTED; OPTION_INVALID for a number of jobs, or of sessions, that cannot be.
 */
export async function checkSetup(options: CheckSetupOptions): Promise<CheckSetupResult> {
  requireInteger('jobs', options.jobs, jobsLimits);
  requireInteger('maxLoad', options.maxLoad, maxLoadLimits);
  const environment = options.environment ?? process.env;
  const list = new Checklist();
  checkNode(list);
  await checkFiles(list, options.files ?? []);
  await checkPrograms(list, options.programs, environment);
  throwIfAborted(options.signal);
  const database = await checkDatabase(list, {
    database: options.database,
    environment,
    programs: options.programs,
    jobs: options.jobs ?? defaultJobs,
    maxLoad: options.maxLoad,
    signal: options.signal,
  });
  throwIfAborted(options.signal);
  const { encryptionKey } = options;
  await checkRepository(list, {
    open: () => openStorage(options.repository, options.storage, options.signal),
    readKey: typeof encryptionKey === 'function' ? encryptionKey : () => encryptionKey,
    encryption: options.encryption,
    database,
  });
  throwIfAborted(options.signal);
  return list.report();
}
