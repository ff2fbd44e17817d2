// What a step of the benchmark is, and how the backups and restores of which steps consist are run and measured.

import { execFile } from 'node:child_process';
import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { psql, type Server } from '../test/support/postgres-server.ts';
import { type Cost, measure, type Program } from './measure.ts';

export interface Outcome extends Cost {
  /** Bytes that the run left on disk; undefined for a restore. */
  storedBytes: number | undefined;
  /** Of these, what is no manifest; only where manifests are files of their own. */
  contentBytes?: number;
  /** What pgkeep counted at its storage, where it was asked: see docs/json-output.md. */
  traffic?: { requests: number; sentBytes: number; receivedBytes: number };
}

/** Where the runs of a round happen. */
export interface Bench {
  server: Server;
  /** Holds what the runs write. */
  folder: string;
  key: string;
  /** Another tool for backups; the first call sets up all of them. */
  peer(name: BackupTool['name']): Promise<BackupTool>;
}

/** A tool that keeps backups in a store of its own. */
export interface BackupTool {
  name: 'pgkeep' | 'restic' | 'borg' | 'incr' | 'block-incr';
  title: string;
  /** Its name and version, but for pgkeep itself. */
  version?: string;
  /** Makes its store anew, empty. */
  empty(): Promise<void>;
  /** What makes a backup of everything, or the next one that builds on those before. */
  program(isFirst: boolean): Program;
  /** What writes the dump in its latest backup to its output, if it was fed one. */
  dump?: Pick<Program, 'command' | 'args' | 'env'>;
  /** Folder that holds its backups. */
  store: string;
  /** Of that, what is there for the backup as a whole rather than for its contents. */
  manifests?: string;
  /** What the server has to run for each segment of its log while backups are made. */
  archiveCommand?: string;
}

export interface Step {
  name: string;
  title: string;
  /** What it is shown with. */
  group: string;
  run(bench: Bench): Promise<Outcome>;
}

/** The databases the steps read. */
export const sources = {
  data: 'bench',
  tables: 'tables',
  bigTable: 'bigtable',
  wide: 'wide',
  objects: 'objects',
  bigRow: 'bigrow',
  tiny: 'tiny',
} as const;

/** Connections and workers of whatever can have several; as many as the cores that the targets are meant for. */
export const jobs = '2';
const cli = resolve(import.meta.dirname, '../bin/pgkeep.js');
const restored = 'restored';

/** Of `data`, the table that is restored by itself. */
export const oneTable = 'customer';

/** pg_dump into a file or folder that is made anew. */
export async function dump(
  bench: Bench,
  database: string,
  name: string,
  args: readonly string[],
): Promise<Outcome> {
  await remove(bench, name);
  const target = join(bench.folder, name);
  const program = pgProgram(bench, 'pg_dump', [...args, '-f', target, bench.server.url(database)]);
  return await measureStored(bench, program, target);
}

export async function create(
  bench: Bench,
  database: string,
  repository: string,
  args: readonly string[] = [],
): Promise<Outcome> {
  const target = join(bench.folder, repository);
  const command = ['create', '--repository', target, '--jobs', jobs, '--json', ...args];
  return await countTraffic(bench, pgkeep(bench, command, database), program =>
    measureStored(bench, program, target),
  );
}

/** Keeps the document that a pgkeep with --json prints, for what it counted at its storage. */
export async function countTraffic(
  bench: Bench,
  program: Program,
  work: (program: Program) => Promise<Outcome>,
): Promise<Outcome> {
  const output = join(bench.folder, 'result.json');
  const outcome = await work({ ...program, output });
  const { traffic }: Required<Pick<Outcome, 'traffic'>> = JSON.parse(await readFile(output, 'utf8'));
  return { ...outcome, traffic };
}

export async function measureStored(bench: Bench, program: Program, target: string): Promise<Outcome> {
  const before = await sizeOf(target);
  await settle(bench);
  const cost = await measure(program, bench.server.pid ?? 0);
  return { ...cost, storedBytes: (await sizeOf(target)) - before };
}

/** As {@link restore}, by pgkeep, from a repository in the bench's folder; its latest backup. */
export async function restoreRepository(
  bench: Bench,
  source: string,
  repository: string,
  table?: string,
): Promise<Outcome> {
  const choice = table === undefined ? [] : ['--tables', `public.${table}`];
  const program = restoreProgram(bench, join(bench.folder, repository), ['--json', ...choice]);
  return await countTraffic(bench, program, counted => restore(bench, source, async () => counted, table));
}

/** As {@link restore}, into an empty database whose address the program gets. */
export async function restoreInto(
  bench: Bench,
  source: string,
  program: (url: string) => Program,
  table?: string,
): Promise<Outcome> {
  const prepare = async () => {
    await bench.server.createDatabase(restored, { template: 'template0' });
    return program(bench.server.url(restored));
  };
  return await restore(bench, source, prepare, table);
}

/**
 * Restores into a database that is dropped afterwards, when its rows and large objects have been counted.
 * @param table the only one restored.
 */
export async function restore(
  bench: Bench,
  source: string,
  prepare: () => Promise<Program>,
  table?: string,
): Promise<Outcome> {
  const { server } = bench;
  try {
    const program = await prepare();
    await settle(bench);
    const cost = await measure(program, server.pid ?? 0);
    const [expected, counted] = [await countRows(server, source, table), await countRows(server, restored)];
    if (expected !== counted)
      throw new Error(`of ${expected} rows and large objects, ${counted} were restored`);
    return { ...cost, storedBytes: undefined };
  } finally {
    await server.dropDatabase(restored);
  }
}

/** @param repository its address, a folder's path or a URL. */
export function restoreProgram(bench: Bench, repository: string, args: readonly string[] = []): Program {
  const target = ['--to', bench.server.url(restored), '--create', '--jobs', jobs, '--yes'];
  const from = ['--repository', repository, '--backup-id', 'latest'];
  return pgkeep(bench, ['restore', ...from, ...target, ...args]);
}

export function pgkeep(bench: Bench, args: readonly string[], database = 'postgres'): Program {
  return {
    command: process.execPath,
    args: [cli, ...args],
    env: {
      ...environment(),
      DATABASE_URL: bench.server.url(database),
      BACKUP_ENCRYPTION_KEY: bench.key,
    },
  };
}

export function pgProgram(bench: Bench, name: string, args: readonly string[]): Program {
  return { command: join(bench.server.binDir, name), args, env: environment() };
}

export function environment(): Record<string, string> {
  return { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C.UTF-8' };
}

/** Has everybody's earlier writes on disk, so that no run pays for the one before. */
export async function settle(bench: Bench): Promise<void> {
  await psql(bench.server, 'postgres', 'CHECKPOINT');
  await promisify(execFile)('sync');
}

/** Of all tables and of large objects, or of one table. Table by table, as there may be ten thousand of them. */
async function countRows(server: Server, database: string, table?: string): Promise<string> {
  const chosen = table === undefined ? '' : `AND relname = '${table}'`;
  const objects = table === undefined ? '(SELECT count(*) FROM pg_largeobject_metadata)' : '0';
  const counts = `query_to_xml('SELECT count(*) AS n FROM ' || oid::regclass, false, true, '')`;
  const found = await psql(
    server,
    database,
    `SELECT coalesce(sum((xpath('/row/n/text()', ${counts}))[1]::text::bigint), 0) || ' and ' || ${objects}
     FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ${chosen}`,
  );
  return found.trim();
}

/** Makes what a step works on, unmeasured, where no earlier step has left it. */
export async function ensure(bench: Bench, name: string, make: () => Promise<unknown>): Promise<void> {
  if ((await sizeOf(join(bench.folder, name))) === 0) await make();
}

/** Programs joined by pipes, which fail when one of them does. */
export function pipeline(commands: readonly (readonly string[])[], env: Program['env']): Program {
  const line = commands.map(words => words.map(quote).join(' ')).join(' | ');
  return { command: '/bin/bash', args: ['-c', `set -o pipefail; ${line}`], env };
}

/** For a shell. */
export function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

export async function remove(bench: Bench, name: string): Promise<void> {
  await rm(join(bench.folder, name), { recursive: true, force: true });
}

/** One line, as it stands in a table. */
export function describeFailure(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return `failed: ${message.replaceAll(/\s+/g, ' ')}`;
}

/** Of a file, or of all files in a folder; 0 when there is none. */
export async function sizeOf(path: string): Promise<number> {
  const found = await stat(path).catch(() => undefined);
  if (!found?.isDirectory()) return found?.size ?? 0;
  let sum = 0;
  for (const entry of await readdir(path, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) sum += (await stat(join(entry.parentPath, entry.name))).size;
  }
  return sum;
}
