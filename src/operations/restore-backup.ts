// Restores a backup into a new or empty database. Everything that can be checked is checked before the target is
// touched; a restore that fails leaves the target as it was: a database it created is dropped again, an empty one is
// emptied again.
import { PgkeepError, throwIfAborted } from '../base/errors.ts';
import { analyzeAll } from '../postgres/analyze.ts';
import { type ArchiveEntry, listArchive } from '../postgres/archive-contents.ts';
import { closeClient, openClient, queryRows } from '../postgres/client.ts';
import { quoteName } from '../postgres/identifiers.ts';
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
import type { Traffic } from '../storage/counting-storage.ts';
import { type OpenedStorage, openStorage } from '../storage/open-storage.ts';
import type { StorageOptions } from '../storage/storage-options.ts';
import type { OperationEvent, RunOptions } from './events.ts';
import { jobsLimits, requireInteger } from './option-check.ts';
import { ArchiveFile, type Section } from './restore/archive-file.ts';
import { loadInTransaction } from './restore/load-in-transaction.ts';
import { planLoads, wholeTableTask } from './restore/load-plan.ts';
import { loadTables } from './restore/load-tables.ts';
import { checkTarget, openMaintenance, type TargetFacts } from './restore/preflight.ts';
import { SegmentReader } from './restore/segment-reader.ts';
import { missingSchemas, restorableEntries, selectParts } from './restore/select-parts.ts';
import { TargetDatabase } from './restore/target-database.ts';
import { readRanges } from './table-index.ts';

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
  /** Check everything, change nothing; the result says what would be done. */
  dryRun?: boolean;
  /** A folder with PostgreSQL's client programs. */
  programs?: string | undefined;
}

export interface RestoreBackupResult {
  backup: string;
  database: string;
  dryRun: boolean;
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
  requireInteger('jobs', options.jobs, jobsLimits);
  const storage = await openStorage(options.repository, options.storage, options.signal);
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
}

class Restore {
  readonly #options: RestoreBackupOptions;
  readonly #storage: OpenedStorage;
  readonly #environment: Environment;
  readonly #target: DatabaseTarget;
  readonly #jobs: number;
  readonly #startedAt = Date.now();
  readonly #warnings: string[] = [];
  readonly #applicationName: string;

  constructor(options: RestoreBackupOptions, storage: OpenedStorage) {
    this.#options = options;
    this.#storage = storage;
    this.#environment = options.environment ?? process.env;
    this.#target = readTarget(options.to, this.#environment);
    this.#jobs = options.jobs ?? defaultJobs;
    this.#applicationName = 'pgkeep restore';
  }

  async run(): Promise<RestoreBackupResult> {
    this.#emit({ type: 'phase', phase: 'connect', detail: describeTarget(this.#target) });
    const source = await this.#openSource();
    this.#emit({ type: 'phase', phase: 'preflight' });
    const facts = await this.#preflight(source);
    const plan = this.#plan(source, facts);
    if (this.#options.dryRun !== true) await this.#execute(source, facts);
    return {
      backup: source.manifest.backup,
      database: this.#target.database,
      dryRun: this.#options.dryRun === true,
      tables: source.tables.length,
      rows: this.#options.schemaOnly ? 0 : sum(source.tables, table => table.rows),
      bytes: this.#options.schemaOnly ? 0 : sum(source.tables, table => table.bytes),
      durationMs: Date.now() - this.#startedAt,
      plan,
      traffic: { ...this.#storage.traffic },
      warnings: this.#warnings,
    };
  }

  async #openSource(): Promise<Source> {
    const { backup, sourceDatabase } = this.#options;
    const metadata = await findBackup(this.#storage, backup, sourceDatabase, (message, hint) =>
      this.#warn(message, hint),
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
    const all = await listArchive(
      pgRestore.file,
      repository.readSegments(manifest.archive.segments),
      localEnvironment(this.#environment),
      this.#options.signal,
    );
    const { entries, tables } = selectParts(manifest, all, this.#options.tables ?? [], message =>
      this.#warn(message),
    );
    return { repository, manifest, pgRestore, entries, tables };
  }

  async #preflight(source: Source): Promise<TargetFacts> {
    const { signal } = this.#options;
    const client = this.#options.create
      ? await openMaintenance(this.#target, signal)
      : await openClient(this.#target, { signal });
    try {
      const facts = await checkTarget(client, this.#target, {
        manifest: source.manifest,
        entries: source.entries,
        tables: source.tables,
        create: this.#options.create ?? false,
        dataOnly: this.#options.dataOnly ?? false,
        noOwner: this.#options.noOwner ?? false,
        noPrivileges: this.#options.noPrivileges ?? false,
        createRoles: this.#options.createRoles ?? false,
      });
      for (const warning of facts.warnings) this.#warn(warning);
      return facts;
    } finally {
      await closeClient(client);
    }
  }

  #plan(source: Source, facts: TargetFacts): string[] {
    const { manifest, tables, entries } = source;
    const { create, schemaOnly, dataOnly } = this.#options;
    const steps: string[] = [];
    if (facts.missingRoles.length > 0) steps.push(`create the roles ${facts.missingRoles.join(', ')}`);
    if (create)
      steps.push(
        `create the database ${this.#target.database} (${manifest.database.encoding}, ${manifest.database.collate})`,
      );
    if (!dataOnly)
      steps.push(
        `restore ${entries.length} definitions of ${manifest.backup} into ${describeTarget(this.#target)}`,
      );
    if (!schemaOnly) {
      const rows = sum(tables, table => table.rows);
      const how = dataOnly ? 'in one transaction' : `over ${this.#jobs} connections`;
      steps.push(`load ${rows} rows of ${tables.length} tables ${how}, and sequences and large objects`);
    }
    if (!dataOnly) steps.push('build indexes, constraints and triggers');
    if (!schemaOnly) steps.push('compare row counts with the manifest, and analyze');
    return steps;
  }

  async #execute(source: Source, facts: TargetFacts): Promise<void> {
    throwIfAborted(this.#options.signal);
    if (this.#options.dataOnly) return this.#executeDataOnly(source, facts);
    if (this.#options.create)
      this.#emit({ type: 'phase', phase: 'create-database', detail: this.#target.database });
    const database = await TargetDatabase.prepare({
      target: this.#target,
      manifest: source.manifest,
      facts,
      create: this.#options.create ?? false,
      noOwner: this.#options.noOwner ?? false,
      noPrivileges: this.#options.noPrivileges ?? false,
      warn: (message, hint) => this.#warn(message, hint),
    });
    try {
      await using archive = await this.#writeArchive(source);
      this.#emit({ type: 'phase', phase: 'pre-data' });
      await this.#createSchemas(source.manifest);
      await this.#section(archive, source, facts, 'pre-data');
      if (!this.#options.schemaOnly) {
        this.#emit({ type: 'phase', phase: 'data', detail: `${source.tables.length} tables` });
        await this.#section(archive, source, facts, 'data');
        await this.#loadParallel(source);
      }
      this.#emit({ type: 'phase', phase: 'post-data' });
      await this.#section(archive, source, facts, 'post-data');
    } catch (error) {
      await database.takeBack();
      throwIfAborted(this.#options.signal);
      throw error;
    }
    // Everything is there now: what fails from here on is told, and nothing is taken back for it.
    if (!this.#options.schemaOnly) await this.#analyze();
    await database.finish();
  }

  /** Rows in one transaction, committed when pg_restore has added the rest: sequences, large objects. */
  async #executeDataOnly(source: Source, facts: TargetFacts): Promise<void> {
    const { manifest, tables, repository } = source;
    this.#emit({ type: 'phase', phase: 'data', detail: `${tables.length} tables` });
    await using archive = await this.#writeArchive(source);
    const tasks = [];
    for (const [index, table] of tables.entries()) {
      tasks.push(
        wholeTableTask(index, table, await readRanges(repository, table), manifest.database.encoding),
      );
    }
    const totalBytes = sum(tables, table => table.bytes);
    await loadInTransaction({
      target: this.#target,
      applicationName: this.#applicationName,
      tasks,
      reader: new SegmentReader({
        fetch: id => repository.fetchSegment(id),
        secret: repository.secret,
      }),
      signal: this.#options.signal,
      onProgress: (doneBytes, rows) => this.#emit({ type: 'progress', doneBytes, totalBytes, rows }),
      beforeCommit: () => this.#section(archive, source, facts, 'data-only'),
    });
    const refreshes = source.entries.filter(entry => entry.kind === 'MATERIALIZED VIEW DATA');
    if (refreshes.length > 0) await this.#section(archive, source, facts, 'post-data', refreshes);
    await this.#analyze();
  }

  async #analyze(): Promise<void> {
    this.#emit({ type: 'phase', phase: 'analyze' });
    const refused = await analyzeAll(this.#target, this.#jobs, this.#options.signal);
    for (const message of refused)
      this.#warn(message, 'all rows are there; the planner lacks statistics of this table');
  }

  async #loadParallel(source: Source): Promise<void> {
    const { manifest, tables, repository } = source;
    const ranges = [];
    for (const table of tables) ranges.push(await readRanges(repository, table));
    const totalBytes = sum(tables, table => table.bytes);
    await loadTables({
      target: this.#target,
      applicationName: this.#applicationName,
      repository,
      items: planLoads(tables, ranges, manifest.database.encoding),
      jobs: this.#jobs,
      signal: this.#options.signal,
      onProgress: (doneBytes, rows) => this.#emit({ type: 'progress', doneBytes, totalBytes, rows }),
    });
  }

  #writeArchive(source: Source): Promise<ArchiveFile> {
    return ArchiveFile.write(
      source.pgRestore,
      source.repository.readSegments(source.manifest.archive.segments),
    );
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
      signal: this.#options.signal,
    });
  }

  /** A backup of single tables lacks the schemas they are in. */
  async #createSchemas(manifest: Manifest): Promise<void> {
    const names = missingSchemas(manifest);
    if (names.length === 0) return;
    const client = await openClient(this.#target);
    try {
      for (const name of names) {
        await queryRows(
          client,
          `CREATE SCHEMA IF NOT EXISTS ${quoteName(name)}`,
          `creating the schema ${name}`,
        );
      }
    } finally {
      await client.end();
    }
  }

  #warn(message: string, hint?: string): void {
    this.#warnings.push(message);
    this.#emit(hint === undefined ? { type: 'warning', message } : { type: 'warning', message, hint });
  }

  #emit(event: OperationEvent): void {
    this.#options.onEvent?.(event);
  }
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}
