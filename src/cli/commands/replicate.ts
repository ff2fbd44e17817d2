// pgkeep replicate: copies backups to a second repository. The summary goes to stderr; stdout is for --json.
import { PgkeepError } from '../../base/errors.ts';
import { formatBytes, formatDuration, formatQuantity } from '../../base/units.ts';
import { type ReplicateBackupsResult, replicateBackups } from '../../operations/replicate-backups.ts';
import { readEncryptionKey } from '../encryption-key.ts';
import { printJson } from '../output/json.ts';
import { startProgress } from '../output/progress.ts';
import { type Style, styleFor } from '../output/style.ts';
import { storageOptions } from '../storage-options.ts';
import { FailureAfterResult, type Invocation } from './command.ts';

export async function run(invocation: Invocation<'replicate'>): Promise<void> {
  const { options, replica, io, signal } = invocation;
  const to = options.replicaTo ?? options.replica;
  if (to === undefined) {
    throw new PgkeepError('OPTION_INVALID', 'where the backups are to be copied was not said', {
      hint: 'give the second repository with --to, as in --to s3://bucket/prefix, or set BACKUP_REPLICATE_TO',
    });
  }
  const encryptionKey = readEncryptionKey(invocation);
  const progress = await startProgress(options.quiet, io);
  try {
    const result = await replicateBackups({
      repository: options.repository,
      storage: storageOptions(options),
      to,
      toStorage: storageOptions({ ...options, ...replica }),
      encryptionKey,
      backups: options.backupIds,
      all: options.replicateAll,
      tags: options.tagFilter,
      database: options.databaseName,
      jobs: options.jobs,
      dryRun: options.dryRun,
      signal,
      onEvent: progress.onEvent,
    });
    progress.stop();
    progress.warn(result.warnings);
    if (options.json) printJson(result, io);
    if (!options.quiet) io.stderr.write(replicatedText(result, await styleFor(io.stderr, io)));
    const failure = failureOf(result);
    if (failure !== undefined) throw new FailureAfterResult(failure);
  } finally {
    progress.stop();
  }
}

/** What people read at the end. */
export function replicatedText(result: ReplicateBackupsResult, style: Style): string {
  const { dryRun, to, repository, backups } = result;
  const copied = backups.filter(({ state }) => state === 'copied').length;
  const travelled = `${formatQuantity(result.objects, 'object')}, ${formatBytes(result.bytes)}`;
  const verb = style.green(dryRun ? 'would copy' : 'copied');
  const lines = [
    `${verb} ${formatQuantity(copied, 'backup')} (${travelled}) from ${repository} to ${to} in ${formatDuration(result.durationMs)}`,
  ];
  if (result.present > 0) lines.push(`${formatQuantity(result.present, 'backup')} had been there before`);
  return lines.map(line => `${line}\n`).join('');
}

/** Names each backup that was not copied, and why. */
function failureOf({ backups, to }: ReplicateBackupsResult): PgkeepError | undefined {
  const failed = backups.flatMap(({ id, error }) => (error === undefined ? [] : [{ id, error }]));
  if (failed.length === 0) return undefined;
  const lines = failed.map(({ id, error }) => `  ${id}: ${error.message} [${error.code}]`);
  const hints = [...new Set(failed.flatMap(({ error }) => error.hint ?? []))];
  return new PgkeepError(
    'REPLICA_FAILED',
    [`${formatQuantity(failed.length, 'backup')} could not be copied to ${to}:`, ...lines].join('\n'),
    { hint: [...hints, 'run again when that is mended: only what is missing travels'].join('; ') },
  );
}
