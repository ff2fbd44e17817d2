// Does one shard's part of a backup that another process coordinates: reads its share of the rows from the coordinator's
// snapshot, stores it, and waits until the backup is there. docs/decisions/shards.md tells how they meet.
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { type ErrorData, errorToData, PgkeepError, throwIfAborted } from '../base/errors.ts';
import { joinSignals } from '../base/join-signals.ts';
import { formatQuantity } from '../base/units.ts';
import type { DataKey } from '../crypto/seal.ts';
import {
  type DatabaseFacts,
  readDatabaseFacts,
  readServerFacts,
  type ServerFacts,
} from '../postgres/catalog.ts';
import { closeClient, openClient, queryRows } from '../postgres/client.ts';
import { quoteLiteral } from '../postgres/identifiers.ts';
import { isSnapshotLost, joinSnapshot } from '../postgres/join-snapshot.ts';
import { readLoad } from '../postgres/server-load.ts';
import { answerLimitMs, endWhenGone, type ServerWatch, watch } from '../postgres/server-watch.ts';
import { type DatabaseTarget, describeTarget, type Environment, readTarget } from '../postgres/target.ts';
import { isBackupId } from '../repository/backup-id.ts';
import { listedSegments } from '../repository/garbage.ts';
import { metadataName } from '../repository/layout.ts';
import { findBackup, inspectRepository, Repository } from '../repository/repository.ts';
import { SegmentStore, type SegmentTotals } from '../repository/segment-store.ts';
import {
  type FoundPlan,
  isJoinToken,
  maxShards,
  readJoin,
  type ShardPlan,
  ShardsFolder,
  type ShardTable,
} from '../repository/shards.ts';
import type { Traffic } from '../storage/counting-storage.ts';
import { type OpenedStorage, openStorage } from '../storage/open-storage.ts';
import type { StorageOptions } from '../storage/storage-options.ts';
import { divideItems } from './create/copy-plan.ts';
import { isUnreadable, learnBackup, rangesInReach } from './create/earlier.ts';
import type { Parent } from './create/parent.ts';
import { PartWriter } from './create/part-writer.ts';
import { type ReadItemsOptions, readItems } from './create/read-tables.ts';
import { ReadingProgress } from './create/reading-progress.ts';
import { requireSpace } from './create/require-space.ts';
import {
  backupSessionName,
  copiesOf,
  shardSessionName,
  shardTool,
  sourceServer,
} from './create/shard-plan.ts';
import { bytesOf } from './create/share-rows.ts';
import { type RunOptions, Teller } from './events.ts';
import { durationLimits, jobsLimits, maxLoadLimits, requireInteger } from './option-check.ts';

export interface JoinBackupOptions extends RunOptions {
  /** Which part, from 1, and of how many. */
  shard: number;
  shards: number;
  /** What the coordinator told, or was told, to join by. */
  join: string;
  /** The coordinator's database, as this machine reaches it; as in createBackup. */
  database?: string | undefined;
  environment?: Readonly<Record<string, string | undefined>>;
  /** The coordinator's repository. */
  repository: string;
  storage?: StorageOptions | undefined;
  encryptionKey?: string | undefined;
  /** Worker threads, each with its own connection. Default 2. */
  jobs?: number;
  /** While more sessions of others are active, fewer of them read, down to one. Without it the load is not looked at. */
  maxLoad?: number | undefined;
  /** How long to wait for a coordinator that a chosen token does not lead to yet. Default 10 minutes. */
  shardTimeoutMs?: number | undefined;
}

export interface JoinBackupResult {
  /** The backup, which exists by now. */
  backup: string;
  shard: number;
  shards: number;
  repository: string;
  database: string;
  durationMs: number;
  /** Of this part. */
  rows: number;
  /** Plain bytes of COPY text. */
  sizeBytes: number;
  newBytes: number;
  reusedBytes: number;
  newSegments: number;
  reusedSegments: number;
  traffic: Traffic;
  /** For how long fewer workers than all have been reading, because of `maxLoad`. */
  heldBackMs: number;
  warnings: string[];
}

const defaults = { jobs: 2, shardTimeoutMs: 600_000 };
const firstPauseMs = 200;
const longestPauseMs = 3_000;
const pauseGrowth = 1.3;
const lookEveryMs = 1_000;

/**
 * Does the part.
 * @throws PgkeepError SHARD_MISMATCH when this is not what the coordinator divides; SHARDS_ENDED when there is no coordinator
 * (any more), or the backup did not come about; what reading and storing fail with; INTERRUPTED on abort. Except for the
 * first two, the part can be begun again.
 */
export async function joinBackup(options: JoinBackupOptions): Promise<JoinBackupResult> {
  requireInteger('shards', options.shards, { min: 1, max: maxShards });
  requireInteger('shard', options.shard, { min: 1, max: options.shards });
  requireInteger('jobs', options.jobs, jobsLimits);
  requireInteger('maxLoad', options.maxLoad, maxLoadLimits);
  requireInteger('shardTimeoutMs', options.shardTimeoutMs, durationLimits);
  if (!isJoinToken(options.join)) {
    throw new PgkeepError('OPTION_INVALID', `${JSON.stringify(options.join)} is no token to join by`, {
      hint: 'give what pgkeep create --shards printed, or was given with --join',
    });
  }
  const storage = await openStorage(options.repository, options.storage, options.signal);
  try {
    const shard = new Shard(options, storage);
    try {
      return await shard.run();
    } finally {
      await shard.close();
    }
  } finally {
    await storage.close();
  }
}

/** What a part came to. */
type PartTotals = Pick<JoinBackupResult, 'rows' | 'sizeBytes'> & SegmentTotals;

const nothing: PartTotals = {
  rows: 0,
  sizeBytes: 0,
  newBytes: 0,
  newSegments: 0,
  reusedBytes: 0,
  reusedSegments: 0,
};

/** What the coordinator left, and the way to it. */
interface Found extends FoundPlan {
  repository: Repository;
  folder: ShardsFolder;
}

class Shard {
  readonly #options: JoinBackupOptions;
  readonly #storage: OpenedStorage;
  readonly #target: DatabaseTarget;
  readonly #startedAt = Date.now();
  readonly #failure = new AbortController();
  readonly #signal: AbortSignal;
  readonly #teller: Teller;
  readonly #progress: ReadingProgress;
  /** Its name shows the coordinator that this shard is at work; by it the coordinator is seen, too. */
  #monitor: pg.Client | undefined;
  #watch: ServerWatch | undefined;

  constructor(options: JoinBackupOptions, storage: OpenedStorage) {
    this.#options = options;
    this.#teller = new Teller(options);
    this.#storage = storage;
    const environment: Environment = options.environment ?? process.env;
    this.#target = readTarget(options.database, environment);
    this.#progress = new ReadingProgress(options.maxLoad, this.#teller);
    this.#signal = joinSignals(options.signal, this.#failure.signal);
  }

  async run(): Promise<JoinBackupResult> {
    await requireSpace(this.#storage);
    this.#teller.emit({ type: 'phase', phase: 'connect', detail: describeTarget(this.#target) });
    const found = await this.#join();
    return this.#telling(found, () => this.#work(found));
  }

  async #work(found: Found): Promise<JoinBackupResult> {
    const { shard, shards } = this.#options;
    try {
      const { done } = await found.folder.look();
      // One that was ended while it waited for the others begins here.
      const did = done.has(shard) ? nothing : await this.#doPart(found);
      this.#teller.emit({ type: 'phase', phase: 'wait-for-shards', detail: found.plan.backup });
      await this.#waitForBackup(found);
      return {
        backup: found.plan.backup,
        shard,
        shards,
        repository: this.#storage.location,
        database: found.plan.database.name,
        durationMs: Date.now() - this.#startedAt,
        ...did,
        traffic: { ...this.#storage.traffic },
        heldBackMs: this.#progress.limit.heldBackMs,
        warnings: this.#teller.warnings,
      };
    } catch (error) {
      throw await this.#explained(error, found);
    }
  }

  async close(): Promise<void> {
    this.#watch?.stop();
    await this.#leave();
  }

  /** Waits, where the token was chosen: the coordinator may begin later, or again. */
  async #join(): Promise<Found> {
    const { join, shardTimeoutMs = defaults.shardTimeoutMs } = this.#options;
    const deadline = Date.now() + shardTimeoutMs;
    let isTold = false;
    for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * pauseGrowth, longestPauseMs)) {
      throwIfAborted(this.#signal);
      const found = await this.#find();
      const isLastLook = isBackupId(join) || Date.now() >= deadline;
      if (found !== undefined && (await this.#telling(found, () => this.#connect(found, isLastLook))))
        return found;
      if (isLastLook) throw this.#notFound(found);
      if (!isTold) this.#teller.emit({ type: 'phase', phase: 'wait-for-coordinator', detail: join });
      isTold = true;
      await sleep(pauseMs, undefined, { signal: this.#signal }).catch(() => undefined);
    }
  }

  async #find(): Promise<Found | undefined> {
    const { join, encryptionKey } = this.#options;
    // Its first backup makes a repository.
    if (!isBackupId(join) && (await inspectRepository(this.#storage)) === undefined) return undefined;
    const repository = await Repository.open(this.#storage, encryptionKey);
    const backup = isBackupId(join) ? join : await readJoin(this.#storage, join);
    if (backup === undefined) return undefined;
    const folder = new ShardsFolder(repository, backup);
    const found = await folder.readPlan();
    return found && { ...found, repository, folder };
  }

  #notFound(found: Found | undefined): PgkeepError {
    const { join } = this.#options;
    if (found !== undefined)
      return ended(`the coordinator of ${found.plan.backup} is gone, and its snapshot with it`);
    return new PgkeepError(
      'SHARDS_ENDED',
      `no backup in ${this.#storage.location} is waiting for shards by ${join}`,
      {
        hint: 'see whether pgkeep create --shards still runs, with the same repository; its token is good for that run alone',
      },
    );
  }

  #requireSamePlan(plan: ShardPlan): void {
    const { shards } = this.#options;
    if (plan.shards !== shards) {
      throw mismatch(
        `${plan.backup} is made in ${formatQuantity(plan.shards, 'shard')}, not in ${shards}`,
        `give --shard <i>/${plan.shards}`,
      );
    }
    if (plan.tool !== shardTool) {
      throw mismatch(
        `${plan.backup} is made by ${plan.tool}, and this is ${shardTool}`,
        'run the same version everywhere',
      );
    }
  }

  /**
   * @param isLastLook nobody waits for another coordinator than this plan's.
   * @returns whether there is a coordinator, whose snapshot can be read.
   */
  async #connect({ plan }: Found, isLastLook: boolean): Promise<boolean> {
    await this.#leave();
    const { shard, shards } = this.#options;
    const monitor = await openClient(this.#target, {
      applicationName: shardSessionName(plan.backup, shard, shards),
      signal: this.#signal,
    });
    this.#monitor = monitor;
    monitor.on('error', () => undefined);
    await endWhenGone(monitor);
    const isThere = await this.#isCoordinatorThere(plan);
    // A plan that was left behind may have been made for whatever.
    if (!isThere && !isLastLook) return false;
    this.#requireSamePlan(plan);
    const server = await readServerFacts(monitor);
    this.#requireSameServer(plan, server, await readDatabaseFacts(monitor, server));
    if (!isThere || !(await isSnapshotThere(monitor, plan.snapshot))) return false;
    const { limit } = this.#progress;
    this.#watch = watch(async () => {
      if (limit.isLooking) limit.look(await readLoad(monitor, backupSessionName(plan.backup)));
      if (await this.#isCoordinatorThere(plan)) return lookEveryMs;
      throw ended(`the coordinator of ${plan.backup} ended before this part was done`);
    }, answerLimitMs(this.#target));
    this.#watch.failure.catch(error => this.#failure.abort(error));
    return true;
  }

  #requireSameServer(plan: ShardPlan, server: ServerFacts, database: DatabaseFacts): void {
    const here = sourceServer(server);
    const fields = Object.keys(here) as (keyof typeof here)[];
    const other = fields.filter(field => here[field] !== plan.server[field]);
    if (other.length > 0) {
      throw mismatch(
        `${describeTarget(this.#target)} is not the server that ${plan.backup} is taken from (another ${other.map(field => serverFieldNames[field]).join(', ')})`,
        "connect to the coordinator's server itself, not to a standby or another member of its cluster",
      );
    }
    if (database.oid === plan.database.oid && database.xmin === plan.database.xmin) return;
    throw mismatch(
      `${describeTarget(this.#target)} is not the database that ${plan.backup} is taken from: ${plan.database.name}`,
      "connect to the coordinator's database",
    );
  }

  async #isCoordinatorThere({ backup, coordinatorPid }: ShardPlan): Promise<boolean> {
    if (this.#monitor === undefined) return false;
    const rows = await queryRows(
      this.#monitor,
      `SELECT 1 FROM pg_catalog.pg_stat_activity
       WHERE pid = ${coordinatorPid} AND application_name = ${quoteLiteral(backupSessionName(backup))}`,
      'looking whether the coordinator is there',
    );
    return rows.length > 0;
  }

  async #doPart(found: Found): Promise<PartTotals> {
    const { plan, folder, repository, digest } = found;
    const key = await keyOf(found);
    const { shard, shards, jobs = defaults.jobs } = this.#options;
    const level = plan.compressionLevel;
    const lockedUntil = plan.lockedUntil === null ? undefined : new Date(plan.lockedUntil);
    const listed = await listedSegments(this.#storage);
    const store = new SegmentStore(repository, key, level, listed, lockedUntil);
    const parent = await this.#learn(found, store);
    const copies = copiesOf(plan);
    const items = divideItems(copies, shards)[shard - 1] ?? new Uint32Array();
    const totalBytes = bytesOf(copies, items);
    this.#progress.limit.requireSeveral(jobs);
    this.#progress.begin(totalBytes);
    const tableInReach = ({ oid, isBuiltOn }: ShardTable) =>
      parent && isBuiltOn ? rangesInReach(parent, oid, plan.snapshot.xids) : undefined;
    this.#teller.emit({ type: 'phase', phase: 'data', detail: `shard ${shard} of ${shards}` });
    const reading: ReadItemsOptions = {
      target: this.#target,
      applicationName: backupSessionName(plan.backup),
      snapshotId: plan.snapshot.id,
      plan: copies,
      items,
      earlier: parent && plan.tables.map(tableInReach),
      isVerified: plan.isVerified,
      repository,
      store,
      key,
      level,
      jobs,
      limit: this.#progress.limit,
      signal: this.#signal,
      onUnreadable: message =>
        this.#teller.warn(
          `${message}: what it holds is read from the database`,
          'earlier backups may need it; see: pgkeep verify --all',
        ),
      onContradiction: error => this.#teller.warn(`${error.message}: this part is read again`, error.hint),
      onProgress: (doneBytes, rows) => this.#progress.reach(doneBytes, rows),
    };
    const { taken, mismatches, damaged } = await readItems(
      reading,
      () => new PartWriter({ folder, shard, store, key }),
    );
    const traffic = { ...this.#storage.traffic };
    await taken.finish({
      backup: plan.backup,
      plan: digest,
      mismatches,
      damaged: [...damaged],
      warnings: this.#teller.warnings,
      traffic,
    });
    return { rows: taken.rows, sizeBytes: taken.bytes, ...store.totals };
  }

  /** What earlier backups know, where they can still be read. */
  async #learn({ plan, repository }: Found, store: SegmentStore): Promise<Parent | undefined> {
    let parent: Parent | undefined;
    for (const id of plan.known) {
      try {
        const manifest = await repository.readManifest(await findBackup(this.#storage, id));
        const { tables } = await learnBackup(repository, store, manifest);
        if (id === plan.parent) parent = { manifest, tables };
      } catch (error) {
        if (!isUnreadable(error)) throw error;
        this.#teller.warn(
          `the backup ${id} cannot be built upon: ${error.message}`,
          'this part is complete without it',
        );
      }
    }
    return parent;
  }

  /** The backup exists, or does not come about any more. */
  async #waitForBackup({ plan }: Found): Promise<void> {
    const { backup } = plan;
    this.#watch?.stop();
    for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * pauseGrowth, longestPauseMs)) {
      throwIfAborted(this.#signal);
      // In this order: a coordinator that is gone has stored the metadata by then, or never will.
      const isThere = await this.#isCoordinatorThere(plan);
      // While it is there it may take metadata back.
      if (!isThere) {
        if ((await this.#storage.stat(metadataName(backup))) !== undefined) return;
        throw ended(
          `shard ${this.#options.shard} of ${this.#options.shards} was done, but ${backup} was not stored`,
        );
      }
      await sleep(pauseMs, undefined, { signal: this.#signal }).catch(() => undefined);
    }
  }

  /** The coordinator is told what the step fails with. */
  async #telling<T>(found: Found, step: () => Promise<T>): Promise<T> {
    try {
      return await step();
    } catch (error) {
      const { shard, shards, signal } = this.#options;
      // Somebody ends this attempt, or the coordinator is gone; or this is none of its shards.
      const isInVain = signal?.aborted || isEnded(error) || found.plan.shards !== shards;
      // That it cannot be told is seen by what is missing.
      if (!isInVain) await tellFailure(found, shard, errorToData(error)).catch(() => undefined);
      throw error;
    }
  }

  /** What happened first: without the coordinator, everything else fails, too. */
  async #explained(error: unknown, { plan }: Found): Promise<unknown> {
    throwIfAborted(this.#signal);
    if (isEnded(error)) return error;
    // A coordinator ends when it has lost its snapshot, though perhaps it does not know of that yet.
    const isThere = !isSnapshotLost(error) && (await this.#isCoordinatorThere(plan).catch(() => true));
    return isThere
      ? error
      : ended(`the coordinator of ${plan.backup} ended before this part was done`, error);
  }

  async #leave(): Promise<void> {
    const monitor = this.#monitor;
    this.#monitor = undefined;
    if (monitor !== undefined) await closeClient(monitor);
  }
}

/** Imports the snapshot and looks whether it is the one that the plan was made for. */
async function isSnapshotThere(client: pg.Client, { id, xids }: ShardPlan['snapshot']): Promise<boolean> {
  try {
    await joinSnapshot((sql, doing) => queryRows(client, sql, doing), id, 0);
    const [row] = await queryRows(
      client,
      'SELECT pg_catalog.pg_current_snapshot()::text AS xids',
      'joining the snapshot',
    );
    return row?.xids === xids;
  } catch (error) {
    if (isSnapshotLost(error)) return false;
    throw error;
  } finally {
    await queryRows(client, 'ROLLBACK', 'leaving the snapshot');
  }
}

const serverFieldNames: Readonly<Record<keyof ReturnType<typeof sourceServer>, string>> = {
  systemIdentifier: 'system identifier',
  timeline: 'timeline',
  versionNumber: 'version',
  startedAt: 'start time',
  isStandby: 'role as primary or standby',
};

/** What the run's objects are sealed with. */
async function keyOf({ plan, repository }: Found): Promise<DataKey | null> {
  return plan.key === null ? null : await repository.dataKey(plan.key);
}

async function tellFailure(found: Found, shard: number, failure: ErrorData): Promise<void> {
  await found.folder.putFailure(shard, failure, await keyOf(found));
}

function isEnded(error: unknown): boolean {
  return error instanceof PgkeepError && error.code === 'SHARDS_ENDED';
}

function ended(message: string, cause?: unknown): PgkeepError {
  return new PgkeepError('SHARDS_ENDED', message, {
    hint: 'the coordinator says why; begin all of them anew: what was stored is used again',
    cause,
  });
}

function mismatch(message: string, hint: string): PgkeepError {
  return new PgkeepError('SHARD_MISMATCH', message, { hint });
}
