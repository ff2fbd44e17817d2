// The results as Markdown: the targets beside what was measured, medians of every step, every single run.

import type { Cost } from './measure.ts';
import type { Outcome, StartUp, Step } from './steps.ts';

export interface StepResult {
  step: Step;
  outcomes: Outcome[];
  /** Why the step was given up. */
  failure?: string;
}

export interface Report {
  /** Lines about date, machine, versions, data and settings. */
  circumstances: readonly string[];
  results: readonly StepResult[];
  startUps: readonly StartUp[];
}

const groupTitles = {
  backup: 'Backup',
  restore: 'Restore',
  'big row': 'A row with more than 200 MB of text',
} as const;
export const maxMemoryBytes = 350e6;
const maxStartUpMs = 150;

export function renderReport({ circumstances, results, startUps }: Report): string {
  const sections = [
    '# Results of the benchmark',
    'Written by `npm run bench`, which makes the data, runs the programs one after the other in each round, and takes\nmedians. One machine: read the times as ratios. MB are 1,000,000 bytes. Memory is the most that all processes of a\nrun held at one moment, what they share counted for each; CPU of the client is that of the program and its\nchildren, CPU of the server that of all its processes meanwhile.',
    circumstances.map(line => `- ${line}`).join('\n'),
    '## Targets',
    renderTargets(results, startUps),
  ];
  for (const [group, title] of Object.entries(groupTitles)) {
    const members = results.filter(({ step }) => step.group === group);
    if (members.length > 0) sections.push(`## ${title}`, renderCosts(members));
  }
  if (startUps.length > 0) sections.push('## Start-up', renderStartUps(startUps));
  sections.push('## Every run', renderRuns(results));
  return `${sections.join('\n\n')}\n`;
}

function renderTargets(results: readonly StepResult[], startUps: readonly StartUp[]): string {
  const costs = new Map(results.map(result => [result.step.name, medianOutcome(result.outcomes)]));
  const rows: string[][] = [];
  const compare = (
    what: string,
    of: string,
    to: string,
    atLeast: number,
    figure: (outcome: Outcome) => number | undefined,
  ) => {
    const [own, other] = [costs.get(of), costs.get(to)].map(outcome => outcome && figure(outcome));
    const ratio = own === undefined || other === undefined ? undefined : other / own;
    const measured = ratio === undefined ? 'not measured' : `${ratio.toFixed(2)}x`;
    rows.push([what, `at least ${atLeast.toFixed(2)}x`, measured, verdict(ratio, value => value >= atLeast)]);
  };
  const wall = (outcome: Outcome) => outcome.wallMs;
  const stored = (outcome: Outcome) => outcome.storedBytes;
  compare('first backup, speed of `pg_dump -Fd -j2 -Z1`', 'create', 'dump-directory', 1.7, wall);
  compare('first backup, speed of `pg_dump -Fc`', 'create', 'dump-custom', 4.5, wall);
  compare('bytes of `pg_dump -Fd -j2 -Z1` to ours', 'create', 'dump-directory', 1, stored);
  compare('bytes of `pg_dump -Fc` to ours', 'create', 'dump-custom', 1, stored);
  compare('restore, speed of `pg_restore -j2`', 'restore', 'restore-directory', 1, wall);
  for (const { step, outcomes } of results) {
    if (!/^(big-row-)?(create|restore)$/.test(step.name)) continue;
    const peak = outcomes.length === 0 ? undefined : Math.max(...outcomes.map(run => run.peakMemoryBytes));
    rows.push([
      `peak memory of any run, ${step.name}`,
      `under ${megabytes(maxMemoryBytes)} MB`,
      peak === undefined ? 'not measured' : `${megabytes(peak)} MB`,
      verdict(peak, value => value < maxMemoryBytes),
    ]);
  }
  for (const { title, wallMs, failure } of startUps) {
    const time = failure === undefined ? median(wallMs) : undefined;
    rows.push([
      title,
      `under ${maxStartUpMs} ms`,
      time === undefined ? 'not measured' : `${time.toFixed(0)} ms`,
      verdict(time, value => value < maxStartUpMs),
    ]);
  }
  return renderTable(['', 'target', 'measured', 'met'], rows);
}

export function renderCosts(results: readonly StepResult[]): string {
  const rows = results.map(({ step, outcomes, failure }) => {
    const outcome = medianOutcome(outcomes);
    if (outcome === undefined) return [step.title, failure ?? 'not run', '', '', '', ''];
    return [
      failure === undefined ? step.title : `${step.title} (later failed: ${failure})`,
      ...renderCost(outcome),
      outcome.storedBytes === undefined ? '' : megabytes(outcome.storedBytes),
    ];
  });
  return renderTable(['', ...costColumns, 'stored MB'], rows);
}

export const costColumns = ['wall s', 'CPU s client', 'CPU s server', 'peak memory MB'];

export function renderCost(cost: Cost): string[] {
  const times = [cost.wallMs, cost.clientCpuMs, cost.serverCpuMs].map(ms => (ms / 1000).toFixed(1));
  return [...times, megabytes(cost.peakMemoryBytes)];
}

function renderStartUps(startUps: readonly StartUp[]): string {
  const rows = startUps.map(({ title, wallMs, failure }) => {
    if (failure !== undefined) return [title, failure, '', '', ''];
    const figures = [median(wallMs), Math.min(...wallMs), Math.max(...wallMs)];
    return [title, ...figures.map(ms => ms.toFixed(0)), String(wallMs.length)];
  });
  return renderTable(['', 'median ms', 'least', 'most', 'runs'], rows);
}

export function renderRuns(results: readonly StepResult[]): string {
  const rows = results.flatMap(({ step, outcomes }) =>
    outcomes.map((outcome, index) => [step.name, String(index + 1), ...renderCost(outcome)]),
  );
  return renderTable(['step', 'round', ...costColumns], rows);
}

export function renderTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

/** Each figure's own median, but of the memory the most: a bound is a bound. */
export function medianOutcome(outcomes: readonly Outcome[]): Outcome | undefined {
  const [first] = outcomes;
  if (first === undefined) return undefined;
  const of = (figure: (outcome: Outcome) => number) => median(outcomes.map(figure));
  return {
    wallMs: of(outcome => outcome.wallMs),
    clientCpuMs: of(outcome => outcome.clientCpuMs),
    serverCpuMs: of(outcome => outcome.serverCpuMs),
    machineCpuMs: of(outcome => outcome.machineCpuMs),
    peakMemoryBytes: Math.max(...outcomes.map(outcome => outcome.peakMemoryBytes)),
    storedBytes: first.storedBytes === undefined ? undefined : of(outcome => outcome.storedBytes ?? 0),
    ...(first.contentBytes !== undefined && { contentBytes: of(outcome => outcome.contentBytes ?? 0) }),
    ...(first.traffic !== undefined && {
      traffic: {
        requests: of(outcome => outcome.traffic?.requests ?? 0),
        sentBytes: of(outcome => outcome.traffic?.sentBytes ?? 0),
        receivedBytes: of(outcome => outcome.traffic?.receivedBytes ?? 0),
      },
    }),
  };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
}

export function verdict(value: number | undefined, isMet: (value: number) => boolean): string {
  return value === undefined ? '' : isMet(value) ? 'yes' : '**no**';
}

export function megabytes(sizeBytes: number): string {
  const size = sizeBytes / 1e6;
  return size < 10 ? size.toFixed(1) : size.toFixed(0);
}
