// pgkeep export: a backup as an SQL script, on stdout or in a file. Everything else goes to stderr.
import { PgkeepError } from '../../base/errors.ts';
import { formatBytes, formatDuration, formatQuantity } from '../../base/units.ts';
import { type ExportBackupResult, exportBackup } from '../../operations/export-backup.ts';
import { chosenBackup } from '../backup-choice.ts';
import { readEncryptionKey } from '../encryption-key.ts';
import { printJson } from '../output/json.ts';
import { startProgress } from '../output/progress.ts';
import { type Style, styleFor } from '../output/style.ts';
import { storageOptions } from '../storage-options.ts';
import type { Invocation } from './command.ts';

export async function run(invocation: Invocation<'export'>): Promise<void> {
  const { options, argument, signal, io } = invocation;
  const backup = chosenBackup(argument, options.backupId);
  if (backup === undefined) {
    throw new PgkeepError('OPTION_INVALID', 'which backup is to be exported was not said', {
      hint: 'pgkeep export latest, or an id of `pgkeep list`',
    });
  }
  const file = options.scriptFile === '-' ? undefined : options.scriptFile;
  if (options.json && file === undefined) {
    throw new PgkeepError(
      'OPTION_INVALID',
      '--json needs --output <file>: without it the script is on stdout',
    );
  }
  // A script on the screen is not to be mixed with progress.
  const isOnScreen = file === undefined && io.stdout.isTTY === true;
  const progress = await startProgress(options.quiet || isOnScreen, io);
  try {
    const result = await exportBackup({
      repository: options.repository,
      storage: storageOptions(options),
      encryptionKey: readEncryptionKey(invocation),
      backup,
      sourceDatabase: options.sourceDatabase,
      output: file ?? io.stdout,
      force: options.overwrite,
      tables: options.tablePatterns,
      schemaOnly: options.definitionsOnly,
      noOwner: !options.owner,
      noPrivileges: !options.privileges,
      roles: options.scriptRoles,
      environment: invocation.environment,
      programs: options.programs,
      signal,
      onEvent: progress.onEvent,
    });
    progress.stop();
    progress.warn(result.warnings);
    if (options.json) printJson(result, io);
    if (!options.quiet) io.stderr.write(exportedText(result, await styleFor(io.stderr, io)));
  } finally {
    progress.stop();
  }
}

/** What people read at the end of an export. */
export function exportedText(result: ExportBackupResult, style: Style): string {
  const rows = `${formatQuantity(result.tables, 'table')}, ${formatQuantity(result.rows, 'row')}`;
  const size = `${formatBytes(result.bytes)} of SQL in ${formatDuration(result.durationMs)}`;
  const where = result.output === null ? '' : ` to ${result.output}`;
  return `${style.green('exported')} ${style.bold(result.backup)} of ${result.database}${where}: ${rows}, ${size}\n`;
}
