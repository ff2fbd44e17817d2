// Runs the built program as a process of its own, as a user does: what it prints, how it ends, signals in between.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { killAfterExit } from './after-exit.ts';
import { makeTempFolder } from './temp-folder.ts';

export interface Ending {
  exitCode: number | null;
  signal: NodeJS.Signals | null;
  out: string;
  err: string;
}

export interface PgkeepProcess {
  readonly pid: number;
  readonly out: () => string;
  readonly err: () => string;
  readonly ended: Promise<Ending>;
  kill(signal: NodeJS.Signals): void;
}

export interface PgkeepOptions {
  env?: Readonly<Record<string, string | undefined>>;
  /** An empty folder of its own by default, so that no .env or configuration file is found. */
  cwd?: string;
}

const program = resolve(import.meta.dirname, '../../bin/pgkeep.js');

/** Starts `pgkeep` with these words; of the environment it has PATH and what is given. */
export function startPgkeep(argv: readonly string[], options: PgkeepOptions = {}): PgkeepProcess {
  return watch(
    spawn(process.execPath, [program, ...argv], {
      cwd: options.cwd ?? makeTempFolder('cwd').path,
      env: { PATH: process.env.PATH, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  );
}

/** Starts another module of the tests the same way. */
export function startModule(file: string, argument: object, env: PgkeepOptions['env'] = {}): PgkeepProcess {
  return watch(
    spawn(process.execPath, [file, JSON.stringify(argument)], {
      env: { PATH: process.env.PATH, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  );
}

/** Runs `pgkeep` to its end. */
export async function runPgkeep(argv: readonly string[], options: PgkeepOptions = {}): Promise<Ending> {
  return await startPgkeep(argv, options).ended;
}

function watch(child: ChildProcess): PgkeepProcess {
  const { pid } = child;
  if (pid === undefined) throw new Error('the program did not start');
  const forget = killAfterExit(pid);
  const texts = { out: '', err: '' };
  child.stdout?.setEncoding('utf8').on('data', text => {
    texts.out += text;
  });
  child.stderr?.setEncoding('utf8').on('data', text => {
    texts.err += text;
  });
  const ended = once(child, 'close').then(([exitCode, signal]) => {
    forget();
    return { exitCode, signal, ...texts };
  });
  return {
    pid,
    out: () => texts.out,
    err: () => texts.err,
    ended,
    kill: signal => child.kill(signal),
  };
}
