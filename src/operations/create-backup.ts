// Takes one backup of one database into a repository: one snapshot, several workers for the rows, pg_dump for the
// rest. Nothing is written before options, key, repository, database and programs have been checked, and the backup
// exists only once its last object is written.
import type pg from 'pg';
import { type ErrorData, errorToData, PgkeepError, throwIfAborted } from '../base/errors.ts';
import { joinSignals } from '../base/join-signals.ts';
import { formatQuantity } from '../base/units.ts';
import { version } from '../base/version.ts';
import { parseKey } from '../crypto/key.ts';
import type { DataKey } from '../crypto/seal.ts';
import { type ArchiveEntry, listArchive, readThroughArchive } from '../postgres/archive-contents.ts';
import { watchBlocking } from '../postgres/blocking-watcher.ts';
import {
  type DatabaseFacts,
  patternsWithoutMatch,
  type Relation,
  readDatabaseFacts,
  readDetails,
  readExtensions,
  readLargeObjects,
  readNeededRoles,
  readServerFacts,
  readSizes,
  type Selection,
  type ServerFacts,
} from '../postgres/catalog.ts';
import { closeClient, openClient, queryRows } from '../postgres/client.ts';
import { readGlobals } from '../postgres/globals.ts';
import { quoteQualified } from '../postgres/identifiers.ts';
import { findPgDump, findPgRestore, type Program } from '../postgres/programs.ts';
import { type RowContexts, readRowContexts, readUnchanged } from '../postgres/row-context.ts';
import { translateDatabaseError } from '../postgres/server-error.ts';
import { readLoad } from '../postgres/server-load.ts';
import { answerLimitMs, type ServerWatch } from '../postgres/server-watch.ts';
import {
  requireSameNames,
  type SourceSnapshot,
  takeSnapshot,
  waitForFlush,
} from '../postgres/source-snapshot.ts';
import {
  type DatabaseTarget,
  describeTarget,
  type Environment,
  localEnvironment,
  programEnvironment,
  readTarget,
} from '../postgres/target.ts';
import { newBackupId } from '../repository/backup-id.ts';
import { type BackupLock, beginLock, lockDescriptor } from '../repository/backup-lock.ts';
import { listedSegments } from '../repository/garbage.ts';
import {
  type IncrementalFacts,
  type LeftOutEntry,
  leftOutLabel,
  type Manifest,
  type RangeEntry,
  type TableEntry,
} from '../repository/manifest.ts';
import type { BackupMetadata } from '../repository/metadata.ts';
import { publishBackup } from '../repository/publish-backup.ts';
import { inspectRepository, Repository, readAllMetadata } from '../repository/repository.ts';
import { SegmentStore } from '../repository/segment-store.ts';
import { type Part, partOf, seriesOf } from '../repository/series.ts';
import { removeShards } from '../repository/shards.ts';
import { readVerification, wasFoundDamaged } from '../repository/verification.ts';
import { addTraffic, type Traffic } from '../storage/counting-storage.ts';
import { type OpenedStorage, openStorage } from '../storage/open-storage.ts';
import type { StorageOptions } from '../storage/storage-options.ts';
import { CollectedRanges, type RangeShares } from './create/collected-ranges.ts';
import { type CopyPlan, firstVersionWithTidRangeScan, planCopies } from './create/copy-plan.ts';
import { isUnreadable, type Learned, learnBackup, rangesInReach } from './create/earlier.ts';
import { areWorthWorkers, type LargeObjectOptions, storeLargeObjects } from './create/large-objects.ts';
import { type Parent, reasonAgainst } from './create/parent.ts';
import { type EarlierTable, type ReadItemsOptions, readItems } from './create/read-tables.ts';
import { ReadingProgress } from './create/reading-progress.ts';
import {
  type Reconciled,
  reasonWithoutLargeObjects,
  reasonWithoutRows,
  reconcile,
} from './create/reconcile.ts';
import { requireFit } from './create/require-fit.ts';
import { expectSpace, requireSpace } from './create/require-space.ts';
import {
  type SchemaArchiveOptions,
  type StoredArchive,
  storeSchemaArchive,
} from './create/schema-archive.ts';
import { backupSessionName } from './create/shard-plan.ts';
import { requireShards, shareRows } from './create/share-rows.ts';
import { type RunOptions, Teller } from './events.ts';
import { durationLimits, jobsLimits, maxLoadLimits, requireInteger } from './option-check.ts';
import { replicate, requireOtherPlace } from './replicate-backups.ts';
import { rowTextSettings } from './row-text-settings.ts';
import { storeRanges } from './table-index.ts';
import { keepRecoveryKit } from './write-recovery-kit.ts';

export interface CreateBackupOptions extends RunOptions {
  /** A postgres:// URL. Without it libpq's PG* variables of `environment` are used. */
  database?: string | undefined;
  /** libpq's variables (PGHOST, PGPASSWORD, PGPASSFILE, PGSSLMODE, ...); process.env by default. */
  environment?: Readonly<Record<string, string | undefined>>;
  /** Where backups are kept: a folder, or a URL such as s3://bucket/prefix. Made at first use. */
  repository: string;
  /** How the storage is reached, where the address alone does not say it. */
  storage?: StorageOptions | undefined;
  /** A second repository: the backup is copied there once it is stored. That this fails stands in the result, and the backup counts. */
  replicateTo?: string | undefined;
  /** How the second repository's storage is reached. */
  replicaStorage?: StorageOptions | undefined;
  /** 64 hexadecimal digits. */
  encryptionKey?: string | undefined;
  /** `false` creates a new repository without encryption; an existing one must agree. */
  encryption?: boolean;
  /** Worker threads, each with its own connection. Default 2. */
  jobs?: number;
  /** Patterns as in pg_dump. */
  schemas?: readonly string[];
  excludeSchemas?: readonly string[];
  tables?: readonly string[];
  excludeTables?: readonly string[];
  excludeTableData?: readonly string[];
  schemaOnly?: boolean;
  /** Back up what the role may read, instead of failing over what it may not; the result says what is missing. */
  skipUnreadable?: boolean;
  tags?: readonly string[];
  reason?: string | undefined;
  /** zstd level, 1 to 19. Default 2. */
  compressionLevel?: number;
  /** How long to wait for each table's ACCESS SHARE lock. Default 60,000. */
  lockTimeoutMs?: number;
  /** How long another session may wait on this backup's locks before the backup gives way. Default 30,000. */
  maxBlockingMs?: number;
  /** While more sessions of others are active, fewer workers read, down to one. Without it the load is not looked at. */
  maxLoad?: number | undefined;
  /** Store password hashes of roles too; needs a superuser. */
  rolePasswords?: boolean;
  /** Keep table names out of the public metadata. */
  privateMetadata?: boolean;
  /** Read everything, whatever earlier backups hold. */
  full?: boolean;
  /** Read everything, derive it from the earlier backup too, and tell where they differ. */
  verifyIncremental?: boolean;
  /** Do so when everything was last read longer ago. Default a week. */
  fullEveryMs?: number;
  /** A folder with PostgreSQL's client programs; without it they are looked for in the usual places. */
  programs?: string | undefined;
  /** So many other processes read the rows: see {@link joinBackup}. */
  shards?: number | undefined;
  /** What they join by; the id of the backup without it, told by the event `shards`. */
  join?: string | undefined;
  /** How long a shard's part may be neither done nor under way. Default 10 minutes. */
  shardTimeoutMs?: number | undefined;
  /** Nobody can delete the backup, or what it needs, for so long; only in a storage that can lock objects. */
  lockForMs?: number | undefined;
}

export interface CreateBackupResult {
  id: string;
  repository: string;
  database: string;
  startedAt: string;
  finishedAt: string;
  durationMs: number;
  tables: number;
  rows: number;
  /** Plain bytes: COPY text and the schema archive. */
  sizeBytes: number;
  /** Bytes of the objects this run added to the storage. */
  newBytes: number;
  /** Stored bytes this backup shares with what was there before. */
  reusedBytes: number;
  newSegments: number;
  reusedSegments: number;
  encrypted: boolean;
  /** `false` when something is missing that the role may not read; only with `skipUnreadable`. */
  complete: boolean;
  /** What it was narrowed to; missing when it is whole. */
  part?: Part;
  /** Relations whose rows or definition are not in the backup, each with the reason. */
  leftOut: LeftOutEntry[];
  globals: { included: boolean; reason?: string };
  /** ISO 8601; `null` without a lock. */
  lockedUntil: string | null;
  /** For how long fewer workers than all have been reading, because of `maxLoad`. */
  heldBackMs: number;
  /** What was taken over from earlier backups, and what was read. */
  incremental: IncrementalFacts;
  /** Why earlier backups may be wrong: what was read does not follow from them. Empty when all is well. */
  mismatches: string[];
  /** How its copy in the second repository came about; `null` when there was to be none. */
  replica: ReplicaOutcome | null;
  /** What the run asked of the storage, until the backup was stored. */
  traffic: Traffic;
  warnings: string[];
}

export interface ReplicaOutcome {
  to: string;
  copied: boolean;
  /** What travelled. */
  objects: number;
  bytes: number;
  /** Why there is no copy. */
  error?: ErrorData;
}

/** How soon the server notices that this process is gone while its session waits for a lock, holding others. */
const clientCheckMs = 2_000;
const firstVersionWithClientCheck = 140000;

/** Somebody may be waiting for the end. */
const leaveShardsMs = 10_000;

const defaults = {
  jobs: 2,
  compressionLevel: 2,
  lockTimeoutMs: 60_000,
  maxBlockingMs: 30_000,
  fullEveryMs: 7 * 86_400_000,
  shardTimeoutMs: 600_000,
};

/**
 * Takes a backup.
 * @throws PgkeepError for everything that keeps the backup from being complete; what was stored by then is reused by
 * the next run, and no backup is visible. On abort the same, with INTERRUPTED.
 */
export async function createBackup(options: CreateBackupOptions): Promise<CreateBackupResult> {
  requireInteger('jobs', options.jobs, jobsLimits);
  requireInteger('compressionLevel', options.compressionLevel, { min: 1, max: 19 });
  requireInteger('lockTimeoutMs', options.lockTimeoutMs, durationLimits);
  requireInteger('maxBlockingMs', options.maxBlockingMs, durationLimits);
  requireInteger('maxLoad', options.maxLoad, maxLoadLimits);
  requireInteger('lockForMs', options.lockForMs, lockLimits);
  requireShards(options);
  if (options.full && options.verifyIncremental) {
    throw new PgkeepError('OPTION_INVALID', 'nothing is built on an earlier backup that could be compared', {
      hint: 'give --full or --verify-incremental, not both',
    });
  }
  requireInteger('fullEveryMs', options.fullEveryMs, { min: 0, max: Number.MAX_SAFE_INTEGER });
  const { replicateTo, replicaStorage, signal } = options;
  const storage = await openStorage(options.repository, options.storage, signal);
  try {
    // Touches nothing yet, and tells of an address that cannot be before anything is done.
    const replica =
      replicateTo === undefined ? undefined : await openStorage(replicateTo, replicaStorage, signal);
    try {
      if (replica !== undefined) await requireOtherPlace(storage, replica);
      const result = await create(options, storage);
      return replica === undefined ? result : await withReplica(result, storage, replica, options);
    } finally {
      await replica?.close();
    }
  } finally {
    await storage.close();
  }
}

async function create(options: CreateBackupOptions, storage: OpenedStorage): Promise<CreateBackupResult> {
  const run = new Run(options, storage);
  try {
    return await run.create();
  } finally {
    await run.close();
  }
}

/** The backup is there by now, and whatever becomes of its copy is part of the result. */
async function withReplica(
  result: CreateBackupResult,
  storage: OpenedStorage,
  replica: OpenedStorage,
  { encryptionKey, jobs, signal, onEvent }: CreateBackupOptions,
): Promise<CreateBackupResult> {
  const to = replica.location;
  try {
    const { backups, objects, bytes, warnings } = await replicate(storage, replica, {
      encryptionKey,
      jobs,
      backups: [result.id],
      ...(signal && { signal }),
      ...(onEvent && { onEvent }),
    });
    const error = backups[0]?.error;
    const outcome = { to, copied: error === undefined, objects, bytes, ...(error && { error }) };
    if (outcome.copied && result.lockedUntil !== null) {
      const message = `the copy in ${to} is not locked`;
      onEvent?.({
        type: 'warning',
        message,
        hint: 'lock it by the means of that storage, or make a backup there with --lock-days, too',
      });
      warnings.push(message);
    }
    return { ...result, replica: outcome, warnings: [...result.warnings, ...warnings] };
  } catch (error) {
    return { ...result, replica: { to, copied: false, objects: 0, bytes: 0, error: errorToData(error) } };
  }
}

/** What cannot be taken back has a limit: ten years. */
const lockLimits = { min: 1, max: 3_650 * 86_400_000 };

/** The oldest whose catalog and functions are as used here. */
const oldestVersion = 13;

function requireSupported(facts: ServerFacts): void {
  if (facts.versionNumber >= oldestVersion * 10000) return;
  throw new PgkeepError(
    'DATABASE_UNSUPPORTED',
    `the server is PostgreSQL ${facts.version}, and ${oldestVersion} is the oldest supported`,
    {
      hint: 'upgrade the server, or use the pg_dump of its own version',
    },
  );
}

/** How many backups are looked at for one that can be built on. */
const maxCandidates = 5;

/** The newest earlier backup that can be built on, else the newest. */
interface Found extends Pick<Learned, 'rangePages'> {
  parent: Parent | undefined;
  /** Why there is none. */
  withoutParent: string | undefined;
}

interface Server {
  facts: ServerFacts;
  database: DatabaseFacts;
  pgDump: Program;
  pgRestore: Program;
}

/** What is known from earlier backups of the database. */
interface Earlier extends Found {
  /** The backups whose segments are known. */
  known: string[];
  /** The backups of the same series, newest first. */
  series: BackupMetadata[];
  /** Whether there is none of the database, of any series. */
  isFirst: boolean;
}

interface PlannedRows {
  /** The tables of the plan, in its order. */
  read: readonly Relation[];
  plan: CopyPlan;
  contexts: RowContexts;
  earlier: Earlier;
  /** Of the tables, on the server's disk. */
  totalBytes: number;
}

interface StoredRows extends Pick<PlannedRows, 'earlier'> {
  tables: TableEntry[];
  shares: RangeShares;
}

interface StoredData extends StoredRows {
  archive: Manifest['archive'];
  /** The archive's table of contents, read back from the repository. */
  entries: ArchiveEntry[];
  isWalFlushed: boolean;
  /** How many the database has, how many were read, unless pg_dump did; and why they are missing, if they are. */
  largeObjects: number;
  largeObjectsRead: number | undefined;
  largeObjectsMissing: string | undefined;
}

/** What all reading of rows and large objects needs. */
type ReadingBasis = Omit<ReadItemsOptions, 'plan' | 'items' | 'earlier' | 'isVerified'>;

/** What there is to know of large objects before they are read. */
interface LargeObjectFacts extends Pick<StoredData, 'largeObjects' | 'largeObjectsMissing'> {
  /** On the server's disk. */
  sizeBytes: number;
}

class Run {
  readonly #options: CreateBackupOptions;
  readonly #storage: OpenedStorage;
  readonly #environment: Environment;
  readonly #target: DatabaseTarget;
  readonly #selection: Selection;
  readonly #startedAt = new Date();
  readonly #id: string;
  /** Tells our own sessions from others in pg_stat_activity. */
  readonly #applicationName: string;
  readonly #failure = new AbortController();
  readonly #signal: AbortSignal;
  readonly #teller: Teller;
  readonly #mismatches: string[] = [];
  readonly #progress: ReadingProgress;
  /** Holds locks and snapshot in a transaction; nothing else runs on it while workers read. */
  #leader: pg.Client | undefined;
  /** For looking at locks, outside the leader's transaction. */
  #monitor: pg.Client | undefined;
  #watcher: ServerWatch | undefined;
  #lock: BackupLock | undefined;
  #shardsTraffic: Traffic = { requests: 0, sentBytes: 0, receivedBytes: 0 };
  /** Whether something may be there for the shards alone. */
  #hasShards = false;

  constructor(options: CreateBackupOptions, storage: OpenedStorage) {
    this.#options = options;
    this.#teller = new Teller(options);
    this.#storage = storage;
    this.#environment = options.environment ?? process.env;
    this.#target = readTarget(options.database, this.#environment);
    this.#selection = {
      schemas: options.schemas ?? [],
      excludeSchemas: options.excludeSchemas ?? [],
      tables: options.tables ?? [],
      excludeTables: options.excludeTables ?? [],
      excludeTableData: options.excludeTableData ?? [],
    };
    this.#progress = new ReadingProgress(options.maxLoad, this.#teller);
    this.#id = newBackupId(this.#startedAt);
    this.#applicationName = backupSessionName(this.#id);
    this.#signal = joinSignals(options.signal, this.#failure.signal);
  }

  async create(): Promise<CreateBackupResult> {
    try {
      return await this.#create();
    } catch (error) {
      // An abort closes the connections, and what that ends is its echo.
      throwIfAborted(this.#signal);
      throw error;
    }
  }

  async #create(): Promise<CreateBackupResult> {
    const { lockForMs } = this.#options;
    if (lockForMs !== undefined) this.#lock = await beginLock(this.#storage, lockForMs);
    const found = await this.#checkRepository();
    await requireSpace(this.#storage);
    this.#teller.emit({ type: 'phase', phase: 'connect', detail: describeTarget(this.#target) });
    const server = await this.#connect();
    const snapshot = await this.#takeSnapshot(server.facts);
    const globals = await this.#readGlobals(server.facts);
    const repository = found ?? (await Repository.create(this.#storage, this.#keyText() ?? null));
    if (this.#lock !== undefined) await lockDescriptor(this.#storage, this.#lock);
    const key = await repository.newDataKey(this.#lock?.sharedUntil);
    const store = new SegmentStore(
      repository,
      key,
      this.#options.compressionLevel ?? defaults.compressionLevel,
      await listedSegments(this.#storage),
      this.#lock?.sharedUntil,
    );
    const data = await this.#storeData(repository, store, key, server, snapshot);
    this.#teller.emit({ type: 'phase', phase: 'reconcile' });
    const reconciled = this.#reconcile(server, snapshot, data);
    const manifest = await this.#describe(repository, store, server, snapshot, data, reconciled, globals);
    await this.#endTransaction();
    this.#teller.emit({ type: 'phase', phase: 'finish' });
    throwIfAborted(this.#signal);
    const summarize = (checksum: string, manifestBytes: number) =>
      this.#summarize(manifest, checksum, manifestBytes, repository);
    const metadata = await publishBackup(repository, key, manifest, store, summarize, this.#lock);
    await this.#keepRecoveryKit();
    return this.#result(manifest, metadata, store);
  }

  /** The backup is there by now: that it lacks its way out without pgkeep is told, and no reason to fail. */
  async #keepRecoveryKit(): Promise<void> {
    try {
      await keepRecoveryKit(this.#storage, this.#lock);
    } catch (error) {
      this.#teller.warn(
        `the recovery kit in the repository could not be kept up to date: ${errorToData(error).message}`,
        'the backup is complete; try again with: pgkeep recovery-kit',
      );
    }
  }

  /** Ends connections; the server then drops the locks, whatever state the run is in. */
  async close(): Promise<void> {
    this.#watcher?.stop();
    await Promise.all([this.#leader, this.#monitor].map(client => client && closeClient(client)));
    // What stays is removed by a cleanup.
    if (this.#hasShards) await this.#leaveShards().catch(() => undefined);
  }

  /** Removes what is there for the shards alone, over connections that no interruption ends. */
  async #leaveShards(): Promise<void> {
    const { repository, storage: options, join } = this.#options;
    const storage = await openStorage(repository, options, AbortSignal.timeout(leaveShardsMs));
    try {
      await removeShards(storage, this.#id, join);
    } finally {
      await storage.close();
    }
  }

  get #choice(): Manifest['options'] {
    const { schemas, excludeSchemas, tables, excludeTables, excludeTableData } = this.#selection;
    return {
      schemas: [...schemas],
      excludeSchemas: [...excludeSchemas],
      tables: [...tables],
      excludeTables: [...excludeTables],
      excludeTableData: [...excludeTableData],
      schemaOnly: this.#options.schemaOnly ?? false,
    };
  }

  #keyText(): string | undefined {
    return this.#options.encryption === false ? undefined : this.#options.encryptionKey;
  }

  /** @returns the repository, when there is one; otherwise the key for a new one has been checked. */
  async #checkRepository(): Promise<Repository | undefined> {
    const existing = await inspectRepository(this.#storage);
    if (existing === undefined) {
      const key = this.#keyText();
      if (key !== undefined) parseKey(key);
      else if (this.#options.encryption !== false) {
        throw new PgkeepError('KEY_MISSING', 'a new repository is encrypted, and no key was given', {
          hint: 'make a key with: pgkeep key generate; then set BACKUP_ENCRYPTION_KEY to it (or pass --no-encryption)',
        });
      }
      return undefined;
    }
    if (this.#options.encryption === false && existing.encrypted) {
      throw new PgkeepError(
        'REPOSITORY_MISMATCH',
        `the repository at ${this.#storage.location} is encrypted and stays so`,
        {
          hint: 'leave out --no-encryption, or choose another repository',
        },
      );
    }
    if (this.#options.encryption === true && !existing.encrypted) {
      throw new PgkeepError(
        'REPOSITORY_MISMATCH',
        `the repository at ${this.#storage.location} was made without encryption`,
        {
          hint: 'choose another repository for encrypted backups',
        },
      );
    }
    if (
      this.#options.encryption === undefined &&
      !existing.encrypted &&
      this.#options.encryptionKey !== undefined
    ) {
      // Whoever gives a key expects encryption; storing in the clear must be said, not inherited.
      throw new PgkeepError(
        'REPOSITORY_MISMATCH',
        `a key was given, but the repository at ${this.#storage.location} was made without encryption`,
        { hint: 'choose another repository, or pass --no-encryption to go on without' },
      );
    }
    return Repository.open(this.#storage, this.#options.encryptionKey);
  }

  async #connect(): Promise<Server> {
    const options = { applicationName: this.#applicationName, signal: this.#signal };
    const leader = await openClient(this.#target, options);
    this.#leader = leader;
    // The leader idles while workers read: its loss would otherwise be seen only at the end.
    leader.on('error', error => this.#failure.abort(translateDatabaseError(error, 'holding the snapshot')));
    this.#monitor = await openClient(this.#target, options);
    const facts = await readServerFacts(leader);
    requireSupported(facts);
    if (facts.versionNumber >= firstVersionWithClientCheck) {
      // Refused by servers on systems that cannot tell; the lock timeout then is the limit.
      await leader.query(`SET client_connection_check_interval = ${clientCheckMs}`).catch(() => undefined);
    }
    const database = await readDatabaseFacts(leader, facts);
    const pgDump = await findPgDump(facts.versionNumber, this.#options.programs, this.#environment);
    const pgRestore = await findPgRestore(pgDump.version, this.#options.programs, this.#environment);
    const unmatched = await patternsWithoutMatch(leader, this.#selection);
    if (unmatched.length > 0) {
      throw new PgkeepError(
        'OPTION_INVALID',
        `nothing in ${facts.isStandby ? 'the standby' : 'the database'} matches ${unmatched.join(', ')}`,
        {
          hint: 'patterns are as in pg_dump: names are folded to lower case unless quoted, * matches anything',
        },
      );
    }
    return { facts, database, pgDump, pgRestore };
  }

  async #takeSnapshot(server: ServerFacts): Promise<SourceSnapshot> {
    const { leader, monitor } = this.#clients();
    this.#teller.emit({ type: 'phase', phase: 'lock' });
    const [row] = await queryRows(
      leader,
      'SELECT pg_catalog.pg_backend_pid() AS pid',
      'asking for the process id',
    );
    const { limit } = this.#progress;
    this.#watcher = watchBlocking(monitor, {
      pid: row?.pid ?? '',
      applicationName: this.#applicationName,
      maxBlockingMs: this.#options.maxBlockingMs ?? defaults.maxBlockingMs,
      answerWithinMs: answerLimitMs(this.#target),
      beforeLook: async () => {
        if (limit.isLooking) limit.look(await readLoad(monitor, this.#applicationName));
      },
    });
    this.#watcher.failure.catch(error => this.#failure.abort(error));
    const lockTimeoutMs = this.#options.lockTimeoutMs ?? defaults.lockTimeoutMs;
    const skip = this.#options.skipUnreadable ? { withRows: !this.#options.schemaOnly } : undefined;
    return takeSnapshot(
      leader,
      monitor,
      this.#target,
      this.#selection,
      lockTimeoutMs,
      server.isStandby,
      skip,
      this.#signal,
    );
  }

  /** Notes what an earlier backup of this database stored: the newest that can be built on, else the newest. */
  async #learnEarlier(
    repository: Repository,
    store: SegmentStore,
    server: Server,
    snapshot: SourceSnapshot,
  ): Promise<Earlier> {
    const { facts, database } = server;
    const { backups, damaged } = await readAllMetadata(this.#storage);
    for (const { id, error } of damaged) this.#teller.warn(error.message, `see: pgkeep verify ${id}`);
    const part = partOf(this.#choice, { secret: repository.secret, isPrivate: true });
    const own = seriesOf({ database: database.name, server: facts.systemIdentifier, ...(part && { part }) });
    const ofDatabase = backups.filter(metadata => metadata.database === database.name);
    const series = ofDatabase.filter(metadata => seriesOf(metadata) === own);
    const others = ofDatabase.filter(metadata => seriesOf(metadata) !== own);
    let newest: Found | undefined;
    const known: string[] = [];
    for (const metadata of [...series, ...others].slice(0, maxCandidates)) {
      throwIfAborted(this.#signal);
      const found = await this.#readEarlier(repository, metadata);
      if (found === undefined) continue;
      const why = this.#options.full
        ? 'everything was to be read'
        : (found.damage ?? reasonAgainst(found.manifest, { server: facts, database, snapshot }));
      if (why !== undefined && newest !== undefined) continue;
      const learned = await this.#learn(repository, store, found.manifest, why);
      if (learned === undefined) continue;
      newest = learned;
      known.push(metadata.id);
      if (why === undefined) break;
    }
    const withoutParent = 'there is no earlier backup of the database that can be read';
    const learned = newest ?? { rangePages: new Map(), parent: undefined, withoutParent };
    return { ...learned, known, series, isFirst: ofDatabase.length === 0 };
  }

  /** @returns nothing, having said why, when the backup cannot be built upon. */
  async #readEarlier(
    repository: Repository,
    metadata: BackupMetadata,
  ): Promise<{ manifest: Manifest; damage: string | undefined } | undefined> {
    return this.#ifReadable(metadata.id, async () => {
      const manifest = await repository.readManifest(metadata);
      // Segments whose key is lost cannot be built upon, however whole they are.
      await Promise.all(manifest.keys.map(id => repository.dataKey(id)));
      const { record } = await readVerification(this.#storage, metadata.id);
      const damage = wasFoundDamaged(record, metadata) ? 'its last verification failed' : undefined;
      return { manifest, damage };
    });
  }

  /** @param withoutParent why its ranges cannot be built on; its segments can be used again all the same. */
  async #learn(
    repository: Repository,
    store: SegmentStore,
    manifest: Manifest,
    withoutParent: string | undefined,
  ): Promise<Found | undefined> {
    return this.#ifReadable(manifest.backup, async () => {
      const { rangePages, tables } = await learnBackup(repository, store, manifest);
      const parent = withoutParent === undefined ? { manifest, tables } : undefined;
      return { rangePages, parent, withoutParent };
    });
  }

  async #ifReadable<T>(backup: string, read: () => Promise<T>): Promise<T | undefined> {
    try {
      return await read();
    } catch (error) {
      if (!isUnreadable(error)) throw error;
      this.#teller.warn(
        `the backup ${backup} cannot be built upon: ${error.message}`,
        'this backup is complete without it; check the repository',
      );
      return undefined;
    }
  }

  /** Reads the rows in the workers and the rest through pg_dump, both from the snapshot. */
  async #storeData(
    repository: Repository,
    store: SegmentStore,
    key: DataKey | null,
    server: Server,
    snapshot: SourceSnapshot,
  ): Promise<StoredData> {
    const schemaOnly = this.#options.schemaOnly ?? false;
    const isStandby = server.facts.isStandby;
    const { largeObjects, largeObjectsMissing, sizeBytes } = await this.#checkLargeObjects(server.facts);
    const { relations } = snapshot;
    const { leader, monitor } = this.#clients();
    const without = relations.filter(relation => relation.missing?.lacks === 'definition');
    const tables = relations.filter(
      relation =>
        relation.isSelected &&
        relation.kind === 'r' &&
        relation.extension === null &&
        relation.missing?.lacks !== 'definition',
    );
    const read = tables.filter(
      relation => reasonWithoutRows(relation, { schemaOnly, isStandby }) === undefined,
    );
    const basis = this.#readingBasis(repository, store, key, snapshot);
    const contexts = this.#readCatalog(server.facts, snapshot, read);
    const planned = this.#planRows(repository, store, server, snapshot, read, contexts);
    // Begun before anything is waited for, as of many tables it takes longest: one session that does one thing after the other.
    const dumped = this.#storeDefinitions(store, server, snapshot, {
      without,
      withoutData: [
        ...tables,
        ...relations.filter(
          ({ kind, extension, missing }) => (kind !== 'r' || extension !== null) && missing?.lacks === 'rows',
        ),
      ].filter(relation => relation.isDataSelected),
      withoutLargeObjects: largeObjectsMissing !== undefined,
      cutsLargeObjects: areWorthWorkers(largeObjects, sizeBytes),
      storeAfter: planned,
    }).catch(async error => {
      // What fails in the leader's transaction takes the snapshot from pg_dump too, and is the reason.
      await contexts;
      throw error;
    });
    const [definitions, entries, rows, isWalFlushed] = await this.#together([
      dumped,
      dumped.then(stored => this.#listDefinitions(repository, server, stored)),
      planned.then(async plan => {
        const stored = await this.#storeRows(basis, server, snapshot, plan);
        // Nobody goes by names any more.
        await dumped;
        await requireSameNames(leader, relations);
        return stored;
      }),
      isStandby ? Promise.resolve(true) : waitForFlush(monitor, snapshot.walPosition, this.#signal),
    ]);
    const groups = definitions.largeObjects;
    const contents =
      groups.length === 0
        ? { bytes: 0, segments: [] }
        : await this.#readLargeObjects({ ...basis, groups, totalBytes: sizeBytes });
    return {
      ...rows,
      archive: {
        programVersion: server.pgDump.version,
        bytes: definitions.bytes + contents.bytes,
        segments: [...definitions.segments, ...contents.segments],
      },
      entries,
      isWalFlushed,
      largeObjects,
      largeObjectsRead:
        groups.length === 0 ? undefined : groups.reduce((sum, { oids }) => sum + oids.length, 0),
      largeObjectsMissing,
    };
  }

  #readingBasis(
    repository: Repository,
    store: SegmentStore,
    key: DataKey | null,
    snapshot: SourceSnapshot,
  ): ReadingBasis {
    return {
      target: this.#target,
      applicationName: this.#applicationName,
      snapshotId: snapshot.id,
      onUnreadable: message =>
        this.#teller.warn(
          `${message}: what it holds is read from the database`,
          'earlier backups may need it; see: pgkeep verify --all',
        ),
      onContradiction: error => this.#teller.warn(`${error.message}: everything is read again`, error.hint),
      repository,
      store,
      key,
      level: this.#options.compressionLevel ?? defaults.compressionLevel,
      jobs: this.#options.jobs ?? defaults.jobs,
      limit: this.#progress.limit,
      signal: this.#signal,
      onProgress: (doneBytes, count) => this.#progress.reach(doneBytes, count),
    };
  }

  /** What pg_dump makes of all but the rows that workers read. */
  #storeDefinitions(
    store: SegmentStore,
    server: Server,
    snapshot: SourceSnapshot,
    options: Pick<
      SchemaArchiveOptions,
      'without' | 'withoutData' | 'withoutLargeObjects' | 'cutsLargeObjects' | 'storeAfter'
    >,
  ): Promise<StoredArchive> {
    const { lockTimeoutMs = defaults.lockTimeoutMs, maxBlockingMs = defaults.maxBlockingMs } = this.#options;
    return storeSchemaArchive({
      ...options,
      program: server.pgDump,
      env: { ...programEnvironment(this.#target, this.#environment), PGAPPNAME: this.#applicationName },
      encoding: server.database.encoding,
      snapshotId: snapshot.id,
      selection: this.#selection,
      schemaOnly: this.#options.schemaOnly ?? false,
      relations: snapshot.relations,
      lockWaitMs: Math.max(lockTimeoutMs, maxBlockingMs) + 5_000,
      onWarning: message => this.#teller.warn(message),
      store,
      signal: this.#signal,
    });
  }

  /** Reading back what was stored also proves that this archive opens. */
  async #listDefinitions(
    repository: Repository,
    server: Server,
    { segments, isWhole }: StoredArchive,
  ): Promise<ArchiveEntry[]> {
    const env = localEnvironment(this.#environment);
    const { file } = server.pgRestore;
    const entries = await listArchive(file, repository.readSegments(segments), env, this.#signal);
    if (!isWhole)
      await readThroughArchive(file, entries, repository.readSegments(segments), env, this.#signal);
    return entries;
  }

  /** Fills in what is to be known of the tables that are read, and of those that have no rows of their own. */
  async #readCatalog(
    facts: ServerFacts,
    snapshot: SourceSnapshot,
    read: readonly Relation[],
  ): Promise<RowContexts> {
    const { leader } = this.#clients();
    await readDetails(leader, [...read, ...partitionedOf(snapshot)]);
    await readSizes(leader, read);
    // Those that can be read by ctid.
    const heaps = read.filter(({ isHeap }) => isHeap && facts.versionNumber >= firstVersionWithTidRangeScan);
    return readRowContexts(
      leader,
      heaps.map(({ oid }) => oid),
      rowTextSettings,
    );
  }

  async #planRows(
    repository: Repository,
    store: SegmentStore,
    server: Server,
    snapshot: SourceSnapshot,
    read: readonly Relation[],
    catalog: Promise<RowContexts>,
  ): Promise<PlannedRows> {
    const [earlier, contexts] = await this.#together([
      this.#learnEarlier(repository, store, server, snapshot),
      catalog,
    ]);
    const { parent } = earlier;
    if (this.#options.verifyIncremental && parent === undefined)
      this.#teller.warn(`there is nothing to compare with: ${earlier.withoutParent}`);
    const rangePagesOf = new Map(earlier.rangePages);
    for (const { oid, schema, name } of read) {
      const before = parent?.tables.get(oid);
      if (before !== undefined) rangePagesOf.set(quoteQualified(schema, name), before.rangePages);
    }
    const { encoding } = server.database;
    const plan = planCopies(read, encoding, server.facts.versionNumber, rangePagesOf, contexts.tables);
    requireFit(read, plan);
    const totalBytes = plan.tables.reduce((sum, table) => sum + table.sizeBytes, 0);
    const warning = await expectSpace(this.#storage, {
      database: server.database.name,
      tableBytes: totalBytes,
      isFirst: earlier.isFirst,
      earlier: earlier.series.filter(backup => backup.complete),
    });
    if (warning !== undefined) {
      this.#teller.warn(
        warning,
        'a run that finds no space left leaves no backup, and the next reuses what it stored',
      );
    }
    return { read, plan, contexts, earlier, totalBytes };
  }

  async #storeRows(
    basis: ReadingBasis,
    server: Server,
    snapshot: SourceSnapshot,
    { read, plan, contexts, earlier, totalBytes }: PlannedRows,
  ): Promise<StoredRows> {
    const { shards } = this.#options;
    const { parent } = earlier;
    const inShards = shards === undefined ? '' : `, in ${formatQuantity(shards, 'shard')}`;
    this.#teller.emit({
      type: 'phase',
      phase: 'data',
      detail: `${formatQuantity(read.length, 'table')}${inShards}`,
    });
    this.#progress.begin(totalBytes);
    const reading: ReadItemsOptions = {
      ...basis,
      plan,
      earlier: parent && read.map(relation => earlierTable(parent, relation, contexts, snapshot)),
      isVerified: this.#isVerified(earlier),
    };
    const taken = await (shards === undefined
      ? this.#readRows(reading)
      : this.#shareRows(reading, shards, { server, snapshot, relations: read, earlier }));
    // What types print may have changed meanwhile: no lock keeps it.
    const unchanged = await readUnchanged(this.#clients().monitor, contexts);
    const ranges = taken.whole();
    const rootNames = new Set(
      partitionedOf(snapshot).map(({ schema, name }) => quoteQualified(schema, name)),
    );
    const tables: TableEntry[] = [];
    for (const [index, { oid, schema, name, parents, columns, loadVia }] of read.entries()) {
      const own = ranges[index] ?? [];
      const entry: TableEntry = {
        oid,
        schema,
        name,
        parents,
        columns,
        ...sizeOf(own),
        rangePages: plan.tables[index]?.rangePages ?? 0,
        ...(await storeRanges(basis.store, own)),
      };
      const context = contexts.tables.get(oid);
      if (context !== undefined && unchanged.has(oid)) entry.source = context;
      // Partitions of a table that is not in the backup become tables of their own.
      if (loadVia !== null && rootNames.has(quoteQualified(loadVia.schema, loadVia.name)))
        entry.loadVia = loadVia;
      tables.push(entry);
    }
    return { tables, shares: taken.shares, earlier };
  }

  #readLargeObjects(options: LargeObjectOptions): ReturnType<typeof storeLargeObjects> {
    const count = options.groups.reduce((sum, { oids }) => sum + oids.length, 0);
    this.#teller.emit({
      type: 'phase',
      phase: 'large-objects',
      detail: formatQuantity(count, 'large object'),
    });
    this.#progress.begin(options.totalBytes);
    return storeLargeObjects(options);
  }

  /** Reads all rows in this process. */
  async #readRows(options: ReadItemsOptions): Promise<CollectedRanges> {
    this.#progress.limit.requireSeveral(options.jobs);
    const { plan, store } = options;
    const { taken, mismatches } = await readItems(options, () => new CollectedRanges(plan, store));
    this.#mismatches.push(...mismatches);
    return taken;
  }

  /** Has other processes read the rows. */
  async #shareRows(
    reading: ReadItemsOptions,
    shards: number,
    from: { server: Server; snapshot: SourceSnapshot; relations: readonly Relation[]; earlier: Earlier },
  ): Promise<CollectedRanges> {
    const { join, shardTimeoutMs = defaults.shardTimeoutMs } = this.#options;
    const { server, snapshot, relations, earlier } = from;
    const { repository } = reading;
    this.#hasShards = true;
    const { taken, mismatches, traffic } = await shareRows({
      reading,
      plan: {
        repository: repository.id,
        backup: this.#id,
        shards,
        server: server.facts,
        database: server.database,
        snapshot,
        lockedUntil: this.#lock?.sharedUntil,
        relations,
        parent: earlier.parent?.manifest.backup ?? null,
        known: earlier.known,
      },
      join,
      monitor: this.#clients().monitor,
      timeoutMs: shardTimeoutMs,
      onReady: token => this.#teller.emit({ type: 'shards', backup: this.#id, shards, join: token }),
      onWarning: (message, hint) => this.#teller.warn(message, hint),
    });
    this.#mismatches.push(...mismatches);
    this.#shardsTraffic = traffic;
    return taken;
  }

  /** Of this process and the shards. */
  get #traffic(): Traffic {
    return addTraffic(this.#storage.traffic, this.#shardsTraffic);
  }

  /** @returns how many there are, all of which can be read where they are taken; or why they cannot be taken. */
  async #checkLargeObjects(server: ServerFacts): Promise<LargeObjectFacts> {
    const { count, sizeBytes, unreadableCount, unreadable } = await readLargeObjects(
      this.#clients().leader,
      server.versionNumber,
    );
    const schemaOnly = this.#options.schemaOnly ?? false;
    const isTaken = reasonWithoutLargeObjects({ selection: this.#selection, schemaOnly }) === undefined;
    if (isTaken && unreadableCount > 0 && this.#options.skipUnreadable) {
      const some = `${unreadable.join(', ')}${unreadableCount > unreadable.length ? ', ...' : ''}`;
      const reason = `the role may not read ${unreadableCount} of them (${some}), and pg_dump takes all or none`;
      return { largeObjects: count, largeObjectsMissing: reason, sizeBytes };
    }
    if (isTaken && unreadableCount > 0) {
      throw new PgkeepError(
        'DATABASE_PRIVILEGE',
        `the role may not read the large objects ${unreadable.join(', ')}`,
        {
          hint: 'GRANT SELECT ON LARGE OBJECT to it, or connect as their owner (pg_read_all_data does not cover them); or leave all of them out with --skip-unreadable',
        },
      );
    }
    return { largeObjects: count, largeObjectsMissing: undefined, sizeBytes };
  }

  /** Waits for all; the first failure ends the others and is the one reported. */
  async #together<T extends readonly unknown[] | []>(
    parts: T,
  ): Promise<{ -readonly [P in keyof T]: Awaited<T[P]> }> {
    // An aborted signal gives its reason as the run's error, and takes a foreign one for an interruption.
    const fail = (error: unknown) =>
      this.#failure.abort(
        error instanceof PgkeepError
          ? error
          : new PgkeepError('INTERNAL', errorToData(error).message, { cause: error }),
      );
    for (const part of parts) Promise.resolve(part).catch(fail);
    const ended = await Promise.allSettled(parts);
    if (ended.some(({ status }) => status === 'rejected')) throwIfAborted(this.#signal);
    return await Promise.all(parts);
  }

  #reconcile(server: Server, snapshot: SourceSnapshot, data: StoredData): Reconciled {
    return reconcile({
      relations: snapshot.relations,
      archive: data.entries,
      selection: this.#selection,
      schemaOnly: this.#options.schemaOnly ?? false,
      isStandby: server.facts.isStandby,
      read: new Set(data.tables.map(({ oid }) => oid)),
      largeObjects: data.largeObjects,
      largeObjectsRead: data.largeObjectsRead,
      largeObjectsMissing: data.largeObjectsMissing,
      dependents: snapshot.dependents,
    });
  }

  async #readGlobals(server: ServerFacts): Promise<Manifest['globals']> {
    const withPasswords = this.#options.rolePasswords ?? false;
    try {
      return await readGlobals(this.#clients().monitor, server.versionNumber, withPasswords);
    } catch (error) {
      if (!(error instanceof PgkeepError) || error.code !== 'DATABASE_PRIVILEGE' || withPasswords)
        throw error;
      this.#teller.warn(`roles are not in the backup: ${error.message}`, error.hint);
      return { missing: error.message };
    }
  }

  async #describe(
    repository: Repository,
    store: SegmentStore,
    server: Server,
    snapshot: SourceSnapshot,
    data: StoredData,
    { leftOut, unrestorable }: Reconciled,
    globals: Manifest['globals'],
  ): Promise<Manifest> {
    const { leader } = this.#clients();
    const { facts } = server;
    const roles = await readNeededRoles(leader);
    const extensions = await readExtensions(leader);
    const { newBytes, reusedBytes } = store.totals;
    return {
      format: 1,
      requires: [],
      repository: repository.id,
      backup: this.#id,
      tool: `pgkeep ${version}`,
      server: {
        version: facts.version,
        versionNumber: facts.versionNumber,
        systemIdentifier: facts.systemIdentifier,
        timeline: facts.timeline,
        standby: facts.isStandby,
        startedAt: facts.startedAt,
      },
      database: server.database,
      snapshot: {
        id: snapshot.id,
        xids: snapshot.xids,
        walPosition: snapshot.walPosition,
        walFlushed: data.isWalFlushed,
        takenAt: snapshot.takenAt.toISOString(),
      },
      startedAt: this.#startedAt.toISOString(),
      finishedAt: new Date().toISOString(),
      options: this.#choice,
      keys: store.keys,
      archive: {
        ...data.archive,
        ...(unrestorable.length > 0 && { unrestorable }),
      },
      roles,
      extensions,
      globals,
      tables: data.tables,
      partitioned: partitionedOf(snapshot).map(({ oid, schema, name, parents }) => ({
        oid,
        schema,
        name,
        parents,
      })),
      leftOut,
      incremental: this.#incrementalFacts(data.earlier, data.shares),
      newBytes,
      reusedBytes,
      traffic: this.#traffic,
      tags: [...(this.#options.tags ?? [])],
      reason: this.#options.reason ?? null,
    };
  }

  /** Whether everything is read, and compared with what building on the earlier backup would have given. */
  #isVerified({ parent }: Earlier): boolean {
    if (parent === undefined) return false;
    const { fullEveryMs = defaults.fullEveryMs, verifyIncremental = false } = this.#options;
    const sinceFullMs = this.#startedAt.getTime() - Date.parse(parent.manifest.incremental.fullReadAt);
    return verifyIncremental || sinceFullMs > fullEveryMs;
  }

  #incrementalFacts(earlier: Earlier, shares: RangeShares): IncrementalFacts {
    const { parent, withoutParent } = earlier;
    const startedAt = this.#startedAt.toISOString();
    if (this.#mismatches.length > 0) {
      return {
        parent: null,
        withoutParent: `what is there did not follow from ${parent?.manifest.backup}`,
        fullReadAt: startedAt,
        ...shares,
      };
    }
    if (parent === undefined) {
      return {
        parent: null,
        ...(withoutParent !== undefined && { withoutParent }),
        fullReadAt: startedAt,
        ...shares,
      };
    }
    const { backup, incremental } = parent.manifest;
    const fullReadAt = this.#isVerified(earlier) ? startedAt : incremental.fullReadAt;
    return { parent: backup, fullReadAt, ...shares };
  }

  /** Ends the snapshot's transaction: that it still can be ended proves that the locks were held to the end. */
  async #endTransaction(): Promise<void> {
    const { leader } = this.#clients();
    throwIfAborted(this.#signal);
    await queryRows(leader, 'COMMIT', 'ending the backup transaction');
    this.#watcher?.stop();
  }

  #summarize(
    manifest: Manifest,
    checksum: string,
    manifestBytes: number,
    { encrypted, secret }: Repository,
  ): BackupMetadata {
    const isPrivate = this.#options.privateMetadata ?? false;
    const part = partOf(manifest.options, { secret, isPrivate });
    const missing = manifest.leftOut.filter(entry => entry.missing);
    const metadata: BackupMetadata = {
      id: this.#id,
      timestamp: manifest.snapshot.takenAt,
      version,
      type: 'database',
      database: manifest.database.name,
      server: manifest.server.systemIdentifier,
      ...(part && { part }),
      tableCount: manifest.tables.length,
      recordCount: manifest.tables.reduce((sum, table) => sum + table.rows, 0),
      checksum,
      encrypted,
      compressed: true,
      sizeBytes: manifest.archive.bytes + manifest.tables.reduce((sum, table) => sum + table.bytes, 0),
      storedBytes: manifest.newBytes + manifest.reusedBytes + manifestBytes,
      newBytes: manifest.newBytes + manifestBytes,
      durationMs: Date.now() - this.#startedAt.getTime(),
      tags: [...(this.#options.tags ?? [])],
      reason: this.#options.reason ?? null,
      complete: missing.length === 0,
    };
    if (missing.length > 0) metadata.missingCount = missing.length;
    if (!isPrivate) {
      metadata.tables = manifest.tables.map(table => `${table.schema}.${table.name}`);
      if (missing.length > 0) metadata.missing = missing.map(leftOutLabel);
    }
    return metadata;
  }

  #result(manifest: Manifest, metadata: BackupMetadata, store: SegmentStore): CreateBackupResult {
    const { newSegments, reusedSegments, reusedBytes } = store.totals;
    return {
      id: this.#id,
      repository: this.#storage.location,
      database: metadata.database,
      startedAt: manifest.startedAt,
      finishedAt: manifest.finishedAt,
      durationMs: metadata.durationMs,
      tables: metadata.tableCount,
      rows: metadata.recordCount,
      sizeBytes: metadata.sizeBytes,
      newBytes: metadata.newBytes,
      reusedBytes,
      newSegments,
      reusedSegments,
      encrypted: metadata.encrypted,
      complete: metadata.complete,
      ...(metadata.part && { part: metadata.part }),
      leftOut: manifest.leftOut,
      globals:
        'missing' in manifest.globals
          ? { included: false, reason: manifest.globals.missing }
          : { included: true },
      lockedUntil: this.#lock?.until.toISOString() ?? null,
      heldBackMs: this.#progress.limit.heldBackMs,
      incremental: manifest.incremental,
      mismatches: this.#mismatches,
      replica: null,
      traffic: this.#traffic,
      warnings: this.#teller.warnings,
    };
  }

  #clients(): { leader: pg.Client; monitor: pg.Client } {
    if (this.#leader === undefined || this.#monitor === undefined)
      throw new PgkeepError('INTERNAL', 'there is no connection yet');
    return { leader: this.#leader, monitor: this.#monitor };
  }
}

/** The partitioned tables that are in the backup: they have no rows of their own. */
function partitionedOf({ relations }: SourceSnapshot): Relation[] {
  return relations.filter(
    ({ isSelected, kind, extension, missing }) =>
      isSelected && kind === 'p' && extension === null && missing === null,
  );
}

function sizeOf(ranges: Iterable<RangeEntry>): { rows: number; bytes: number } {
  const size = { rows: 0, bytes: 0 };
  for (const { rows, bytes } of ranges) {
    size.rows += rows;
    size.bytes += bytes;
  }
  return size;
}

/** What an earlier backup has of a table, when it has the same rows' text in the same place. */
function earlierTable(
  parent: Parent,
  { oid }: Relation,
  contexts: RowContexts,
  snapshot: SourceSnapshot,
): EarlierTable | undefined {
  const source = parent.tables.get(oid)?.source;
  const now = contexts.tables.get(oid);
  if (source === undefined || source.fileNode !== now?.fileNode || source.context !== now.context)
    return undefined;
  return rangesInReach(parent, oid, snapshot.xids);
}
