// What was measured, as it was measured: every run of every step of the parts of RESULTS.md, in results.json. Targets
// and charts are made from it, so they can be made again without measuring.

import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { medianOutcome, type StepResult } from './report.ts';
import type { Outcome } from './steps.ts';

/** A step's runs; what it does is not kept. */
export interface StepRecord extends Omit<StepResult, 'step'> {
  step: { name: string; title: string; group: string };
}

export interface PartRecord {
  /** Day of the run, as in 2026-11-21. */
  date: string;
  /** Lines about machine, versions, data and settings, of which the first few are for everybody. */
  circumstances: readonly string[];
  results: readonly StepRecord[];
}

/** By the names of groups of `npm run bench`, and `incremental` and `storages`. */
export type Results = Readonly<Record<string, PartRecord>>;

const file = join(import.meta.dirname, 'results.json');

/** Empty before anything was measured. */
export async function readResults(): Promise<Results> {
  if (!existsSync(file)) return {};
  const results: Results = JSON.parse(await readFile(file, 'utf8'));
  return results;
}

/** Puts a part in the place of what an earlier run measured. @returns all there is now. */
export async function keepResults(
  name: string,
  circumstances: readonly string[],
  results: readonly StepResult[],
): Promise<Results> {
  const part: PartRecord = {
    date: new Date().toISOString().slice(0, 10),
    circumstances,
    results: results.map(({ step: { name, title, group }, ...runs }) => ({
      step: { name, title, group },
      ...runs,
    })),
  };
  const all = { ...(await readResults()), [name]: part };
  await writeFile(file, `${JSON.stringify(all, null, 1)}\n`);
  return all;
}

/** Undefined where the step was not measured, or failed in one of its runs. */
export function measured(results: Results, part: string, step: string): Outcome | undefined {
  const found = results[part]?.results.find(result => result.step.name === step);
  return found === undefined || found.failure !== undefined ? undefined : medianOutcome(found.outcomes);
}
