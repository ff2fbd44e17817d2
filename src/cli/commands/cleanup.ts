// pgkeep cleanup: what goes, what stays, and why. The list is the result, on stdout; the summary goes to stderr.
import { type ErrorData, errorFromData } from '../../base/errors.ts';
import { formatBytes, formatDuration, formatQuantity } from '../../base/units.ts';
import {
  type CleanedBackup,
  type CleanupRepositoryResult,
  cleanupRepository,
} from '../../operations/cleanup-repository.ts';
import type { GarbageCounts } from '../../repository/garbage-collection.ts';
import { readEncryptionKey } from '../encryption-key.ts';
import { printJson } from '../output/json.ts';
import { startProgress } from '../output/progress.ts';
import { serverColumn, stateText } from '../output/series.ts';
import { type Style, styleFor } from '../output/style.ts';
import { type Column, renderTable } from '../output/table.ts';
import { formatTime } from '../output/time.ts';
import { storageOptions } from '../storage-options.ts';
import { FailureAfterResult, type Invocation } from './command.ts';

export async function run(invocation: Invocation<'cleanup'>): Promise<void> {
  const { options, io, signal } = invocation;
  const encryptionKey = readEncryptionKey(invocation);
  const progress = await startProgress(options.quiet, io);
  try {
    const result = await cleanupRepository({
      repository: options.repository,
      storage: storageOptions(options),
      encryptionKey,
      keepDays: options.keepDays,
      keepLast: options.keepLast,
      graceMs: options.graceMs,
      dryRun: options.dryRun,
      signal,
      onEvent: progress.onEvent,
    });
    progress.stop();
    progress.warn(result.warnings);
    if (options.json) printJson(result, io);
    else if (result.backups.length > 0 && !options.quiet) {
      io.stdout.write(cleanedText(result, await styleFor(io.stdout, io)));
    }
    if (!options.quiet) io.stderr.write(summaryText(result, await styleFor(io.stderr, io)));
    const [problem] = result.problems;
    if (problem !== undefined) {
      throw new FailureAfterResult(errorFromData({ ...problem, hint: mendingHint(problem) }));
    }
  } finally {
    progress.stop();
  }
}

/** Segments alone can be made again from the database. */
export function mendingHint({ message }: ErrorData): string {
  const mend = message.startsWith('segments/')
    ? 'run pgkeep verify --all --repair and then pgkeep create, which stores it afresh if the database still holds the same rows'
    : 'get it from a copy of the repository';
  return `${mend}; or give the backup up with pgkeep delete`;
}

export function cleanedText({ backups, dryRun }: CleanupRepositoryResult, style: Style): string {
  const columns = [fateColumn(dryRun), ...whichColumns, serverColumn(backups), ...whyColumns];
  return renderTable(columns, backups, style);
}

function fateColumn(dryRun: boolean): Column<CleanedBackup> {
  return {
    title: '',
    text: backup => (backup.stays ? 'stays' : dryRun ? 'would go' : 'deleted'),
  };
}

const whichColumns: readonly Column<CleanedBackup>[] = [
  { title: 'ID', text: backup => backup.id },
  {
    title: 'TAKEN (UTC)',
    text: backup => (backup.timestamp === null ? '' : formatTime(backup.timestamp)),
  },
  { title: 'DATABASE', text: backup => backup.database ?? '' },
];

const whyColumns: readonly Column<CleanedBackup>[] = [
  { title: 'STATE', text: stateText },
  { title: 'WHY', text: backup => backup.reason },
];

/** What people read at the end of a cleanup. */
export function summaryText(result: CleanupRepositoryResult, style: Style): string {
  const going = result.backups.filter(backup => !backup.stays).length;
  const verb = result.dryRun ? 'would delete' : 'deleted';
  const lines = [
    `${style.green(verb)} ${formatQuantity(going, 'backup')} of ${formatQuantity(result.backups.length, 'backup')}, ` +
      `and ${objectsText(result.deleted)} that no backup needed, in ${formatDuration(result.durationMs)}`,
    `waiting until the grace is over: ${objectsText(result.candidates)}`,
  ];
  const { until, ...locked } = result.locked;
  if (until !== null)
    lines.push(
      `kept until ${formatTime(until)} UTC at the latest, as they are locked: ${objectsText(locked)}`,
    );
  if (result.problems.length > 0) {
    lines.push(
      `${style.red('left alone')} because of ${formatQuantity(result.problems.length, 'problem')}:`,
      ...result.problems.map(problem => `  ${problem.message} [${problem.code}]`),
    );
  }
  return lines.map(line => `${line}\n`).join('');
}

function objectsText({ segments, keys, manifests, verified, bytes }: GarbageCounts): string {
  const parts = [
    formatQuantity(segments, 'segment'),
    ...(keys > 0 ? [formatQuantity(keys, 'key')] : []),
    ...(manifests > 0 ? [formatQuantity(manifests, 'unfinished backup')] : []),
    ...(verified > 0 ? [formatQuantity(verified, 'verification')] : []),
  ];
  return `${parts.join(', ')} (${formatBytes(bytes)})`;
}
