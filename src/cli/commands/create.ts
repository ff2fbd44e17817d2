// pgkeep create: takes a backup. The summary goes to stderr; stdout is for --json.

import { PgkeepError } from '../../base/errors.ts';
import { formatBytes, formatCount, formatDuration, formatQuantity } from '../../base/units.ts';
import {
  type CreateBackupResult,
  createBackup,
  type ReplicaOutcome,
} from '../../operations/create-backup.ts';
import { type JoinBackupOptions, type JoinBackupResult, joinBackup } from '../../operations/join-backup.ts';
import { leftOutLabel } from '../../repository/manifest.ts';
import { partText } from '../../repository/series.ts';
import { lowerPriority } from '../cpu-priority.ts';
import { readEncryptionKey } from '../encryption-key.ts';
import { parseShard } from '../options/shard.ts';
import { printJson } from '../output/json.ts';
import { type Progress, startProgress } from '../output/progress.ts';
import { reportError } from '../output/report.ts';
import { type Style, styleFor } from '../output/style.ts';
import { singleLine } from '../output/table.ts';
import { formatTime } from '../output/time.ts';
import { storageOptions } from '../storage-options.ts';
import { FailureAfterResult, type Invocation } from './command.ts';

export async function run(invocation: Invocation<'create'>): Promise<void> {
  const { options, io } = invocation;
  lowerPriority(options.nice, process.platform);
  const encryptionKey = readEncryptionKey(invocation);
  const progress = await startProgress(options.quiet, io);
  const part = options.shard === undefined ? undefined : parseShard(options.shard);
  try {
    if (part !== undefined && part.shard > 0) {
      const joined = await joinBackup({ ...joinOptions(invocation, encryptionKey, progress), ...part });
      progress.stop();
      if (options.json) printJson(joined, io);
      if (!options.quiet) io.stderr.write(joinedText(joined, await styleFor(io.stderr, io)));
      return;
    }
    const shards = part?.shards ?? options.shards;
    const result = await createBackup({
      ...operationOptions(invocation, encryptionKey, progress),
      ...(shards !== undefined && { shards, join: options.join }),
      onEvent: event => {
        // The one event that scripts need: a line before the document of the result.
        if (event.type === 'shards' && options.json) io.stdout.write(`${JSON.stringify(event)}\n`);
        progress.onEvent(event);
      },
    });
    progress.stop();
    progress.warn(result.warnings);
    if (options.json) printJson(result, io);
    if (!options.quiet) {
      io.stderr.write(createdText(result, await styleFor(io.stderr, io), options.lockMode));
    }
    // All are told, and the exit code is that of the last, the gravest: a script may take a missing replica lightly.
    const { replica } = result;
    const failures: PgkeepError[] = [];
    if (replica?.error !== undefined) failures.push(replicaFailure(result, replica));
    if (!result.complete) failures.push(partialBackup(result));
    if (result.mismatches.length > 0) failures.push(mismatch(result));
    const last = failures.pop();
    for (const failure of failures) await reportError(failure, false, io);
    if (last !== undefined) throw new FailureAfterResult(last);
  } finally {
    progress.stop();
  }
}

function operationOptions(
  { options, replica, environment, signal }: Invocation<'create'>,
  encryptionKey: string | undefined,
  progress: Progress,
): Parameters<typeof createBackup>[0] {
  return {
    database: options.database,
    environment,
    repository: options.repository,
    storage: storageOptions(options),
    lockForMs: options.lockDays === undefined ? undefined : options.lockDays * dayMs,
    replicateTo: options.replicateTo ?? options.replica,
    replicaStorage: storageOptions({ ...options, ...replica }),
    encryptionKey,
    ...(options.encryption !== undefined && { encryption: options.encryption }),
    jobs: options.jobs,
    schemas: options.schemas,
    excludeSchemas: options.excludeSchemas,
    tables: options.tables,
    excludeTables: options.excludeTables,
    excludeTableData: options.excludeTableData,
    schemaOnly: options.schemaOnly,
    skipUnreadable: options.skipUnreadable,
    tags: options.tags,
    reason: options.reason,
    compressionLevel: options.compressionLevel,
    lockTimeoutMs: options.lockTimeoutMs,
    maxBlockingMs: options.maxBlockingMs,
    maxLoad: options.maxLoad,
    rolePasswords: options.rolePasswords,
    privateMetadata: options.privateMetadata,
    full: options.full,
    verifyIncremental: options.verifyIncremental,
    fullEveryMs: options.fullEveryMs,
    programs: options.programs,
    shardTimeoutMs: options.shardTimeoutMs,
    signal,
    onEvent: progress.onEvent,
  };
}

function joinOptions(
  { options, environment, signal }: Invocation<'create'>,
  encryptionKey: string | undefined,
  progress: Progress,
): Omit<JoinBackupOptions, 'shard' | 'shards'> {
  return {
    join: options.join ?? '',
    database: options.database,
    environment,
    repository: options.repository,
    storage: storageOptions(options),
    encryptionKey,
    jobs: options.jobs,
    maxLoad: options.maxLoad,
    shardTimeoutMs: options.shardTimeoutMs,
    signal,
    onEvent: progress.onEvent,
  };
}

/** What people read at the end of a part. */
export function joinedText(result: JoinBackupResult, style: Style): string {
  const { shard, shards, backup, rows, sizeBytes, durationMs, newBytes, reusedBytes } = result;
  const size = `${formatBytes(sizeBytes)} in ${formatDuration(durationMs)}`;
  return [
    `${style.green('shard')} ${shard} of ${shards} of ${style.bold(backup)}, which is stored: ${formatQuantity(rows, 'row')}, ${size}`,
    `stored ${formatBytes(newBytes)} new, reused ${formatBytes(reusedBytes)}, in ${result.repository}`,
  ]
    .map(line => `${line}\n`)
    .join('');
}

/** Says first that the backup counts. */
export function replicaFailure(
  { id, repository }: CreateBackupResult,
  { to, error }: ReplicaOutcome,
): PgkeepError {
  return new PgkeepError(
    'REPLICA_FAILED',
    `${id} is stored in ${repository}, but not in ${to}: ${error?.message} [${error?.code}]`,
    {
      hint: `${error?.hint === undefined ? '' : `${error.hint}; then `}copy it with: pgkeep replicate --to ${to}`,
    },
  );
}

/** Says that backups before this one may be wrong. */
function mismatch({ id, mismatches, incremental }: CreateBackupResult): PgkeepError {
  const lines = mismatches.slice(0, namedMissing).map(line => singleLine(`  ${line}`));
  if (mismatches.length > lines.length) lines.push(`  and ${mismatches.length - lines.length} more`);
  const text = [`${id} was read in full and is right, but does not follow from those before it:`, ...lines];
  return new PgkeepError('INCREMENTAL_MISMATCH', text.join('\n'), {
    hint: `${incremental.withoutParent ?? ''}: it and those before it may hold wrong rows; keep this one, and please report it`,
  });
}

const dayMs = 86_400_000;

/** Lines of what is missing from a backup; more are counted. */
const namedMissing = 100;

/** Names what is missing, a line each. */
export function partialBackup({ id, leftOut }: CreateBackupResult): PgkeepError {
  const missing = leftOut.filter(entry => entry.missing);
  const lines = missing
    .slice(0, namedMissing)
    .map(entry => singleLine(`  ${entry.kind} ${leftOutLabel(entry)}: ${entry.reason}`));
  if (missing.length > lines.length) lines.push(`  and ${missing.length - lines.length} more`);
  return new PgkeepError('BACKUP_PARTIAL', [`${id} is incomplete; missing from it:`, ...lines].join('\n'), {
    hint: 'grant the role what it lacks (pgkeep doctor says how) and back up again; what was stored is reused',
  });
}

/**
 * What people read at the end of a backup.
 * @param lockMode of a backup that is locked: compliance by default.
 */
export function createdText(result: CreateBackupResult, style: Style, lockMode?: string): string {
  const rows = `${formatQuantity(result.tables, 'table')}, ${formatQuantity(result.rows, 'row')}`;
  const size = `${formatBytes(result.sizeBytes)} in ${formatDuration(result.durationMs)}`;
  const sealed = result.encrypted ? 'encrypted' : 'not encrypted';
  const lines = [
    `${result.complete ? style.green('backup') : style.yellow('incomplete backup')} ${style.bold(result.id)} of ${result.database}: ${rows}, ${size}`,
    `stored ${formatBytes(result.newBytes)} new, reused ${formatBytes(result.reusedBytes)}, ${sealed}, in ${result.repository}`,
  ];
  if (result.part !== undefined) lines.push(`a part of the database: made with ${partText(result.part)}`);
  const { parent, unread, deltas } = result.incremental;
  if (parent !== null) {
    lines.push(
      `built on ${parent}: ${formatQuantity(unread.rows, 'row')} taken over unread, ${formatQuantity(deltas.rows, 'row')} as deltas`,
    );
  }
  if (result.leftOut.length > 0) {
    lines.push(
      `left out: ${formatCount(result.leftOut.length)} (pgkeep show ${result.id} says what and why)`,
    );
  }
  if (result.heldBackMs > 0) {
    lines.push(
      `held back for ${formatDuration(result.heldBackMs)}: fewer workers read while others kept the server busy`,
    );
  }
  if (result.replica?.copied) {
    lines.push(`copied ${formatBytes(result.replica.bytes)} to ${result.replica.to}`);
  }
  if (!result.globals.included) {
    lines.push(`roles were not included${result.globals.reason ? `: ${result.globals.reason}` : ''}`);
  }
  if (result.lockedUntil !== null) {
    const who = lockMode === 'governance' ? 'only those who may bypass governance locks' : 'nobody';
    lines.push(`locked: ${who} can delete it before ${formatTime(result.lockedUntil)} UTC`);
  }
  return lines.map(line => `${line}\n`).join('');
}
