// The schema archive as a private temporary file: pg_restore needs to seek in it. The file has lost its name before
// anything is in it, so that nothing of it stays behind, however this process ends; pg_restore gets it as an open
// descriptor. Runs pg_restore over the archive's sections.
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type ProgramResult, type ProgramRun, programFailure, runProgram } from '../../base/child-process.ts';
import { foreignCode, PgkeepError } from '../../base/errors.ts';
import type { ArchiveEntry } from '../../postgres/archive-contents.ts';
import type { Program } from '../../postgres/programs.ts';
import { serverProgramFailure } from '../../postgres/server-error.ts';

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
  /** Without it, exactly these entries are printed, whatever they are. */
  section?: 'pre-data' | 'data' | 'post-data';
  dumpIds: readonly number[];
  env: Readonly<Record<string, string>>;
  noOwner: boolean;
  noPrivileges: boolean;
  signal: AbortSignal | undefined;
  onScript: (script: AsyncIterable<Buffer>) => Promise<void>;
}

/** How often an archive may be read. */
const maxReadings = 8;
const firstMajorWithTransactionTimeout = 17;

export class ArchiveFile implements AsyncDisposable {
  /** The same file, opened once for each reading: where /dev/fd duplicates a descriptor, its position is shared. */
  readonly #readings: FileHandle[];
  readonly #program: Program;

  private constructor(readings: FileHandle[], program: Program) {
    this.#readings = readings;
    this.#program = program;
  }

  /** Writes the archive out. @throws PgkeepError STORAGE_FULL naming the temporary folder. */
  static async write(program: Program, contents: AsyncIterable<Buffer>): Promise<ArchiveFile> {
    const [writing, ...readings] = await openNameless(1 + maxReadings);
    const file = new ArchiveFile(readings, program);
    try {
      for await (const bytes of contents) await writing?.writeFile(bytes);
      return file;
    } catch (error) {
      await file[Symbol.asyncDispose]();
      if (foreignCode(error) !== 'ENOSPC') throw error;
      throw new PgkeepError('STORAGE_FULL', `no space left in ${tmpdir()} for the schema archive`, {
        hint: 'set TMPDIR to a folder with more space',
        cause: error,
      });
    } finally {
      await writing?.close();
    }
  }

  /** @throws PgkeepError PROGRAM_FAILED with the statement that failed, DATABASE_CONNECTION_LOST. */
  async restoreSection(options: SectionOptions): Promise<void> {
    // Programs from 17 on set transaction_timeout, which older servers do not know and which harms nothing.
    const mustTolerate =
      this.#program.major >= firstMajorWithTransactionTimeout &&
      options.serverVersionNumber < firstMajorWithTransactionTimeout * 10000;
    const args = [
      `--dbname=dbname='${options.database.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`,
      options.section === 'data-only' ? '--data-only' : `--section=${options.section}`,
      ...(mustTolerate ? [] : ['--exit-on-error']),
      // A transaction would end at the first error, also at one that is tolerated.
      ...(options.section === 'data-only' && !mustTolerate ? ['--single-transaction'] : []),
      ...(options.noOwner ? ['--no-owner'] : []),
      ...(options.noPrivileges ? ['--no-privileges'] : []),
      ...(options.section === 'post-data' && options.jobs > 1 ? [`--jobs=${options.jobs}`] : []),
    ];
    const dumpIds = options.entries.map(entry => entry.dumpId);
    const result = await this.#read(dumpIds, { args, env: options.env, signal: options.signal });
    const isFine =
      result.status === 0 || (mustTolerate && result.status === 1 && saidOnlyTransactionTimeout(result));
    if (isFine) return;
    const said = mustTolerate ? fromFirstError(result) : result;
    throw serverProgramFailure(this.#program.file, said, `restoring the ${options.section} section`);
  }

  /** Prints entries as a script for psql. @throws PgkeepError PROGRAM_FAILED, and what `onScript` throws. */
  async print(options: PrintOptions): Promise<void> {
    const what = options.section ?? 'chosen';
    const result = await this.#read(options.dumpIds, {
      args: [
        '--file=-',
        ...(options.section === undefined ? [] : [`--section=${options.section}`]),
        ...(options.noOwner ? ['--no-owner'] : []),
        ...(options.noPrivileges ? ['--no-privileges'] : []),
      ],
      env: options.env,
      signal: options.signal,
      onStdout: options.onScript,
    });
    if (result.status !== 0) throw programFailure(this.#program.file, result, `printing the ${what} entries`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#readings.splice(0).map(reading => reading.close()));
  }

  /** Runs pg_restore over these entries of the archive. */
  async #read(
    dumpIds: readonly number[],
    run: Pick<ProgramRun, 'args' | 'env' | 'signal' | 'onStdout'>,
  ): Promise<ProgramResult> {
    const archive = this.#readings.pop();
    if (archive === undefined) throw new PgkeepError('INTERNAL', 'the archive was read too often');
    const [list, listWriting] = await openNameless(2);
    try {
      await listWriting?.writeFile(dumpIds.map(id => `${id};\n`).join(''));
      return await runProgram({
        ...run,
        file: this.#program.file,
        args: [...run.args, '--use-list=/dev/fd/4', '/dev/fd/3'],
        descriptors: [archive.fd, list?.fd ?? -1],
      });
    } finally {
      await Promise.all([archive, list, listWriting].map(handle => handle?.close()));
    }
  }
}

/** Opens a new file so many times, each with a position of its own, and removes its name. */
async function openNameless(count: number): Promise<FileHandle[]> {
  const folder = await mkdtemp(path.join(tmpdir(), 'pgkeep-'));
  const handles: FileHandle[] = [];
  try {
    while (handles.length < count)
      handles.push(await open(path.join(folder, 'archive'), handles.length === 0 ? 'wx+' : 'r+', 0o600));
    return handles;
  } catch (error) {
    await Promise.all(handles.map(handle => handle.close()));
    throw error;
  } finally {
    await rm(folder, { recursive: true, force: true });
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
