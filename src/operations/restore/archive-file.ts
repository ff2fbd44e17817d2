// The schema archive as a private temporary file: pg_restore needs to seek in it. Runs pg_restore over its sections.
import { createWriteStream } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { type ProgramResult, programFailure, runProgram } from '../../base/child-process.ts';
import { foreignCode, PgkeepError } from '../../base/errors.ts';
import type { ArchiveEntry } from '../../postgres/archive-contents.ts';
import type { Program } from '../../postgres/programs.ts';

/** As pg_restore divides an archive; `data-only` is `data` with the creation of large objects, all or nothing. */
export type Section = 'pre-data' | 'data' | 'post-data' | 'data-only';

export interface SectionOptions {
  section: Section;
  /** Only these entries; all without it. */
  entries: readonly ArchiveEntry[];
  database: string;
  serverVersionNumber: number;
  env: Readonly<Record<string, string>>;
  jobs: number;
  noOwner: boolean;
  noPrivileges: boolean;
  signal: AbortSignal | undefined;
}

export interface PrintOptions {
  /** Without it, exactly the entries are printed, whatever they are. */
  section?: 'pre-data' | 'data' | 'post-data';
  entries: readonly ArchiveEntry[];
  env: Readonly<Record<string, string>>;
  noOwner: boolean;
  noPrivileges: boolean;
  signal: AbortSignal | undefined;
  onScript: (script: AsyncIterable<Buffer>) => Promise<void>;
}

const firstMajorWithTransactionTimeout = 17;

export class ArchiveFile implements AsyncDisposable {
  readonly #folder: string;
  readonly #program: Program;

  private constructor(folder: string, program: Program) {
    this.#folder = folder;
    this.#program = program;
  }

  /** Writes the archive out (folder 0700, file 0600). @throws PgkeepError STORAGE_FULL naming the temporary folder. */
  static async write(program: Program, contents: AsyncIterable<Buffer>): Promise<ArchiveFile> {
    const folder = await mkdtemp(path.join(tmpdir(), 'pgkeep-'));
    const file = new ArchiveFile(folder, program);
    try {
      await pipeline(contents, createWriteStream(file.#path, { mode: 0o600 }));
      return file;
    } catch (error) {
      await file[Symbol.asyncDispose]();
      if (foreignCode(error) !== 'ENOSPC') throw error;
      throw new PgkeepError('STORAGE_FULL', `no space left in ${tmpdir()} for the schema archive`, {
        hint: 'set TMPDIR to a folder with more space: large objects pass through it',
        cause: error,
      });
    }
  }

  get #path(): string {
    return path.join(this.#folder, 'schema.dump');
  }

  /** @throws PgkeepError PROGRAM_FAILED with the statement that failed. */
  async restoreSection(options: SectionOptions): Promise<void> {
    const list = path.join(this.#folder, `${options.section}.list`);
    await writeFile(list, options.entries.map(entry => `${entry.line}\n`).join(''), { mode: 0o600 });
    // Programs from 17 on set transaction_timeout, which older servers do not know and which harms nothing.
    const mustTolerate =
      this.#program.major >= firstMajorWithTransactionTimeout &&
      options.serverVersionNumber < firstMajorWithTransactionTimeout * 10000;
    const args = [
      `--dbname=dbname='${options.database.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`,
      options.section === 'data-only' ? '--data-only' : `--section=${options.section}`,
      `--use-list=${list}`,
      ...(mustTolerate ? [] : ['--exit-on-error']),
      // A transaction would end at the first error, also at one that is tolerated.
      ...(options.section === 'data-only' && !mustTolerate ? ['--single-transaction'] : []),
      ...(options.noOwner ? ['--no-owner'] : []),
      ...(options.noPrivileges ? ['--no-privileges'] : []),
      ...(options.section === 'post-data' && options.jobs > 1 ? [`--jobs=${options.jobs}`] : []),
      this.#path,
    ];
    const result = await runProgram({
      file: this.#program.file,
      args,
      env: options.env,
      signal: options.signal,
    });
    const isFine =
      result.status === 0 || (mustTolerate && result.status === 1 && saidOnlyTransactionTimeout(result));
    if (isFine) return;
    const said = mustTolerate ? fromFirstError(result) : result;
    throw programFailure(this.#program.file, said, `restoring the ${options.section} section`);
  }

  /** Prints entries as a script for psql. @throws PgkeepError PROGRAM_FAILED, and what `onScript` throws. */
  async print(options: PrintOptions): Promise<void> {
    const what = options.section ?? 'chosen';
    const list = path.join(this.#folder, `${what}.list`);
    await writeFile(list, options.entries.map(entry => `${entry.line}\n`).join(''), { mode: 0o600 });
    const result = await runProgram({
      file: this.#program.file,
      args: [
        '--file=-',
        ...(options.section === undefined ? [] : [`--section=${options.section}`]),
        `--use-list=${list}`,
        ...(options.noOwner ? ['--no-owner'] : []),
        ...(options.noPrivileges ? ['--no-privileges'] : []),
        this.#path,
      ],
      env: options.env,
      signal: options.signal,
      onStdout: options.onScript,
    });
    if (result.status !== 0) throw programFailure(this.#program.file, result, `printing the ${what} entries`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
  }
}

const isError = (line: string) => line.startsWith('pg_restore: error:');
/** The server's words may be in any language; the name is not. */
const isTolerable = (line: string) => line.includes('"transaction_timeout"');

function saidOnlyTransactionTimeout(result: ProgramResult): boolean {
  const errors = result.stderr.split('\n').filter(isError);
  return errors.length > 0 && errors.every(isTolerable);
}

/** A program that does not end at the first error goes on to errors that follow from it. */
function fromFirstError(result: ProgramResult): ProgramResult {
  const lines = result.stderr.split('\n');
  const first = lines.findIndex(line => isError(line) && !isTolerable(line));
  return first < 0 ? result : { ...result, stderr: lines.slice(first, first + 6).join('\n') };
}
