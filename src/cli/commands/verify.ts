// pgkeep verify: what is wrong with backups, on stdout; ends with an exit code of its own when anything is.
import { PgkeepError } from '../../base/errors.ts';
import { formatCount, formatDuration, formatQuantity } from '../../base/units.ts';
import type { VerificationProblem } from '../../operations/verify/findings.ts';
import {
  type VerificationResult,
  type VerifyBackupsOptions,
  type VerifyBackupsResult,
  verifyBackups,
} from '../../operations/verify-backups.ts';
import type { ConcernedTable, RangeSpan } from '../../repository/verification.ts';
import { chosenBackup } from '../backup-choice.ts';
import { readEncryptionKey } from '../encryption-key.ts';
import { printJson } from '../output/json.ts';
import { startProgress } from '../output/progress.ts';
import { type Style, styleFor } from '../output/style.ts';
import { singleLine } from '../output/table.ts';
import { storageOptions } from '../storage-options.ts';
import { FailureAfterResult, type Invocation } from './command.ts';

export async function run(invocation: Invocation<'verify'>): Promise<void> {
  const { options, argument, signal, io } = invocation;
  const backup = chosenBackup(argument, options.backupId);
  if (options.all && backup !== undefined) {
    throw new PgkeepError('OPTION_INVALID', `--all verifies every backup, and ${backup} was named beside it`);
  }
  const progress = await startProgress(options.quiet, io);
  try {
    if (backup === undefined && !options.all && !options.quiet)
      io.stderr.write('no backup was named: verifying the latest\n');
    const result = await verifyBackups({
      repository: options.repository,
      storage: storageOptions(options),
      encryptionKey: readEncryptionKey(invocation),
      backup,
      all: options.all,
      database: options.databaseName,
      level: options.level as VerifyBackupsOptions['level'],
      sample: options.sample,
      scratch: options.level === 'restore' ? options.scratch : undefined,
      repair: options.repair,
      jobs: options.jobs,
      programs: options.programs,
      environment: invocation.environment,
      signal,
      onEvent: progress.onEvent,
    });
    progress.stop();
    progress.warn(result.warnings);
    if (options.json) printJson(result, io);
    else io.stdout.write(verifiedText(result, options.quiet, await styleFor(io.stdout, io)));
    if (!result.valid) throw new FailureAfterResult(failure(result));
  } finally {
    progress.stop();
  }
}

function failure({ backups, repaired }: VerifyBackupsResult): PgkeepError {
  const failed = backups.filter(backup => !backup.valid);
  const [first] = failed;
  const message =
    failed.length === 1 && backups.length === 1
      ? `${first?.backupId} is not valid: ${formatQuantity(first?.errors.length ?? 0, 'problem')}`
      : `${formatCount(failed.length)} of ${formatQuantity(backups.length, 'backup')} are not valid`;
  const hint =
    repaired.length > 0
      ? 'make a backup now: what the database still holds is stored afresh; then verify again'
      : 'get the objects from a copy of the repository; or run verify with --repair, and then create';
  return new PgkeepError('VERIFICATION_FAILED', message, {
    hint,
    context: { backups: failed.map(backup => backup.backupId) },
  });
}

/** What people read of a verification; with `quiet` only of backups that are not valid. */
export function verifiedText(result: VerifyBackupsResult, quiet: boolean, style: Style): string {
  const shown = quiet ? result.backups.filter(backup => !backup.valid) : result.backups;
  const lines = shown.flatMap(backup => backupLines(backup, style));
  if (result.repaired.length > 0) {
    lines.push(`removed ${formatQuantity(result.repaired.length, 'damaged segment')}:`);
    lines.push(...result.repaired.map(name => `  ${name}`));
  }
  if (!quiet)
    lines.push(
      `verified ${formatQuantity(result.backups.length, 'backup')} in ${formatDuration(result.durationMs)}`,
    );
  return lines.map(line => `${line}\n`).join('');
}

function backupLines(backup: VerificationResult, style: Style): string[] {
  const of = backup.database === null ? '' : ` of ${singleLine(backup.database)}`;
  const verdict = backup.valid ? style.green('valid') : style.red('NOT VALID');
  const facts = [`level ${backup.level}`];
  if (backup.level !== 'metadata')
    facts.push(
      `${formatQuantity(backup.rowsCompared, 'row')} ${backup.level === 'data' ? 'counted' : 'compared'}`,
    );
  if (backup.sample !== null) {
    const { segments, ofSegments } = backup.sample;
    facts.push(`read ${formatCount(segments)} of ${formatQuantity(ofSegments, 'segment')}`);
  }
  if (!backup.valid) facts.push(formatQuantity(backup.errors.length, 'problem'));
  return [
    `${style.bold(backup.backupId)}${of}: ${verdict} (${facts.join(', ')})`,
    ...backup.errors.flatMap(problemLines),
  ];
}

/** Tables that are named of a problem; --json has all. */
const shownTables = 10;

function problemLines({ code, message, tables = [] }: VerificationProblem): string[] {
  const lines = [`  ${code}: ${singleLine(message)}`];
  for (const table of tables.slice(0, shownTables)) lines.push(`    ${singleLine(tableText(table))}`);
  if (tables.length > shownTables)
    lines.push(`    and ${formatCount(tables.length - shownTables)} more tables`);
  return lines;
}

function tableText({ schema, name, ranges }: ConcernedTable): string {
  const table = `table ${schema}.${name}`;
  return ranges === undefined ? table : `${table}, ${ranges.map(rangeText).join('; ')}`;
}

function rangeText({ first, last, firstPage, lastPage }: RangeSpan): string {
  const ranges = first === last ? `range ${first}` : `ranges ${first} to ${last}`;
  if (firstPage === null) return `${ranges} (all of it)`;
  return `${ranges} (pages ${firstPage} ${lastPage === null ? 'to the end' : `to ${lastPage}`})`;
}
