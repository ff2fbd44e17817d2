// A restore in a process of its own that kills itself (SIGKILL) at a chosen step: before a statement of its main
// thread, before or after a program of PostgreSQL runs, when a worker has loaded something. `listSteps` says which
// steps a restore has, `dieAt` lets one die. As a program it takes a DyingRestore as JSON.

import childProcess from 'node:child_process';
import { syncBuiltinESMExports } from 'node:module';
import { resolve } from 'node:path';
import pg from 'pg';
import type { RestoreBackupOptions } from '../../src/operations/restore-backup.ts';
import { startModule } from './pgkeep-process.ts';

export interface DyingRestore {
  options: RestoreBackupOptions;
  /** The how many-th step it does not survive; 1 is the first. */
  step?: number;
  /** Dies so long after pg_restore was started for this section. */
  during?: { section: string; ms: number };
}

export interface Death {
  isKilled: boolean;
  /** What it did, as far as it was not killed. */
  steps: string[];
}

/** Runs a restore to the step that kills it, or to its end. @throws Error when it ends otherwise. */
export async function dieAt(dying: DyingRestore, environment: Record<string, string> = {}): Promise<Death> {
  const { exitCode, signal, out, err } = await startModule(import.meta.filename, dying, environment).ended;
  if (signal === 'SIGKILL') return { isKilled: true, steps: [] };
  if (exitCode !== 0) throw new Error(`the restore ended with ${signal ?? exitCode}: ${err}`);
  return { isKilled: false, steps: JSON.parse(out) as string[] };
}

/** What is asked again and again, or at the beginning of every session. */
const uncounted = /^(SET |SELECT 1$|SELECT current_setting)/;

async function main({ options, step, during }: DyingRestore): Promise<void> {
  const steps: string[] = [];
  const die = () => process.kill(process.pid, 'SIGKILL');
  const reach = (name: string) => {
    steps.push(name);
    if (steps.length === step) die();
  };

  const { query } = pg.Client.prototype;
  const counted = function (this: pg.Client, ...args: unknown[]): unknown {
    const first = args[0] as string | { text: string };
    const sql = typeof first === 'string' ? first : first.text;
    if (!uncounted.test(sql)) reach(sql.slice(0, 100).replaceAll(/\s+/g, ' '));
    return Reflect.apply(query, this, args);
  };
  Object.assign(pg.Client.prototype, { query: counted });

  const { spawn } = childProcess;
  const watched = (file: string, args: string[], settings: childProcess.SpawnOptions) => {
    const section = args.find(word => word.startsWith('--section='));
    if (section === undefined || args.includes('--list')) return spawn(file, args, settings);
    reach(`before ${section}`);
    const child = spawn(file, args, settings);
    if (section === `--section=${during?.section}`) setTimeout(die, during?.ms);
    child.once('close', () => reach(`after ${section}`));
    return child;
  };
  Object.assign(childProcess, { spawn: watched });
  syncBuiltinESMExports();

  // Imported only now, so that what it imports is what was put in place.
  const { restoreBackup } = await import('../../src/operations/restore-backup.ts');
  let loaded = '';
  await restoreBackup({
    ...options,
    environment: { PATH: process.env.PATH },
    onEvent: event => {
      if (event.type === 'phase') loaded = event.phase === 'data' ? 'rows' : event.phase;
      else if (event.type === 'progress') reach(`${loaded} loaded`);
    },
  });
  process.stdout.write(JSON.stringify(steps));
}

if (process.argv[1] === resolve(import.meta.filename))
  await main(JSON.parse(process.argv[2] ?? '{}') as DyingRestore);
