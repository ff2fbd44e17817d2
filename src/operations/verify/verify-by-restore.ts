// Restores a backup into a scratch database and compares what arrived with what the backup holds.
import { errorTable, PgkeepError } from '../../base/errors.ts';
import { formatCount } from '../../base/units.ts';
import { archiveScript } from '../../postgres/archive-contents.ts';
import { closeClient, openClient } from '../../postgres/client.ts';
import { findPgRestore } from '../../postgres/programs.ts';
import {
  describeTarget,
  type Environment,
  localEnvironment,
  programEnvironment,
} from '../../postgres/target.ts';
import {
  invalidIndexes,
  notMeantSo,
  type Unfinished,
  unvalidatedConstraints,
} from '../../postgres/unfinished.ts';
import type { Manifest, Ranges } from '../../repository/manifest.ts';
import type { Repository } from '../../repository/repository.ts';
import type { OperationEvent } from '../events.ts';
import { type RestoreBackupOptions, restoreBackup } from '../restore-backup.ts';
import { compareTables, type TableDifference } from './compare-tables.ts';
import type { Findings } from './findings.ts';
import { openToAll, prepareScratch, type Scratch } from './scratch.ts';

export interface VerifyByRestoreOptions {
  /** How the backup is reached once more, by the restore. */
  source: Pick<RestoreBackupOptions, 'repository' | 'storage' | 'encryptionKey'>;
  repository: Repository;
  manifest: Manifest;
  /** Of each table of the manifest. */
  ranges: readonly Ranges[];
  scratch: string | undefined;
  jobs: number;
  programs: string | undefined;
  environment: Environment;
  signal: AbortSignal | undefined;
  emit: (event: OperationEvent) => void;
  warn: (message: string, hint?: string) => void;
}

/**
 * Restores and compares; the scratch database is gone when this has ended, however it ends.
 * @returns the rows compared. What is wrong with the backup is in the findings.
 * @throws PgkeepError when the restore could not be tried, for reasons that are not the backup's.
 */
export async function verifyByRestore(options: VerifyByRestoreOptions, findings: Findings): Promise<number> {
  const { manifest, emit } = options;
  emit({ type: 'phase', phase: 'scratch', detail: manifest.backup });
  await using scratch = await prepareScratch(options);
  try {
    await restore(options, scratch);
  } catch (error) {
    if (!isVerdict(error)) throw error;
    // The server lacks what the backup needs, or ran out of it.
    if (error.code === 'TARGET_UNFIT' || isServersOwn(error)) findings.isUntried = true;
    findings.add({ code: error.code, message: `the backup does not restore: ${error.message}` });
    return 0;
  }
  await openToAll(scratch.target);
  emit({ type: 'phase', phase: 'compare', detail: describeTarget(scratch.target) });
  const { rows, differences } = await compareTables({
    ...options,
    target: scratch.target,
    onProgress: done => emit({ type: 'progress', doneBytes: 0, totalBytes: 0, rows: done }),
  });
  for (const difference of differences) addDifference(difference, findings);
  await checkDefinitions(options, scratch, findings);
  return rows;
}

async function restore(options: VerifyByRestoreOptions, { target, isThrowaway }: Scratch): Promise<void> {
  await restoreBackup({
    ...options.source,
    backup: options.manifest.backup,
    environment: programEnvironment(target, options.environment),
    create: true,
    // Roles belong to a whole server, and are not ours to make on one that was given.
    createRoles: isThrowaway,
    noOwner: !isThrowaway,
    noPrivileges: !isThrowaway,
    jobs: options.jobs,
    programs: options.programs,
    ...(options.signal !== undefined && { signal: options.signal }),
    onEvent: event => {
      // Warnings are about the scratch, which nobody will use.
      if (event.type !== 'warning') options.emit(event);
    },
  });
}

/** Whether a failed restore is a result, rather than the end of everything. */
function isVerdict(error: unknown): error is PgkeepError {
  if (!(error instanceof PgkeepError)) return false;
  const codes = ['DATABASE_QUERY', 'PROGRAM_FAILED', 'RESTORE_INCOMPLETE', 'TARGET_UNFIT'];
  if (codes.includes(error.code)) return true;
  return errorTable[error.code].kind === 'repository' && !/^(STORAGE|HOST_KEY)_/.test(error.code);
}

/** Insufficient resources, an operator's intervention, a fault of the system: classes 53, 57 and 58 of SQLSTATE. */
function isServersOwn({ context }: PgkeepError): boolean {
  return typeof context.sqlstate === 'string' && /^5[378]/.test(context.sqlstate);
}

function addDifference({ tables, backupRows, databaseRows }: TableDifference, findings: Findings): void {
  const [first] = tables;
  const root = first?.loadVia ?? first;
  const what =
    backupRows === databaseRows
      ? `its ${formatCount(backupRows)} rows are not those of the backup`
      : `it has ${formatCount(databaseRows)} rows where the backup has ${formatCount(backupRows)}`;
  const problem = findings.add({
    code: 'RESTORE_INCOMPLETE',
    message: `${root?.schema}.${root?.name}, once restored, differs: ${what}`,
  });
  for (const table of tables) findings.concern(problem, table, 0);
}

async function checkDefinitions(
  options: VerifyByRestoreOptions,
  { target }: Scratch,
  findings: Findings,
): Promise<void> {
  const client = await openClient(target, { signal: options.signal });
  try {
    const constraints = await unvalidatedConstraints(client);
    if (constraints.length > 0) {
      const script = await readScript(options);
      for (const constraint of notMeantSo(constraints, script))
        addUnfinished(`the constraint ${constraint.name} is not validated`, constraint, findings);
    }
    for (const index of await invalidIndexes(client))
      addUnfinished(`the index ${index.name} is not valid`, index, findings);
  } finally {
    await closeClient(client);
  }
}

function addUnfinished(what: string, { schema, of }: Unfinished, findings: Findings): void {
  const problem = findings.add({
    code: 'RESTORE_INCOMPLETE',
    message: `${schema}.${of}, once restored, is not whole: ${what}`,
  });
  problem.tables ??= [{ schema, name: of }];
}

async function readScript(options: VerifyByRestoreOptions): Promise<string> {
  const { repository, manifest, programs, environment, signal } = options;
  const pgRestore = await findPgRestore(manifest.archive.programVersion, programs, environment);
  const archive = repository.readSegments(manifest.archive.segments);
  return await archiveScript(pgRestore.file, archive, localEnvironment(environment), signal);
}
