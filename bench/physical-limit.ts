// The least that a first backup could take: the server making the text of all rows, for nobody, and zstd compressing
// that text at its fastest level, into nothing. Each is measured apart, with both cores busy; the limit is the CPU
// time of the two, spread evenly over the cores, as if nothing else had to be done.

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { psql } from '../test/support/postgres-server.ts';
import { type Cost, measure, type Program } from './measure.ts';
import { type Bench, environment, jobs, type Outcome, quote, settle, sizeOf, sources } from './steps.ts';

/** Tables that need less than this are read by one of the sessions, others by both. */
const dividedBytes = 8 * 1024 * 1024;
const text = 'rows.copy';

/** Names of the steps that measure the one and the other. */
export const limitSteps = { copy: 'copy-to-null', compression: 'zstd-alone' } as const;

/** @param cores that client and server share. */
export function physicalLimitMs(copy: Cost, compression: Cost, cores = Number(jobs)): number {
  return (copy.serverCpuMs + compression.clientCpuMs) / cores;
}

/** The server's COPY of all rows to /dev/null, by two sessions at once. */
export async function copyToNull(bench: Bench): Promise<Outcome> {
  const files = ['first.sql', 'second.sql'].map(name => join(bench.folder, name));
  const sessions: string[][] = [[], []];
  for (const [number, { name, pages, sizeBytes }] of (await listTables(bench)).entries()) {
    const half = `'(${Math.floor(pages / 2)},0)'`;
    const isDivided = sizeBytes > dividedBytes;
    for (const [session, statements] of sessions.entries()) {
      if (isDivided) {
        const rows = `SELECT * FROM ONLY ${name} WHERE ctid ${session === 0 ? '<' : '>='} ${half}`;
        statements.push(`COPY (${rows}) TO '/dev/null'`);
      } else if (number % sessions.length === session) statements.push(`COPY ${name} TO '/dev/null'`);
    }
  }
  for (const [session, file] of files.entries()) await writeFile(file, script(sessions[session] ?? []));
  await settle(bench);
  const [first = '', second = ''] = files.map(file => runScript(bench, file).map(quote).join(' '));
  // Each is waited for by itself: the status of a wait for several is that of the last.
  const commands = `${first} & one=$!; ${second} & two=$!; wait $one && wait $two`;
  const cost = await measure(
    { command: '/bin/bash', args: ['-c', commands], env: environment() },
    bench.server.pid ?? 0,
  );
  return { ...cost, storedBytes: undefined };
}

/** zstd, by two threads, of the text that COPY makes of all rows. */
export async function compressText(bench: Bench): Promise<Outcome> {
  const file = join(bench.folder, text);
  if ((await sizeOf(file)) === 0) await measure(await copyText(bench, file), bench.server.pid ?? 0);
  await settle(bench);
  const args = ['-1', `-T${jobs}`, '--quiet', '--stdout', file];
  const cost = await measure({ command: 'zstd', args, env: environment() }, bench.server.pid ?? 0);
  return { ...cost, storedBytes: undefined };
}

async function copyText(bench: Bench, output: string): Promise<Program> {
  const file = join(bench.folder, 'all.sql');
  await writeFile(file, script((await listTables(bench)).map(({ name }) => `COPY ${name} TO STDOUT`)));
  const [command = '', ...args] = runScript(bench, file);
  return { command, args, env: environment(), output };
}

/** Under the settings with which every tool here reads rows. */
function script(statements: readonly string[]): string {
  const settings = ["SET DateStyle = 'ISO'", "SET IntervalStyle = 'postgres'", 'SET extra_float_digits = 3'];
  return [...settings, ...statements].map(statement => `${statement};\n`).join('');
}

function runScript({ server }: Bench, file: string): string[] {
  const how = ['--no-psqlrc', '--quiet', '--set', 'ON_ERROR_STOP=1'];
  return [join(server.binDir, 'psql'), ...how, '--dbname', server.url(sources.data), '--file', file];
}

async function listTables(bench: Bench): Promise<{ name: string; pages: number; sizeBytes: number }[]> {
  const found = await psql(
    bench.server,
    sources.data,
    `SELECT oid::regclass, relpages, pg_table_size(oid) FROM pg_class
     WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY pg_table_size(oid) DESC, oid`,
  );
  return found
    .trim()
    .split('\n')
    .map(line => line.split('|'))
    .map(([name = '', pages, sizeBytes]) => ({ name, pages: Number(pages), sizeBytes: Number(sizeBytes) }));
}
