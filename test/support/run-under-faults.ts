// One operation of the library in a process of its own, under faults of the storage, which may kill it. `runUnderFaults`
// starts it; as a program it takes a FaultyRun as JSON and prints its outcome as JSON.

import { resolve } from 'node:path';
import { type ErrorCode, errorToData } from '../../src/base/errors.ts';
import type * as library from '../../src/index.ts';
import { type Fault, type Request, withFaults } from './faulty-storage.ts';
import { startModule } from './pgkeep-process.ts';

/** The operations: whatever the library offers that takes options with a repository. */
type Operations = {
  [Name in keyof typeof library as (typeof library)[Name] extends (
    options: {
      repository: string;
    } & never,
  ) => Promise<unknown>
    ? Name
    : never]: (typeof library)[Name];
};

export interface FaultyRun<Name extends keyof Operations = keyof Operations> {
  operation: Name;
  options: Parameters<Operations[Name]>[0];
  faults: readonly Fault[];
  /** The folder whose storage has them. */
  folder: string;
}

export interface FaultyOutcome {
  /** Killed by a fault; the rest is then unknown. */
  isKilled: boolean;
  result?: unknown;
  error?: { code: ErrorCode; message: string };
  /** What the operation asked of the storage; empty when it was killed. */
  requests: Request[];
  happened: Fault[];
}

/**
 * Runs one operation to its end, or to the fault that kills it.
 * @param env added to the environment of the process.
 * @param folder of the storage that fails; the repository's by default.
 * @throws Error with what the process said when it ended otherwise.
 */
export async function runUnderFaults<Name extends keyof Operations>(
  operation: Name,
  options: FaultyRun<Name>['options'],
  faults: readonly Fault[] = [],
  env: Readonly<Record<string, string>> = {},
  folder = options.repository,
): Promise<FaultyOutcome> {
  const run: FaultyRun<Name> = { operation, options, faults, folder };
  const { exitCode, signal, out, err } = await startModule(import.meta.filename, run, env).ended;
  if (signal === 'SIGKILL') return { isKilled: true, requests: [], happened: [] };
  if (exitCode !== 0) throw new Error(`${operation} ended with ${signal ?? exitCode}: ${err}`);
  return JSON.parse(out) as FaultyOutcome;
}

async function main(argument: string): Promise<void> {
  const { operation, options, faults, folder } = JSON.parse(argument) as FaultyRun;
  const operations: Readonly<Record<string, unknown>> = await import('../../src/index.ts');
  const perform = operations[operation] as (given: object) => Promise<unknown>;
  using storage = withFaults(folder, faults);
  const outcome: FaultyOutcome = await perform({ environment: { PATH: process.env.PATH }, ...options }).then(
    result => ({ isKilled: false, result, requests: storage.requests, happened: storage.happened }),
    error => ({
      isKilled: false,
      error: errorToData(error),
      requests: storage.requests,
      happened: storage.happened,
    }),
  );
  process.stdout.write(JSON.stringify(outcome));
}

if (process.argv[1] === resolve(import.meta.filename)) await main(process.argv[2] ?? '');
