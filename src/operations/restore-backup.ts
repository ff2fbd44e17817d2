// Restores a backup into a new or empty database. Everything that can be checked is checked before the target is
// touched; a restore that fails leaves the target as it was: a database it created is dropped again, an empty one is
// emptied again. One that is killed leaves its mark in the target, and another goes on with it or begins anew.
import { PgkeepError, throwIfAborted } from '../base/errors.ts';
import { joinSignals } from '../base/join-signals.ts';
import { formatQuantity } from '../base/units.ts';
import { analyzeAll } from '../postgres/analyze.ts';
import { type ArchiveEntry, listArchive, listPostData } from '../postgres/archive-contents.ts';
import { ArchiveScan, type LargeObjectEntries } from '../postgres/archive-scan.ts';
import { closeClient, openClient, queryRows } from '../postgres/client.ts';
import { quoteName } from '../postgres/identifiers.ts';
import { canRepeat, dropRepeated, missingEntries } from '../postgres/post-data-contents.ts';
import { findPgRestore, type Program } from '../postgres/programs.ts';
import {
  type DatabaseTarget,
  describeTarget,
  type Environment,
  localEnvironment,
  programEnvironment,
  readTarget,
} from '../postgres/target.ts';
import type { Manifest, TableEntry } from '../repository/manifest.ts';
import { findBackup, Repository } from '../repository/repository.ts';
import { SegmentIds } from '../repository/segment-ids.ts';
import type { Traffic } from '../storage/counting-storage.ts';
import { type OpenedStorage, openStorageToRead } from '../storage/open-storage.ts';
import type { StorageOptions } from '../storage/storage-options.ts';
import { type RunOptions, Teller } from './events.ts';
import { jobsLimits, requireInteger } from './option-check.ts';
import { ArchiveFile, type Section } from './restore/archive-file.ts';
import { countTables } from './restore/count-tables.ts';
import { restoreLargeObjects } from './restore/large-objects.ts';
import { findLeftover, type Leftover, refuseLeftover, requireSame } from './restore/leftover.ts';
import { loadInTransaction } from './restore/load-in-transaction.ts';
import { planLoads, wholeTableTask } from './restore/load-plan.ts';
import { loadTables } from './restore/load-tables.ts';
import { checkTarget, openMaintenance, type TargetFacts } from './restore/preflight.ts';
import { SegmentReader } from './restore/segment-reader.ts';
import { missingSchemas, restorableEntries, selectParts } from './restore/select-parts.ts';
import { TargetDatabase } from './restore/target-database.ts';
import { lockTarget } from './restore/target-lock.ts';
import { markSchema, type RestoreChoices } from './restore/unfinished-restore.ts';
import { packRanges } from './table-index.ts';

export interface RestoreBackupOptions extends RunOptions {
  repository: string;
  /** How the storage is reached, where the address alone does not say it. */
  storage?: StorageOptions | undefined;
  encryptionKey?: string | undefined;
  /** A backup id or `latest`. */
  backup: string;
  /** Narrows `latest` to the backups of this database. */
  sourceDatabase?: string | undefined;
  /** postgres:// URL of the target; without it PG* of `environment`. */
  to?: string | undefined;
  environment?: Readonly<Record<string, string | undefined>>;
  /** Create the target database first; it must not exist. */
  create?: boolean;
  jobs?: number;
  /** Patterns as in pg_dump: only these tables, with what belongs to them. */
  tables?: readonly string[];
  schemaOnly?: boolean;
  dataOnly?: boolean;
  /** Objects belong to the restoring role. */
  noOwner?: boolean;
  /** Leave out GRANT and REVOKE. */
  noPrivileges?: boolean;
  /** Create the roles the backup names and the target lacks (without passwords unless stored). */
  createRoles?: boolean;
  /**
   * Go on with a restore into this target that was cut short, of the same backup and with the same options; `latest`
   * is then the backup it was of. Without such a restore the target is restored into as ever.
   */
  resume?: boolean;
  /** Remove what a restore into this target that was cut short has made, and begin anew. Nothing else is removed. */
  cleanTarget?: boolean;
  /** Check everything, change nothing; the result says what would be done. */
  dryRun?: boolean;
  /** A folder with PostgreSQL's client programs. */
  programs?: string | undefined;
}

export interface RestoreBackupResult {
  backup: string;
  database: string;
  dryRun: boolean;
  /** Whether this went on with a restore that was cut short. */
  resumed: boolean;
  tables: number;
  rows: number;
  bytes: number;
  durationMs: number;
  /** The steps, in order, in words; with dryRun what would be done. */
  plan: string[];
  /** What the run asked of the storage. */
  traffic: Traffic;
  warnings: string[];
}

const defaultJobs = 2;
/**
 * For the sessions of pg_restore. Thousands of small commits need not each reach the disk; the last statements of a
 * restore do. The others undo what the database may have set and pg_restore does not.
 */
const restoreSettings = [
  'synchronous_commit=off',
  'statement_timeout=0',
  'lock_timeout=0',
  'default_transaction_read_only=off',
  'array_nulls=on',
  'transform_null_equals=off',
  'quote_all_identifiers=off',
];

/**
 * Restores a backup.
 * @throws PgkeepError for everything found wrong before (target untouched) or during the restore (target as before,
 * or the message says what is left in it). On abort the same, with INTERRUPTED.
 */
export async function restoreBackup(options: RestoreBackupOptions): Promise<RestoreBackupResult> {
  if (options.schemaOnly && options.dataOnly) {
    throw new PgkeepError('OPTION_INVALID', '--schema-only and --data-only exclude each other');
  }
  if (options.dataOnly && (options.create || options.createRoles)) {
    throw new PgkeepError(
      'OPTION_INVALID',
      '--data-only loads into tables that exist, so nothing can be created with it',
    );
  }
  if (options.resume && options.cleanTarget) {
    throw new PgkeepError('OPTION_INVALID', '--resume and --clean-target exclude each other');
  }
  if (options.dataOnly && (options.resume || options.cleanTarget)) {
    throw new PgkeepError(
      'OPTION_INVALID',
      '--data-only is one transaction: cut short it leaves nothing to resume or to clean',
    );
  }
  requireInteger('jobs', options.jobs, jobsLimits);
  const storage = await openStorageToRead(options.repository, options.storage, options.signal);
  try {
    return await new Restore(options, storage).run();
  } finally {
    await storage.close();
  }
}

/** What is known once the backup has been opened and before the target is looked at. */
interface Source {
  repository: Repository;
  manifest: Manifest;
  pgRestore: Program;
  /** The archive's entries, and those of them to restore. */
  entries: ArchiveEntry[];
  tables: TableEntry[];
  /** Those to restore without pg_restore; nothing of them is among the entries. */
  largeObjects: LargeObjectEntries | undefined;
}

class Restore {
  readonly #options: RestoreBackupOptions;
  readonly #storage: OpenedStorage;
  readonly #environment: Environment;
  readonly #target: DatabaseTarget;
  readonly #jobs: number;
  readonly #startedAt = Date.now();
  readonly #teller: Teller;
  readonly #applicationName: string;
  /** Aborted when the server falls silent. */
  readonly #lost = new AbortController();
  readonly #signal: AbortSignal;

  constructor(options: RestoreBackupOptions, storage: OpenedStorage) {
    this.#options = options;
    this.#teller = new Teller(options);
    this.#storage = storage;
    this.#environment = options.environment ?? process.env;
    this.#target = readTarget(options.to, this.#environment);
    this.#jobs = options.jobs ?? defaultJobs;
    this.#applicationName = 'pgkeep restore';
    this.#signal = joinSignals(options.signal, this.#lost.signal);
  }

  async run(): Promise<RestoreBackupResult> {
    try {
      return await this.#run();
    } catch (error) {
      // An abort closes the connections, and what that ends is its echo.
      throwIfAborted(this.#signal);
      throw error;
    }
  }

  async #run(): Promise<RestoreBackupResult> {
    this.#teller.emit({ type: 'phase', phase: 'connect', detail: describeTarget(this.#target) });
    const found = this.#options.resume ? await this.#findLeftover() : undefined;
    const source = await this.#openSource(found);
    this.#teller.emit({ type: 'phase', phase: 'preflight' });
    const leftover = found ?? (await this.#findLeftover());
    const resumes = leftover !== undefined && (await this.#checkLeftover(source, leftover));
    const facts = await this.#preflight(source, leftover !== undefined);
    const plan = this.#plan(source, facts, leftover, resumes);
    const resumed = this.#options.dryRun ? resumes : await this.#execute(source, facts, leftover, resumes);
    return {
      backup: source.manifest.backup,
      database: this.#target.database,
      dryRun: this.#options.dryRun === true,
      resumed,
      tables: source.tables.length,
      rows: this.#options.schemaOnly ? 0 : sum(source.tables, table => table.rows),
      bytes: this.#options.schemaOnly ? 0 : sum(source.tables, table => table.bytes),
      durationMs: Date.now() - this.#startedAt,
      plan,
      traffic: { ...this.#storage.traffic },
      warnings: this.#teller.warnings,
    };
  }

  #findLeftover(): Promise<Leftover | undefined> {
    return findLeftover(this.#target, this.#options.create ?? false, this.#signal);
  }

  /**
   * @returns whether the restore that was cut short is gone on with; otherwise what it made is removed.
   * @throws PgkeepError TARGET_UNFINISHED when neither was asked for, or another restore than this was begun.
   */
  async #checkLeftover(source: Source, leftover: Leftover): Promise<boolean> {
    const { resume, cleanTarget, create } = this.#options;
    if (!resume && !cleanTarget) refuseLeftover(leftover, this.#target);
    if (leftover.kind === 'created') return false;
    const { restore } = leftover;
    if (!resume) {
      if (restore.choices.create === (create ?? false)) return false;
      throw new PgkeepError(
        'TARGET_UNFINISHED',
        `the unfinished restore into ${describeTarget(this.#target)} was begun ${restore.choices.create ? 'with' : 'without'} --create`,
        { hint: 'clean what it left the same way' },
      );
    }
    const { backup, repository } = source.manifest;
    requireSame(restore, { backup, repository, choices: this.#choices });
    if (restore.phase === 'definitions') return false;
    if (restore.phase !== 'post-data' || (await this.#canRepeatPostData(source))) return true;
    this.#teller.warn('the unfinished restore cannot be gone on with where it ended, and begins anew');
    return false;
  }

  async #canRepeatPostData(source: Source): Promise<boolean> {
    const selected = new Set(source.entries.map(entry => entry.dumpId));
    const postData = await listPostData(
      source.pgRestore.file,
      source.repository.readSegments(source.manifest.archive.segments),
      localEnvironment(this.#environment),
      this.#signal,
    );
    return canRepeat(postData.filter(entry => selected.has(entry.dumpId)));
  }

  get #choices(): RestoreChoices {
    const { create, tables, schemaOnly, noOwner, noPrivileges } = this.#options;
    return {
      create: create ?? false,
      tables: tables ?? [],
      schemaOnly: schemaOnly ?? false,
      noOwner: noOwner ?? false,
      noPrivileges: noPrivileges ?? false,
    };
  }

  async #openSource(leftover: Leftover | undefined): Promise<Source> {
    const { backup, sourceDatabase } = this.#options;
    // A newer one may have appeared since.
    const wanted = backup === 'latest' && leftover?.kind === 'marked' ? leftover.restore.backup : backup;
    const metadata = await findBackup(this.#storage, wanted, sourceDatabase, (message, hint) =>
      this.#teller.warn(message, hint),
    );
    const repository = await Repository.open(this.#storage, this.#options.encryptionKey);
    const manifest = await repository.readManifest(metadata);
    // A key that is lost is better known before anything else.
    await Promise.all(manifest.keys.map(id => repository.dataKey(id)));
    const pgRestore = await findPgRestore(
      manifest.archive.programVersion,
      this.#options.programs,
      this.#environment,
    );
    const scan = this.#scan();
    const all = await listArchive(
      pgRestore.file,
      scan.pass(repository.readSegments(manifest.archive.segments, true)),
      localEnvironment(this.#environment),
      this.#signal,
    );
    const { entries, tables } = selectParts(manifest, all, this.#options.tables ?? [], message =>
      this.#teller.warn(message),
    );
    // As ever they come with everything, and with no single table.
    const areWanted = !this.#options.schemaOnly && (this.#options.tables ?? []).length === 0;
    const largeObjects = areWanted ? scan.leftOut : undefined;
    return { repository, manifest, pgRestore, entries, tables, largeObjects };
  }

  async #preflight(source: Source, isUnfinished: boolean): Promise<TargetFacts> {
    const client = this.#options.create
      ? await openMaintenance(this.#target, this.#signal)
      : await openClient(this.#target, { signal: this.#signal });
    try {
      const facts = await checkTarget(client, this.#target, {
        manifest: source.manifest,
        entries: source.entries,
        tables: source.tables,
        ownersOfLargeObjects: source.largeObjects?.owners ?? new Set(),
        create: this.#options.create ?? false,
        dataOnly: this.#options.dataOnly ?? false,
        noOwner: this.#options.noOwner ?? false,
        noPrivileges: this.#options.noPrivileges ?? false,
        createRoles: this.#options.createRoles ?? false,
        isUnfinished,
      });
      for (const warning of facts.warnings) this.#teller.warn(warning);
      return facts;
    } finally {
      await closeClient(client);
    }
  }

  #plan(source: Source, facts: TargetFacts, leftover: Leftover | undefined, resumes: boolean): string[] {
    const { manifest, tables, entries } = source;
    const { create, schemaOnly, dataOnly } = this.#options;
    const steps: string[] = [];
    if (leftover !== undefined) {
      const what =
        leftover.kind === 'created'
          ? 'a restore'
          : `the restore of ${leftover.restore.backup} begun at ${leftover.restore.beganAt}`;
      const where = describeTarget(this.#target);
      if (resumes) return [`go on with ${what} into ${where}: what is there already is kept`];
      steps.push(`remove what ${what} has left in ${where}`);
    }
    if (facts.missingRoles.length > 0) steps.push(`create the roles ${facts.missingRoles.join(', ')}`);
    if (create)
      steps.push(
        `create the database ${this.#target.database} (${manifest.database.encoding}, ${manifest.database.collate})`,
      );
    if (!dataOnly)
      steps.push(
        `restore ${formatQuantity(entries.length, 'definition')} of ${manifest.backup} into ${describeTarget(this.#target)}`,
      );
    if (!schemaOnly) {
      const rows = sum(tables, table => table.rows);
      const how = dataOnly ? 'in one transaction' : `over ${formatQuantity(this.#jobs, 'connection')}`;
      const what = `${formatQuantity(rows, 'row')} of ${formatQuantity(tables.length, 'table')}`;
      steps.push(`load ${what} ${how}, and sequences and large objects`);
    }
    if (!dataOnly) steps.push('build indexes, constraints and triggers');
    if (!schemaOnly) steps.push('compare row counts with the manifest, and analyze');
    return steps;
  }

  /** @returns whether it went on with a restore that was cut short. */
  async #execute(
    source: Source,
    facts: TargetFacts,
    leftover: Leftover | undefined,
    resumes: boolean,
  ): Promise<boolean> {
    throwIfAborted(this.#signal);
    if (this.#options.dataOnly) {
      await this.#executeDataOnly(source, facts);
      return false;
    }
    if (this.#options.create && !resumes)
      this.#teller.emit({ type: 'phase', phase: 'create-database', detail: this.#target.database });
    await using database = await TargetDatabase.prepare({
      target: this.#target,
      manifest: source.manifest,
      facts,
      choices: this.#choices,
      leftover,
      resume: resumes,
      signal: this.#signal,
      onLost: error => this.#lost.abort(error),
      warn: (message, hint) => this.#teller.warn(message, hint),
    });
    try {
      await this.#restoreInto(database, source, facts);
    } catch (error) {
      await database.takeBack();
      throwIfAborted(this.#signal);
      throw error;
    }
    // Everything is there now: what fails from here on is told, and nothing is taken back for it.
    try {
      if (!this.#options.schemaOnly) await this.#analyze();
    } finally {
      await database.finish();
    }
    return database.resumedFrom !== undefined;
  }

  async #restoreInto(database: TargetDatabase, source: Source, facts: TargetFacts): Promise<void> {
    const from = database.resumedFrom;
    if (from === 'finish') return;
    await using archive = await this.#writeArchive(source);
    if (from === undefined) {
      this.#teller.emit({ type: 'phase', phase: 'pre-data' });
      await this.#createSchemas(source.manifest);
      await this.#section(archive, source, facts, 'pre-data');
    }
    if (!this.#options.schemaOnly && from !== 'post-data') {
      if (from === undefined) await this.#restoreLargeObjects(source);
      this.#teller.emit({
        type: 'phase',
        phase: 'data',
        detail: formatQuantity(source.tables.length, 'table'),
      });
      // Before the rows: only once, as it may add rows to tables of extensions.
      if (from === undefined) {
        await this.#section(archive, source, facts, 'data');
        await database.reached('rows');
      }
      await this.#loadParallel(source, database);
    }
    if (from !== undefined && !this.#options.schemaOnly)
      await countTables(this.#target, source.tables, this.#jobs, this.#signal);
    this.#teller.emit({ type: 'phase', phase: 'post-data' });
    await database.reached('post-data');
    const entries = from === 'post-data' ? await this.#missingPostData(source) : source.entries;
    await this.#section(archive, source, facts, 'post-data', entries);
    await database.reached('finish');
  }

  /** What of the section a restore that died in it has not restored; what costs little is restored again. */
  async #missingPostData({ manifest, entries }: Source): Promise<ArchiveEntry[]> {
    const described = 'missing' in manifest.globals ? [] : manifest.globals.roles;
    const roles = new Set([...described, ...manifest.roles].map(role => role.name));
    const client = await openClient(this.#target, { signal: this.#signal });
    try {
      await dropRepeated(client);
      return await missingEntries(client, entries, roles);
    } finally {
      await closeClient(client);
    }
  }

  /** Rows in one transaction, committed when pg_restore has added the rest: sequences, large objects. */
  async #executeDataOnly(source: Source, facts: TargetFacts): Promise<void> {
    const { manifest, tables, repository } = source;
    this.#teller.emit({ type: 'phase', phase: 'data', detail: formatQuantity(tables.length, 'table') });
    await using archive = await this.#writeArchive(source);
    const tasks = [];
    const ids = new SegmentIds();
    for (const [index, table] of tables.entries()) {
      const ranges = await packRanges(repository, manifest, table, ids);
      tasks.push(wholeTableTask(index, table, ranges, manifest.database.encoding));
    }
    const totalBytes = sum(tables, table => table.bytes);
    const lock = await lockTarget(this.#target, this.#signal);
    lock.lost.catch(error => this.#lost.abort(error));
    try {
      await loadInTransaction({
        target: this.#target,
        applicationName: this.#applicationName,
        tasks,
        reader: new SegmentReader({
          fetch: id => repository.fetchSegment(id),
          secret: repository.secret,
          isFreed: true,
        }),
        signal: this.#signal,
        onProgress: (doneBytes, rows) => this.#teller.emit({ type: 'progress', doneBytes, totalBytes, rows }),
        beforeCommit: () => this.#section(archive, source, facts, 'data-only'),
      });
    } finally {
      await lock.release();
    }
    const refreshes = source.entries.filter(entry => entry.kind === 'MATERIALIZED VIEW DATA');
    if (refreshes.length > 0) await this.#section(archive, source, facts, 'post-data', refreshes);
    await this.#analyze();
  }

  async #analyze(): Promise<void> {
    this.#teller.emit({ type: 'phase', phase: 'analyze' });
    const refused = await analyzeAll(this.#target, this.#jobs, markSchema, this.#signal);
    for (const message of refused)
      this.#teller.warn(message, 'all rows are there; the planner lacks statistics of this table');
  }

  async #loadParallel(source: Source, database: TargetDatabase): Promise<void> {
    const { manifest, tables, repository } = source;
    const ranges = [];
    const ids = new SegmentIds();
    for (const table of tables) ranges.push(await packRanges(repository, manifest, table, ids));
    const items = planLoads(tables, ranges, manifest.database.encoding, await database.loaded());
    const totalBytes = sum(tables, table => table.bytes);
    const totalRows = sum(tables, table => table.rows);
    // What a restore that was cut short has loaded counts as done.
    const doneBefore = {
      bytes: totalBytes - sum(items, item => sum(item, task => task.bytes)),
      rows: totalRows - sum(items, item => sum(item, task => task.rows)),
    };
    await loadTables({
      target: this.#target,
      applicationName: this.#applicationName,
      repository,
      items,
      jobs: this.#jobs,
      isMarked: database.isMarked,
      signal: this.#signal,
      onProgress: (bytes, rows) =>
        this.#teller.emit({
          type: 'progress',
          doneBytes: doneBefore.bytes + bytes,
          totalBytes,
          rows: doneBefore.rows + rows,
        }),
    });
  }

  /** What pg_restore is to see of the archive: with --data-only, all of it, as it does all of that in one transaction. */
  #scan(): ArchiveScan {
    const leavesOut = !this.#options.dataOnly;
    return new ArchiveScan(leavesOut, leavesOut);
  }

  #writeArchive({ pgRestore, repository, manifest }: Source): Promise<ArchiveFile> {
    const archive = repository.readSegments(manifest.archive.segments, true);
    return ArchiveFile.write(pgRestore, this.#scan().pass(archive));
  }

  /** Those that pg_restore is not to restore. */
  async #restoreLargeObjects(source: Source): Promise<void> {
    const { repository, manifest, pgRestore, largeObjects } = source;
    if (largeObjects === undefined) return;
    const count = sum(largeObjects.groups, ({ oids }) => oids.length);
    this.#teller.emit({
      type: 'phase',
      phase: 'large-objects',
      detail: formatQuantity(count, 'large object'),
    });
    await restoreLargeObjects({
      target: this.#target,
      applicationName: this.#applicationName,
      repository,
      pgRestore,
      segments: manifest.archive.segments,
      largeObjects,
      jobs: this.#jobs,
      env: localEnvironment(this.#environment),
      noOwner: this.#options.noOwner ?? false,
      noPrivileges: this.#options.noPrivileges ?? false,
      signal: this.#signal,
      onProgress: (doneBytes, totalBytes) =>
        this.#teller.emit({ type: 'progress', doneBytes, totalBytes, rows: 0 }),
    });
  }

  async #section(
    archive: ArchiveFile,
    source: Source,
    facts: TargetFacts,
    section: Section,
    entries: readonly ArchiveEntry[] = source.entries,
  ): Promise<void> {
    const env = programEnvironment(this.#target, this.#environment);
    env.PGOPTIONS = [env.PGOPTIONS, ...restoreSettings.map(setting => `-c ${setting}`)]
      .filter(Boolean)
      .join(' ');
    await archive.restoreSection({
      section,
      entries: restorableEntries(entries, source.manifest, {
        schemaOnly: this.#options.schemaOnly ?? false,
        commentOnExtensions: facts.isSuperuser,
      }),
      database: this.#target.database,
      serverVersionNumber: facts.versionNumber,
      env,
      jobs: this.#jobs,
      noOwner: this.#options.noOwner ?? false,
      noPrivileges: this.#options.noPrivileges ?? false,
      signal: this.#signal,
    });
  }

  /** A backup of single tables lacks the schemas they are in. */
  async #createSchemas(manifest: Manifest): Promise<void> {
    const names = missingSchemas(manifest);
    if (names.length === 0) return;
    const client = await openClient(this.#target, { signal: this.#signal });
    try {
      for (const name of names) {
        await queryRows(
          client,
          `CREATE SCHEMA IF NOT EXISTS ${quoteName(name)}`,
          `creating the schema ${name}`,
        );
      }
    } finally {
      await closeClient(client);
    }
  }
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}
