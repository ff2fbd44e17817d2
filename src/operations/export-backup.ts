// Writes a backup as a plain SQL script that psql restores without pgkeep: definitions as pg_restore prints them, the
// rows as COPY blocks straight from the segments, then indexes and constraints.
import { PgkeepError, throwIfAborted } from '../base/errors.ts';
import { formatQuantity } from '../base/units.ts';
import { type ArchiveEntry, listArchive } from '../postgres/archive-contents.ts';
import { largeObjectPuts, statementsOf } from '../postgres/archive-script.ts';
import { quoteName } from '../postgres/identifiers.ts';
import { findPgRestore, type Program } from '../postgres/programs.ts';
import { type Environment, localEnvironment } from '../postgres/target.ts';
import type { Manifest, TableEntry } from '../repository/manifest.ts';
import { findBackup, Repository } from '../repository/repository.ts';
import { SegmentIds } from '../repository/segment-ids.ts';
import { openStorageToRead } from '../storage/open-storage.ts';
import type { StorageOptions } from '../storage/storage-options.ts';
import { type RunOptions, Teller } from './events.ts';
import { comment, rowSettings, rowSettingsBack, scriptHeader } from './export/script-header.ts';
import { openFileOutput, type ScriptOutput, StreamOutput } from './export/script-output.ts';
import { writeRows } from './export/script-rows.ts';
import { ArchiveFile, type PrintOptions } from './restore/archive-file.ts';
import { wholeTableTask } from './restore/load-plan.ts';
import { SegmentReader } from './restore/segment-reader.ts';
import { missingSchemas, restorableEntries, selectParts } from './restore/select-parts.ts';
import { packRanges } from './table-index.ts';

export interface ExportBackupOptions extends RunOptions {
  repository: string;
  /** How the storage is reached, where the address alone does not say it. */
  storage?: StorageOptions | undefined;
  encryptionKey?: string | undefined;
  /** A backup id or `latest`. */
  backup: string;
  /** Narrows `latest` to the backups of this database. */
  sourceDatabase?: string | undefined;
  /** A new file (mode 0600), or a stream, which is not ended. */
  output: string | NodeJS.WritableStream;
  /** Replace the file when it exists. */
  force?: boolean;
  /** Patterns as in pg_dump: only these tables, with what belongs to them. */
  tables?: readonly string[];
  schemaOnly?: boolean;
  /** Objects belong to the role that restores; comments on extensions are left out as well. */
  noOwner?: boolean;
  /** Leave out GRANT and REVOKE. */
  noPrivileges?: boolean;
  /** Begin with the roles that the backup names, for a server that lacks them. */
  roles?: boolean;
  environment?: Readonly<Record<string, string | undefined>>;
  /** A folder with PostgreSQL's client programs. */
  programs?: string | undefined;
}

export interface ExportBackupResult {
  backup: string;
  database: string;
  /** The file; `null` for a stream. */
  output: string | null;
  tables: number;
  rows: number;
  /** Of the script. */
  bytes: number;
  durationMs: number;
  warnings: string[];
}

/**
 * Exports a backup.
 * @throws PgkeepError what the repository or pg_restore failed with, OPTION_INVALID for the output, INTERRUPTED also
 * when the reader of a stream goes away. A file is then not there; a stream was cut off.
 */
export async function exportBackup(options: ExportBackupOptions): Promise<ExportBackupResult> {
  const output =
    typeof options.output === 'string'
      ? await openFileOutput(options.output, options.force ?? false)
      : new StreamOutput(options.output, options.signal);
  try {
    return await new Export(options, output).run();
  } catch (error) {
    throwIfAborted(options.signal);
    throw error;
  } finally {
    await output.discard();
  }
}

interface Source {
  repository: Repository;
  manifest: Manifest;
  pgRestore: Program;
  entries: ArchiveEntry[];
  tables: TableEntry[];
}

class Export {
  readonly #options: ExportBackupOptions;
  readonly #output: ScriptOutput;
  readonly #environment: Environment;
  readonly #startedAt = Date.now();
  readonly #teller: Teller;

  constructor(options: ExportBackupOptions, output: ScriptOutput) {
    this.#options = options;
    this.#teller = new Teller(options);
    this.#output = output;
    this.#environment = options.environment ?? process.env;
  }

  async run(): Promise<ExportBackupResult> {
    const storage = await openStorageToRead(
      this.#options.repository,
      this.#options.storage,
      this.#options.signal,
    );
    try {
      this.#teller.emit({ type: 'phase', phase: 'open-backup' });
      const repositoryKey = this.#options.encryptionKey;
      const metadata = await findBackup(
        storage,
        this.#options.backup,
        this.#options.sourceDatabase,
        message => this.#teller.warn(message),
      );
      const source = await this.#open(await Repository.open(storage, repositoryKey), metadata);
      await this.#write(source);
      const { tables } = source;
      const isWithRows = !this.#options.schemaOnly;
      return {
        backup: source.manifest.backup,
        database: source.manifest.database.name,
        output: typeof this.#options.output === 'string' ? this.#options.output : null,
        tables: tables.length,
        rows: isWithRows ? tables.reduce((sum, table) => sum + table.rows, 0) : 0,
        bytes: this.#output.bytes,
        durationMs: Date.now() - this.#startedAt,
        warnings: this.#teller.warnings,
      };
    } finally {
      await storage.close();
    }
  }

  async #open(repository: Repository, metadata: Parameters<Repository['readManifest']>[0]): Promise<Source> {
    const manifest = await repository.readManifest(metadata);
    const { archive } = manifest;
    const pgRestore = await findPgRestore(archive.programVersion, this.#options.programs, this.#environment);
    const all = await listArchive(
      pgRestore.file,
      repository.readSegments(archive.segments),
      localEnvironment(this.#environment),
      this.#options.signal,
    );
    const parts = selectParts(manifest, all, this.#options.tables ?? [], message =>
      this.#teller.warn(message),
    );
    const entries = restorableEntries(parts.entries, manifest, {
      schemaOnly: this.#options.schemaOnly ?? false,
      commentOnExtensions: !this.#options.noOwner,
    });
    // A key that is lost is better known before half a script is written.
    await Promise.all(manifest.keys.map(id => repository.dataKey(id)));
    return { repository, manifest, pgRestore, entries, tables: parts.tables };
  }

  async #write(source: Source): Promise<void> {
    const { repository, manifest, entries } = source;
    await using archive = await ArchiveFile.write(
      source.pgRestore,
      repository.readSegments(manifest.archive.segments),
    );
    this.#teller.emit({ type: 'phase', phase: 'write-definitions' });
    await this.#output.write(this.#header(source));
    for (const name of missingSchemas(manifest))
      await this.#output.write(`CREATE SCHEMA IF NOT EXISTS ${quoteName(name)};\n`);
    await this.#print(archive, { section: 'pre-data', entries });
    if (!this.#options.schemaOnly) {
      await this.#writeArchivedData(archive, entries);
      await this.#writeTables(source);
    }
    this.#teller.emit({ type: 'phase', phase: 'write-indexes' });
    await this.#output.write(`${comment('Indexes, constraints, triggers.')}\n`);
    await this.#print(archive, { section: 'post-data', entries });
    await this.#output.write(`${comment('The end.')}\n`);
    await this.#output.finish();
  }

  #header({ manifest, tables }: Source): string {
    const rows = tables.reduce((sum, table) => sum + table.rows, 0);
    const contents = this.#options.schemaOnly
      ? 'definitions only'
      : `${formatQuantity(tables.length, 'table')}, ${formatQuantity(rows, 'row')}`;
    if (this.#options.roles && 'missing' in manifest.globals) {
      throw new PgkeepError(
        'OPTION_INVALID',
        `${manifest.backup} holds no roles: ${manifest.globals.missing}`,
        {
          hint: 'export without --roles, and create them by hand',
        },
      );
    }
    return scriptHeader({
      manifest,
      roles: this.#options.roles ?? false,
      noOwner: this.#options.noOwner ?? false,
      noPrivileges: this.#options.noPrivileges ?? false,
      contents,
      warnings: this.#teller.warnings,
    });
  }

  /**
   * What the archive holds of data: values of sequences, rows of extensions' configuration, large objects. These are
   * filled before their privileges are set, which may take the right to write from their owner.
   */
  async #writeArchivedData(archive: ArchiveFile, entries: readonly ArchiveEntry[]): Promise<void> {
    const isContents = ({ kind }: ArchiveEntry) => kind === 'BLOBS';
    const isPrivilege = ({ text }: ArchiveEntry) => /^ACL - LARGE OBJECTS? /.test(text);
    const others = entries.filter(entry => !isContents(entry) && !isPrivilege(entry));
    await this.#print(archive, { section: 'data', entries: others });
    const contents = entries.filter(isContents);
    if (contents.length > 0) await this.#print(archive, { entries: contents }, largeObjectPuts);
    const privileges = entries.filter(isPrivilege);
    if (privileges.length > 0 && !this.#options.noPrivileges)
      await this.#print(archive, { entries: privileges });
  }

  async #writeTables({ repository, manifest, tables }: Source): Promise<void> {
    this.#teller.emit({ type: 'phase', phase: 'write-rows', detail: formatQuantity(tables.length, 'table') });
    await this.#output.write(`${rowSettings.join('\n')}\n\n`);
    const reader = new SegmentReader({ fetch: id => repository.fetchSegment(id), secret: repository.secret });
    const totalBytes = tables.reduce((sum, table) => sum + table.bytes, 0);
    let doneBytes = 0;
    let rows = 0;
    for (const [index, table] of tables.entries()) {
      if (table.rows === 0) continue;
      const ranges = await packRanges(repository, manifest, table, new SegmentIds());
      const task = wholeTableTask(index, table, ranges, manifest.database.encoding);
      await this.#output.write(
        `${comment(`${formatQuantity(table.rows, 'row')} of ${table.schema}.${table.name}`)}\n`,
      );
      await writeRows(this.#output, reader, task, bytes => {
        throwIfAborted(this.#options.signal);
        doneBytes += bytes;
        this.#teller.emit({ type: 'progress', doneBytes, totalBytes, rows });
      });
      rows += table.rows;
    }
    await this.#output.write(`${rowSettingsBack.join('\n')}\n\n`);
  }

  async #print(
    archive: ArchiveFile,
    { section, entries }: Pick<PrintOptions, 'section'> & { entries: readonly ArchiveEntry[] },
    change: (statements: AsyncIterable<Buffer>) => AsyncIterable<Buffer> = statements => statements,
  ): Promise<void> {
    await archive.print({
      ...(section && { section }),
      dumpIds: entries.map(entry => entry.dumpId),
      env: localEnvironment(this.#environment),
      noOwner: this.#options.noOwner ?? false,
      noPrivileges: this.#options.noPrivileges ?? false,
      signal: this.#options.signal,
      onScript: async script => {
        for await (const bytes of change(statementsOf(script))) await this.#output.write(bytes);
      },
    });
  }
}
