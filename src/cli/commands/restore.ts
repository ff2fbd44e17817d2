// pgkeep restore: a backup into a new or empty database. On a terminal the plan is shown and a question asked first.
import { PgkeepError } from '../../base/errors.ts';
import { formatBytes, formatDuration, formatQuantity } from '../../base/units.ts';
import { type RestoreBackupResult, restoreBackup } from '../../operations/restore-backup.ts';
import { chosenBackup } from '../backup-choice.ts';
import { confirm } from '../confirm.ts';
import { readEncryptionKey } from '../encryption-key.ts';
import { printJson } from '../output/json.ts';
import { startProgress } from '../output/progress.ts';
import { type Style, styleFor } from '../output/style.ts';
import { singleLine } from '../output/table.ts';
import { storageOptions } from '../storage-options.ts';
import type { Invocation } from './command.ts';

type OperationOptions = Parameters<typeof restoreBackup>[0];

export async function run(invocation: Invocation<'restore'>): Promise<void> {
  const { options, argument, signal, io } = invocation;
  const backup = chosenBackup(argument, options.backupId);
  if (backup === undefined) {
    throw new PgkeepError('OPTION_INVALID', 'which backup is to be restored was not said', {
      hint: 'pgkeep restore latest, or an id of `pgkeep list`',
    });
  }
  const operation: OperationOptions = {
    repository: options.repository,
    storage: storageOptions(options),
    encryptionKey: readEncryptionKey(invocation),
    backup,
    sourceDatabase: options.sourceDatabase,
    to: options.to,
    environment: invocation.environment,
    create: options.create,
    jobs: options.jobs,
    tables: options.tablePatterns,
    schemaOnly: options.definitionsOnly,
    dataOnly: options.dataOnly,
    noOwner: !options.owner,
    noPrivileges: !options.privileges,
    createRoles: options.createRoles,
    resume: options.resume,
    cleanTarget: options.cleanTarget,
    dryRun: options.dryRun,
    programs: options.programs,
    signal,
  };
  if (mustAsk(invocation)) await askWithPlan(operation, invocation);
  else if (options.cleanTarget && !options.yes && !options.dryRun) {
    throw new PgkeepError('OPTION_INVALID', '--clean-target removes things, and nobody can be asked here', {
      hint: 'add --yes; --dry-run says what would be removed',
    });
  }
  const result = await restoreWithProgress(operation, invocation);
  if (options.json) printJson(result, io);
  else if (options.dryRun) io.stdout.write(planText(result));
  if (!options.quiet && !options.dryRun) io.stderr.write(restoredText(result, await styleFor(io.stderr, io)));
}

/** Nothing of the target's own is ever overwritten: but for --clean-target, nothing needs to be asked without a terminal. */
function mustAsk({ options, io }: Invocation<'restore'>): boolean {
  return io.stdin.isTTY === true && io.stderr.isTTY === true && !options.yes && !options.dryRun;
}

async function askWithPlan(operation: OperationOptions, invocation: Invocation<'restore'>): Promise<void> {
  const plan = await restoreWithProgress({ ...operation, dryRun: true }, invocation);
  invocation.io.stderr.write(planText(plan));
  if (await confirm('Go on?', invocation.signal, invocation.io)) {
    // What was confirmed is what is done, even if a newer backup has appeared meanwhile.
    operation.backup = plan.backup;
    return;
  }
  throw new PgkeepError('INTERRUPTED', 'the restore was not confirmed, and nothing was changed');
}

async function restoreWithProgress(
  operation: OperationOptions,
  { options, io }: Invocation<'restore'>,
): Promise<RestoreBackupResult> {
  const progress = await startProgress(options.quiet, io);
  try {
    const result = await restoreBackup({ ...operation, onEvent: progress.onEvent });
    progress.stop();
    progress.warn(result.warnings);
    return result;
  } finally {
    progress.stop();
  }
}

export function planText(result: RestoreBackupResult): string {
  const title = `${result.backup} into ${result.database}:\n`;
  return title + result.plan.map((step, index) => `  ${index + 1}. ${singleLine(step)}\n`).join('');
}

/** What people read at the end of a restore. */
export function restoredText(result: RestoreBackupResult, style: Style): string {
  const rows = `${formatQuantity(result.tables, 'table')}, ${formatQuantity(result.rows, 'row')}`;
  const size = `${formatBytes(result.bytes)} in ${formatDuration(result.durationMs)}`;
  const how = result.resumed ? ' (resumed)' : '';
  return `${style.green('restored')} ${style.bold(result.backup)} into ${result.database}: ${rows}, ${size}${how}\n`;
}
