// What is measured: the runs of one round, in their order, each with the program it starts.

import { execFile } from 'node:child_process';
import { readdir, rm, stat } from 'node:fs/promises';
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
}

export interface Step {
  name: string;
  title: string;
  /** What it is shown with. */
  group: string;
  run(bench: Bench): Promise<Outcome>;
}

/** The databases the steps read. */
export const sources = { data: 'bench', bigRow: 'bigrow' } as const;

/** Connections and workers of whatever can have several. */
export const jobs = '2';
const cli = resolve(import.meta.dirname, '../bin/pgkeep.js');
const restored = 'restored';

export const steps: readonly Step[] = [
  {
    name: 'dump-custom',
    title: '`pg_dump -Fc`',
    group: 'backup',
    run: bench => dump(bench, 'custom.dump', ['-Fc']),
  },
  {
    name: 'dump-directory',
    title: '`pg_dump -Fd -j2 -Z1`',
    group: 'backup',
    run: bench => dump(bench, 'directory.dump', ['-Fd', `-j${jobs}`, '-Z1']),
  },
  {
    name: 'create',
    title: '`pgkeep create --jobs 2`, new repository, encrypted',
    group: 'backup',
    run: async bench => {
      await remove(bench, 'repository');
      return create(bench, sources.data, 'repository');
    },
  },
  {
    name: 'create-again',
    title: '`pgkeep create --jobs 2` again, nothing changed',
    group: 'backup',
    run: async bench => {
      await needs(bench, 'repository', 'create');
      return create(bench, sources.data, 'repository');
    },
  },
  {
    name: 'restore-directory',
    title: '`pg_restore -j2` of the directory',
    group: 'restore',
    run: async bench => {
      await needs(bench, 'directory.dump', 'dump-directory');
      return restore(bench, sources.data, async () => {
        await bench.server.createDatabase(restored, { template: 'template0' });
        return pgProgram(bench, 'pg_restore', [
          ...['--exit-on-error', `-j${jobs}`, '-d', bench.server.url(restored)],
          join(bench.folder, 'directory.dump'),
        ]);
      });
    },
  },
  {
    name: 'restore-directory-analyze',
    title: 'the same, then `vacuumdb --analyze-only -j2`',
    group: 'restore',
    run: async bench => {
      await needs(bench, 'directory.dump', 'dump-directory');
      return restore(bench, sources.data, async () => {
        await bench.server.createDatabase(restored, { template: 'template0' });
        const url = bench.server.url(restored);
        const commands = `"$0/pg_restore" --exit-on-error -j${jobs} -d "$1" "$2" && "$0/vacuumdb" --quiet --analyze-only -j${jobs} -d "$1"`;
        const args = ['-c', commands, bench.server.binDir, url, join(bench.folder, 'directory.dump')];
        return { command: '/bin/sh', args, env: environment() };
      });
    },
  },
  {
    name: 'restore',
    title: '`pgkeep restore --jobs 2 --create`, counts compared, analyzed',
    group: 'restore',
    run: async bench => {
      await needs(bench, 'repository', 'create');
      return restore(bench, sources.data, async () =>
        restoreProgram(bench, join(bench.folder, 'repository')),
      );
    },
  },
  {
    name: 'big-row-create',
    title: '`pgkeep create --jobs 2`',
    group: 'big row',
    run: async bench => {
      await remove(bench, 'big-row-repository');
      return create(bench, sources.bigRow, 'big-row-repository');
    },
  },
  {
    name: 'big-row-restore',
    title: '`pgkeep restore --jobs 2 --create`',
    group: 'big row',
    run: async bench => {
      await needs(bench, 'big-row-repository', 'big-row-create');
      return restore(bench, sources.bigRow, async () =>
        restoreProgram(bench, join(bench.folder, 'big-row-repository')),
      );
    },
  },
];

export interface StartUp {
  title: string;
  /** One run after the other. */
  wallMs: number[];
  failure?: string;
}

/** Times `--help` and `list` of the repository that `create` filled. */
export async function measureStartUps(bench: Bench, runs: number): Promise<StartUp[]> {
  const commands = [
    { title: '`pgkeep --help`', args: ['--help'] },
    {
      title: '`pgkeep list` of a local repository',
      args: ['list', '--repository', join(bench.folder, 'repository')],
    },
  ];
  const startUps: StartUp[] = [];
  for (const { title, args } of commands) {
    const startUp: StartUp = { title, wallMs: [] };
    startUps.push(startUp);
    try {
      for (let run = 0; run <= runs; run++) {
        const { wallMs } = await measure(pgkeep(bench, args), bench.server.pid ?? 0);
        // The first run compiles what the later ones find compiled.
        if (run > 0) startUp.wallMs.push(wallMs);
      }
    } catch (error) {
      startUp.failure = describeFailure(error);
    }
  }
  return startUps;
}

async function dump(bench: Bench, name: string, args: readonly string[]): Promise<Outcome> {
  await remove(bench, name);
  const target = join(bench.folder, name);
  const program = pgProgram(bench, 'pg_dump', [...args, '-f', target, bench.server.url(sources.data)]);
  return await measureStored(bench, program, target);
}

export async function create(bench: Bench, database: string, repository: string): Promise<Outcome> {
  const target = join(bench.folder, repository);
  const program = pgkeep(bench, ['create', '--repository', target, '--jobs', jobs], database);
  return await measureStored(bench, program, target);
}

async function measureStored(bench: Bench, program: Program, target: string): Promise<Outcome> {
  const before = await sizeOf(target);
  await settle(bench);
  const cost = await measure(program, bench.server.pid ?? 0);
  return { ...cost, storedBytes: (await sizeOf(target)) - before };
}

/** Restores into a database that is dropped afterwards, when its rows have been counted. @param table the only one restored. */
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
    if (expected !== counted) throw new Error(`of ${expected} rows, ${counted} were restored`);
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

function pgProgram(bench: Bench, name: string, args: readonly string[]): Program {
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

async function countRows(server: Server, database: string, table?: string): Promise<string> {
  const tables = await psql(
    server,
    database,
    `SELECT string_agg(format('SELECT count(*) FROM %s', oid::regclass), ' UNION ALL ')
     FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace${
       table === undefined ? '' : ` AND relname = '${table}'`
     }`,
  );
  return (await psql(server, database, `SELECT sum(count) FROM (${tables}) AS counts`)).trim();
}

/** @throws Error when the step before, whose result this one works on, has not run or has failed. */
async function needs(bench: Bench, name: string, step: string): Promise<void> {
  if ((await sizeOf(join(bench.folder, name))) === 0) throw new Error(`needs the result of ${step}`);
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
