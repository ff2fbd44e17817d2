// Copies backups into a second repository, a replica of the first: only what is missing there, each object opened before it
// travels, safe while either side is in use. Why: docs/decisions/replication.md.
import { type ErrorData, errorToData, PgkeepError, throwIfAborted } from '../base/errors.ts';
import { formatBytes } from '../base/units.ts';
import { isBackupId } from '../repository/backup-id.ts';
import { descriptorName, metadataPrefix } from '../repository/layout.ts';
import type { BackupMetadata } from '../repository/metadata.ts';
import { idsIn } from '../repository/named-objects.ts';
import { concernsOneBackup, openReplica, Replication } from '../repository/replication.ts';
import { findBackup, Repository, readAllMetadata } from '../repository/repository.ts';
import type { Traffic } from '../storage/counting-storage.ts';
import { type OpenedStorage, openStorage, openStorageToRead } from '../storage/open-storage.ts';
import type { Storage } from '../storage/storage.ts';
import type { StorageOptions } from '../storage/storage-options.ts';
import { type RunOptions, Teller } from './events.ts';
import { jobsLimits, requireInteger } from './option-check.ts';
import { SegmentOpener } from './replicate/segment-opener.ts';
import { keepRecoveryKit } from './write-recovery-kit.ts';

export interface ReplicateBackupsOptions extends RunOptions {
  repository: string;
  /** How the storage is reached, where the address alone does not say it. */
  storage?: StorageOptions | undefined;
  /** The replica: an empty place, or one that an earlier replication made. */
  to: string;
  /** How the replica's storage is reached. */
  toStorage?: StorageOptions | undefined;
  /** 64 hexadecimal digits; what backups need is written in their manifests. */
  encryptionKey?: string | undefined;
  /** Only these: ids, or `latest`. What one that is there already lacks is copied. Default: all that the replica does not have. */
  backups?: readonly string[];
  /** All, also those that the replica has: what these lack is copied. */
  all?: boolean;
  /** Only backups with every one of these tags. */
  tags?: readonly string[];
  /** Only backups of this database. */
  database?: string | undefined;
  /** Worker threads that open what travels. Default 2. */
  jobs?: number | undefined;
  /** Says what would travel, and writes nothing. */
  dryRun?: boolean;
}

export interface ReplicatedBackup {
  id: string;
  /** `null` when the metadata cannot be read. */
  database: string | null;
  timestamp: string | null;
  /** `copied`: it is at the replica now (with `dryRun`: would be). `present`: it was there before. */
  state: 'copied' | 'present' | 'failed';
  /** What travelled for its sake; what it shares with one before it is counted there. */
  objects: number;
  bytes: number;
  /** Why it failed. */
  error?: ErrorData;
}

export interface ReplicateBackupsResult {
  repository: string;
  to: string;
  dryRun: boolean;
  /** Those that were looked at, newest first. */
  backups: ReplicatedBackup[];
  /** How many the replica had before, of those that meet the conditions. */
  present: number;
  objects: number;
  bytes: number;
  durationMs: number;
  /** What the run asked of both storages. */
  traffic: { source: Traffic; target: Traffic };
  warnings: string[];
}

const defaultJobs = 2;
/** As many segments for each worker as a backup has under way. */
const segmentsPerJob = 4;

/**
 * Copies backups. What keeps one from being copied stands in the result, and the others are copied all the same.
 * @throws PgkeepError when nothing can be copied: REPOSITORY_NOT_FOUND, REPOSITORY_MISMATCH, KEY_MISSING, BACKUP_NOT_FOUND; when
 * a storage does not answer or is full. No half backup shows at the replica then, and the next run goes on from there.
 */
export async function replicateBackups(options: ReplicateBackupsOptions): Promise<ReplicateBackupsResult> {
  requireInteger('jobs', options.jobs, jobsLimits);
  if (options.all && options.backups !== undefined && options.backups.length > 0) {
    throw new PgkeepError('OPTION_INVALID', 'either some backups are copied, or all of them');
  }
  for (const id of options.backups ?? []) {
    if (id === 'latest' || isBackupId(id)) continue;
    throw new PgkeepError('BACKUP_NOT_FOUND', `${JSON.stringify(id)} is not the id of a backup`, {
      hint: 'give latest or an id as pgkeep list prints it',
    });
  }
  const source = await openStorageToRead(options.repository, options.storage, options.signal);
  try {
    const open = options.dryRun ? openStorageToRead : openStorage;
    const target = await open(options.to, options.toStorage, options.signal);
    try {
      return await replicate(source, target, options);
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
}

/** The same between storages that are open, and stay so. */
export async function replicate(
  source: OpenedStorage,
  target: OpenedStorage,
  options: Omit<ReplicateBackupsOptions, 'repository' | 'storage' | 'to' | 'toStorage'>,
): Promise<ReplicateBackupsResult> {
  const startedAt = Date.now();
  const { dryRun = false, jobs = defaultJobs, signal, encryptionKey } = options;
  await requireOtherPlace(source, target);
  const teller = new Teller(options);
  teller.emit({ type: 'phase', phase: 'check' });
  const repository = await Repository.open(source, encryptionKey);
  const replica = await openReplica(repository, target, encryptionKey, !dryRun);
  if (await seemsOnePlace(source, target)) {
    teller.warn(
      `${source.location} and ${target.location} hold the same backups, stored at the same times: they seem to be one place under two names`,
      'a replica must be another place; where it is one, and was copied with its times by another program, all is well',
    );
  }
  const there = new Set(replica === undefined ? [] : await idsIn(target, metadataPrefix, '.json'));
  const chosen = await choose(source, there, options, teller);
  const opener = new SegmentOpener(repository.secret, jobs, signal);
  let [doneBytes, totalBytes] = [0, 0];
  const progress = () => teller.emit({ type: 'progress', doneBytes, totalBytes, rows: 0 });
  const replication = new Replication({
    source: repository,
    target: replica,
    check: opener.check,
    atOnce: jobs * segmentsPerJob,
    onCopied: bytes => {
      doneBytes += bytes;
      progress();
    },
  });
  const { travelled } = replication;
  const copyOne = async ({ id, metadata, error }: Chosen): Promise<ReplicatedBackup> => {
    throwIfAborted(signal);
    const before = { ...travelled };
    const outcome = (state: ReplicatedBackup['state'], failure?: PgkeepError): ReplicatedBackup => ({
      id,
      database: metadata?.database ?? null,
      timestamp: metadata?.timestamp ?? null,
      state,
      objects: travelled.objects - before.objects,
      bytes: travelled.bytes - before.bytes,
      ...(failure !== undefined && { error: errorToData(failure) }),
    });
    if (error !== undefined) return outcome('failed', error);
    teller.emit({ type: 'phase', phase: 'replicate', detail: id });
    try {
      const plan = await replication.plan(id);
      [doneBytes, totalBytes] = [0, plan.missingBytes];
      progress();
      if (!dryRun) await requireRoom(target, id, plan.missingBytes);
      await (dryRun ? replication.pretend(plan) : replication.copy(plan));
      return outcome(there.has(id) ? 'present' : 'copied');
    } catch (failure) {
      throwIfAborted(signal);
      if (!concernsOneBackup(failure)) throw failure;
      return outcome('failed', failure);
    }
  };
  const backups: ReplicatedBackup[] = [];
  try {
    for (const one of chosen.backups) backups.push(await copyOne(one));
  } finally {
    await opener.close();
  }
  if (!dryRun) await keepKit(target, teller);
  return {
    repository: source.location,
    to: target.location,
    dryRun,
    backups,
    present: chosen.present,
    ...travelled,
    durationMs: Date.now() - startedAt,
    traffic: { source: { ...source.traffic }, target: { ...target.traffic } },
    warnings: teller.warnings,
  };
}

/** @throws PgkeepError OPTION_INVALID when both are one place, as far as the addresses tell. */
export async function requireOtherPlace(source: OpenedStorage, target: OpenedStorage): Promise<void> {
  if ((await source.place()) !== (await target.place())) return;
  throw new PgkeepError('OPTION_INVALID', `${target.location} is the repository itself, and no second one`, {
    hint: 'give another place for the replica',
  });
}

/** @throws PgkeepError STORAGE_FULL where it is known that there is less room than a backup still needs. */
async function requireRoom(target: Storage, id: string, missingBytes: number): Promise<void> {
  if (missingBytes === 0) return;
  // What cannot be told is no reason to refuse.
  const freeBytes = await target.freeBytes?.().catch(() => undefined);
  if (freeBytes === undefined || freeBytes >= missingBytes) return;
  throw new PgkeepError(
    'STORAGE_FULL',
    `only ${formatBytes(freeBytes)} are free at ${target.location}, and ${formatBytes(missingBytes)} of ${id} are still to be copied there`,
    {
      hint: `free space there, as with: pgkeep cleanup --repository ${target.location}; or give another place for the replica`,
      context: { freeBytes },
    },
  );
}

/** Whether descriptor and metadata are the same to the time of storing, which no copy made here has. Of folders, the place tells. */
async function seemsOnePlace(source: OpenedStorage, target: OpenedStorage): Promise<boolean> {
  const places = await Promise.all([source.place(), target.place()]);
  if (places.every(place => place.startsWith('folder '))) return false;
  const modified = async (storage: Storage) => (await storage.stat(descriptorName))?.modified.getTime();
  if ((await modified(source)) !== (await modified(target))) return false;
  const listed = async (storage: Storage) => {
    const times: string[] = [];
    for await (const { name, modified } of storage.list(metadataPrefix))
      times.push(`${name} ${modified.getTime()}`);
    return times.sort().join();
  };
  const backups = await listed(source);
  return backups !== '' && backups === (await listed(target));
}

/** A backup to copy; or why it cannot be. */
interface Chosen {
  id: string;
  metadata?: BackupMetadata;
  error?: PgkeepError;
}

async function choose(
  source: Storage,
  there: ReadonlySet<string>,
  options: Pick<ReplicateBackupsOptions, 'backups' | 'all' | 'tags' | 'database'>,
  teller: Teller,
): Promise<{ backups: Chosen[]; present: number }> {
  const { backups: wanted = [], all = false, tags = [], database } = options;
  const { backups, damaged } = await readAllMetadata(source);
  const matching: Chosen[] = backups
    .filter(metadata => database === undefined || metadata.database === database)
    .filter(metadata => tags.every(tag => metadata.tags.includes(tag)))
    .map(metadata => ({ id: metadata.id, metadata }));
  // Of which database a damaged one is, and its tags, cannot be known.
  const isNarrowed = database !== undefined || tags.length > 0;
  if (isNarrowed) {
    for (const { id, error } of damaged)
      teller.warn(`not looked at: ${error.message}`, `see: pgkeep verify ${id}`);
  }
  const unreadable: Chosen[] = isNarrowed ? [] : damaged.map(({ id, error }) => ({ id, error }));
  const candidates = [...matching, ...unreadable].sort((a, b) => b.id.localeCompare(a.id));
  const present = candidates.filter(({ id }) => there.has(id)).length;
  if (wanted.length === 0) {
    return { backups: candidates.filter(({ id }) => all || !there.has(id)), present };
  }
  const ids = new Set<string>();
  const warn = (message: string, hint?: string) => teller.warn(message, hint);
  for (const id of wanted) {
    ids.add(id === 'latest' ? (await findBackup(source, id, database, warn)).id : id);
  }
  for (const id of ids) {
    if (candidates.some(candidate => candidate.id === id)) continue;
    throw new PgkeepError('BACKUP_NOT_FOUND', `${source.location} has no such backup ${id}`, {
      hint: 'see what there is with: pgkeep list',
    });
  }
  return { backups: candidates.filter(({ id }) => ids.has(id)), present };
}

/** The backups are there by now: that the replica lacks its way out without pgkeep is told, and no reason to fail. */
async function keepKit(target: Storage, teller: Teller): Promise<void> {
  try {
    await keepRecoveryKit(target);
  } catch (error) {
    teller.warn(
      `the recovery kit in ${target.location} could not be kept up to date: ${errorToData(error).message}`,
      `the backups are complete; try again with: pgkeep recovery-kit --repository ${target.location}`,
    );
  }
}
