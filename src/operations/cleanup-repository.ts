// Deletes the backups that no rule of retention keeps, and what no backup needs any more.
import { type ErrorData, errorToData, type PgkeepError, throwIfAborted } from '../base/errors.ts';
import { backupLockedUntil } from '../repository/backup-lock.ts';
import { storageNow } from '../repository/garbage.ts';
import { collectGarbage, type GarbageCounts } from '../repository/garbage-collection.ts';
import { findKnownDamage } from '../repository/known-damage.ts';
import { removeBackup } from '../repository/remove-backup.ts';
import { Repository, readAllMetadata } from '../repository/repository.ts';
import { applyRetention, type RetentionDecision } from '../repository/retention.ts';
import { type Part, seriesOf } from '../repository/series.ts';
import { countsAsVerified, readVerifications } from '../repository/verification.ts';
import { openStorage, openStorageToRead } from '../storage/open-storage.ts';
import type { Storage } from '../storage/storage.ts';
import type { StorageOptions } from '../storage/storage-options.ts';
import { type RunOptions, Teller } from './events.ts';
import { durationLimits, requireInteger } from './option-check.ts';

export interface CleanupRepositoryOptions extends RunOptions {
  repository: string;
  /** How the storage is reached, where the address alone does not say it. */
  storage?: StorageOptions | undefined;
  /** 64 hexadecimal digits; what backups need is written in their manifests. */
  encryptionKey?: string | undefined;
  /** Backups at most so many days older than the newest good one of their database stay; whole ones, than the newest whole. Default 30. */
  keepDays?: number | undefined;
  /** So many of the newest good ones of each series stay, however old. Default 0: no such rule. */
  keepLast?: number | undefined;
  /** How long what nothing needs is kept after it was first found. Longer than any backup takes. Default 24 hours. */
  graceMs?: number | undefined;
  /** Changes nothing. Judges by this machine's clock, since learning the storage's takes writing. */
  dryRun?: boolean;
}

export interface CleanedBackup {
  id: string;
  /** `null` when the metadata cannot be read. */
  database: string | null;
  /** The system identifier of its server. */
  server: string | null;
  /** Missing when it is whole. */
  part?: Part;
  timestamp: string | null;
  complete: boolean | null;
  stays: boolean;
  /** Why it stays or goes. */
  reason: string;
  /** Of a backup that stays for this reason alone: when its lock ends. ISO 8601. */
  lockedUntil?: string;
}

export interface CleanupRepositoryResult {
  repository: string;
  dryRun: boolean;
  /** Every backup there was, database by database, newest first. */
  backups: CleanedBackup[];
  /** Objects that nothing named and whose grace is over; with `dryRun` what would be deleted. */
  deleted: GarbageCounts;
  /** Objects that would be deleted if nobody were kept from it, and when the last of their locks ends. ISO 8601. */
  locked: GarbageCounts & { until: string | null };
  /** Objects that nothing names, and that a cleanup deletes once the grace is over. */
  candidates: GarbageCounts;
  /** What kept objects from being deleted, or cannot be read. */
  problems: ErrorData[];
  durationMs: number;
  warnings: string[];
}

const defaults = { keepDays: 30, keepLast: 0, graceMs: 86_400_000 };
const countLimits = { min: 0, max: 1_000_000 };

/**
 * Cleans up. A damaged object is no failure but a problem of the result, and nothing is deleted for its sake.
 * @throws PgkeepError REPOSITORY_NOT_FOUND, KEY_MISSING, KEY_WRONG before anything is deleted; CLEANUP_CONFLICT when
 * another cleanup took over; INTERRUPTED on abort. What was not deleted by then is by a later cleanup.
 */
export async function cleanupRepository(options: CleanupRepositoryOptions): Promise<CleanupRepositoryResult> {
  requireInteger('keepDays', options.keepDays, countLimits);
  requireInteger('keepLast', options.keepLast, countLimits);
  requireInteger('graceMs', options.graceMs, durationLimits);
  const open = options.dryRun ? openStorageToRead : openStorage;
  const storage = await open(options.repository, options.storage, options.signal);
  try {
    return await cleanUp(storage, options);
  } finally {
    await storage.close();
  }
}

async function cleanUp(
  storage: Storage,
  options: CleanupRepositoryOptions,
): Promise<CleanupRepositoryResult> {
  const startedAt = Date.now();
  const { graceMs = defaults.graceMs, dryRun = false, signal } = options;
  const repository = await Repository.open(storage, options.encryptionKey);
  const teller = new Teller(options);
  teller.emit({ type: 'phase', phase: 'retention' });
  const nowMs = dryRun ? startedAt : await storageNow(storage);
  const decided = await decide(storage, options, nowMs);
  for (const { message } of decided.warnings) teller.warn(message);
  const going = decided.backups.filter(backup => !backup.stays).map(backup => backup.id);
  if (!dryRun) {
    for (const id of going) {
      throwIfAborted(signal);
      await removeBackup(storage, id, decided.newestGood(id));
    }
  }
  teller.emit({ type: 'phase', phase: 'collect' });
  const without = new Set(dryRun ? going : []);
  const collected = await collectGarbage(repository, { nowMs, graceMs, dryRun, without, signal });
  for (const list of collected.busyLists) {
    teller.warn(
      `${list} was left to another cleanup`,
      'if that one was killed, a cleanup takes over once the grace has passed',
    );
  }
  return {
    repository: storage.location,
    dryRun,
    backups: decided.backups,
    deleted: collected.deleted,
    locked: { ...collected.locked, until: collected.locked.until?.toISOString() ?? null },
    candidates: collected.candidates,
    problems: [...decided.damaged, ...collected.unreadable].map(errorToData),
    durationMs: Date.now() - startedAt,
    warnings: teller.warnings,
  };
}

interface Decided {
  backups: CleanedBackup[];
  /** Metadata that cannot be read. */
  damaged: PgkeepError[];
  warnings: PgkeepError[];
  /** The newest good backup of the series that a backup is of; one that is not damaged, if there is any. */
  newestGood: (id: string) => string[];
}

async function decide(
  storage: Storage,
  { keepDays = defaults.keepDays, keepLast = defaults.keepLast }: CleanupRepositoryOptions,
  nowMs: number,
): Promise<Decided> {
  const { backups, damaged } = await readAllMetadata(storage);
  const verifications = await readVerifications(storage);
  const knownDamage = await findKnownDamage(storage, backups, verifications.records);
  const candidates = backups.map(metadata => {
    const verified = countsAsVerified(verifications.records.get(metadata.id), metadata);
    return { ...metadata, verified, damaged: knownDamage.has(metadata.id) };
  });
  const decisions = applyRetention(candidates, { keepDays, keepLast }, nowMs);
  const seriesById = new Map(decisions.map(({ backup }) => [backup.id, seriesOf(backup)]));
  const newestOf = new Map<string, (typeof candidates)[number]>();
  for (const { backup, stays } of decisions) {
    const series = seriesOf(backup);
    const before = newestOf.get(series);
    if (stays && backup.complete && (before === undefined || (before.damaged && !backup.damaged)))
      newestOf.set(series, backup);
  }
  const described: CleanedBackup[] = [];
  for (const decision of decisions) described.push(await describe(storage, decision));
  return {
    backups: [
      ...described,
      ...damaged.map(({ id, error }) => ({
        id,
        database: null,
        server: null,
        timestamp: null,
        complete: null,
        stays: true,
        reason: error.message,
      })),
    ],
    damaged: damaged.map(({ error }) => error),
    warnings: verifications.damaged,
    newestGood: id => {
      const newest = newestOf.get(seriesById.get(id) ?? '');
      return newest === undefined ? [] : [newest.id];
    },
  };
}

/** A backup that is locked stays whole, whatever the rules say. */
async function describe(
  storage: Storage,
  { backup, stays, reason }: RetentionDecision,
): Promise<CleanedBackup> {
  const { id, database, server = null, part, timestamp, complete } = backup;
  const of = { id, database, server, ...(part !== undefined && { part }), timestamp, complete };
  const lockedUntil = stays ? undefined : (await backupLockedUntil(storage, id))?.toISOString();
  if (lockedUntil === undefined) return { ...of, stays, reason };
  return { ...of, stays: true, reason: `locked until ${lockedUntil}; ${reason}`, lockedUntil };
}
