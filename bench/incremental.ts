// Measures backups that follow others: what each tool needs and stores after the same changes, in a week of daily
// backups, and how fast a long history of small changes is restored. Every tool has made its earlier backups before
// the changes, which happen once for all of them; who goes first rotates from round to round.

import { join } from 'node:path';
import { takeBackup } from './backup-tools.ts';
import { changeClustered, changeDay, changeLittle, changeScattered } from './changes.ts';
import type { StepResult } from './report.ts';
import { runStep, say } from './run-step.ts';
import {
  type BackupTool,
  type Bench,
  create,
  remove,
  restore,
  restoreProgram,
  type Step,
  sources,
} from './steps.ts';

/** What can be measured by itself. */
export const incrementalParts = ['changes', 'week', 'history'] as const;

export interface IncrementalSize {
  pgbenchSeconds: number;
  /** Of each day of the week. */
  dayPgbenchSeconds: number;
  /** Backups that follow the first of the history to be restored. */
  historyCreates: number;
}

export const incrementalSizes = {
  full: { pgbenchSeconds: 60, dayPgbenchSeconds: 60, historyCreates: 30 },
  small: { pgbenchSeconds: 4, dayPgbenchSeconds: 4, historyCreates: 30 },
} as const satisfies Record<string, IncrementalSize>;

export interface IncrementalOptions extends IncrementalSize {
  rounds: number;
  isWanted(part: (typeof incrementalParts)[number]): boolean;
}

/** What happens before the backups of a stage; the first one starts with empty stores. */
export const stages = [
  { name: 'first', title: 'First backup' },
  { name: 'nothing', title: 'The next backup, after nothing' },
  { name: 'scattered', title: 'The next backup, after 0.1 % random updates, 1 % new rows and pgbench' },
  { name: 'clustered', title: 'The next backup, after 0.1 % updates clustered in time' },
] as const;
export type StageName = (typeof stages)[number]['name'];

export const daysOfWeek = 7;

/** @returns a result for each tool and stage, for each tool's week (a day is a round), and for the history. */
export async function measureIncremental(
  bench: Bench,
  tools: readonly BackupTool[],
  options: IncrementalOptions,
): Promise<StepResult[]> {
  const plan = new Plan(bench, tools);
  if (options.isWanted('changes')) {
    for (let round = 1; round <= options.rounds; round++) await measureChanges(plan, options, round);
  }
  if (options.isWanted('week')) await measureWeek(plan, options);
  if (options.isWanted('history')) await measureHistory(plan, options);
  return plan.results;
}

class Plan {
  readonly results: StepResult[] = [];
  readonly bench: Bench;
  readonly #tools: readonly BackupTool[];

  constructor(bench: Bench, tools: readonly BackupTool[]) {
    this.bench = bench;
    this.#tools = tools;
  }

  /** The result of a step that may run again; of the first run, the step counts. */
  result(step: Step): StepResult {
    const known = this.results.find(result => result.step.name === step.name);
    if (known !== undefined) return known;
    const result: StepResult = { step, outcomes: [] };
    this.results.push(result);
    return result;
  }

  /** Has every tool make a backup; one that failed before makes no more. */
  async backup(group: StageName | 'week', round: number): Promise<void> {
    for (const tool of rotate(this.#tools, round)) {
      const steps = this.results.filter(({ step }) => step.name.endsWith(` ${tool.name}`));
      if (steps.some(({ failure }) => failure !== undefined)) continue;
      const isFirst = group === 'first';
      const step: Step = {
        name: `${group} ${tool.name}`,
        title: tool.title,
        group,
        run: async bench => {
          if (isFirst) await tool.empty();
          return await takeBackup(bench, tool, isFirst);
        },
      };
      await runStep(this.bench, this.result(step), round);
    }
  }
}

/** Has another one go first each time. */
export function rotate<T>(values: readonly T[], by: number): T[] {
  const first = by % values.length;
  return [...values.slice(first), ...values.slice(0, first)];
}

async function measureChanges(
  plan: Plan,
  { pgbenchSeconds }: IncrementalOptions,
  round: number,
): Promise<void> {
  const { server } = plan.bench;
  await plan.backup('first', round);
  await plan.backup('nothing', round);
  say(`round ${round}: changing rows at random`);
  await changeScattered(server, 100 + round, pgbenchSeconds);
  await plan.backup('scattered', round);
  say(`round ${round}: changing rows clustered in time`);
  await changeClustered(server, 200 + round);
  await plan.backup('clustered', round);
}

async function measureWeek(plan: Plan, options: IncrementalOptions): Promise<void> {
  if (!options.isWanted('changes')) await plan.backup('first', 1);
  for (let day = 1; day <= daysOfWeek; day++) {
    say(`day ${day} of the week`);
    await changeDay(plan.bench.server, 300 + day, options.dayPgbenchSeconds);
    await plan.backup('week', day);
  }
}

/** A history of many small changes, and a backup of the same rows on its own; both are restored. */
async function measureHistory(plan: Plan, { historyCreates, rounds }: IncrementalOptions): Promise<void> {
  const { bench } = plan;
  const step = (name: string, title: string, run: Step['run']) =>
    plan.result({ name, title, group: 'history', run });
  const history = 'history';
  const alone = 'history-alone';
  await remove(bench, history);
  await remove(bench, alone);
  const first = step('history first', 'first `pgkeep create`', () => create(bench, sources.data, history));
  await runStep(bench, first, 1);
  const next = step('history create', 'the next ones, 0.02 % random updates before each', () =>
    create(bench, sources.data, history),
  );
  for (let number = 1; number <= historyCreates; number++) {
    await changeLittle(bench.server, 400 + number);
    await runStep(bench, next, number);
  }
  await runStep(
    bench,
    step('history alone', '`pgkeep create` of the same in a new repository', () =>
      create(bench, sources.data, alone),
    ),
    1,
  );
  const restores = [
    { name: 'restore of the history', repository: history },
    { name: 'restore of the full backup', repository: alone },
  ].map(({ name, repository }) =>
    step(name, name, () =>
      restore(bench, sources.data, async () => restoreProgram(bench, join(bench.folder, repository))),
    ),
  );
  for (let round = 1; round <= rounds; round++) {
    for (const result of rotate(restores, round)) await runStep(bench, result, round);
  }
}
