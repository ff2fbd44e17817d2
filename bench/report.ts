// The results as Markdown: medians of every step, and every single run.

import type { Group } from './groups.ts';
import type { Cost } from './measure.ts';
import { limitSteps, physicalLimitMs } from './physical-limit.ts';
import { jobs, type Outcome, type Step } from './steps.ts';

export interface StepResult {
  step: Step;
  outcomes: Outcome[];
  /** Why the step was given up. */
  failure?: string;
}

export interface Report {
  group: Pick<Group, 'name' | 'title' | 'sections'>;
  /** Lines about date, machine, versions, data and settings. */
  circumstances: readonly string[];
  results: readonly StepResult[];
}

/** A part about one group of `npm run bench`. */
export function renderReport({ group, circumstances, results }: Report): string {
  const sections = [
    `## ${group.title}`,
    `Written by \`npm run bench -- --only ${group.name}\`.`,
    circumstances.map(line => `- ${line}`).join('\n'),
  ];
  for (const [name, title] of Object.entries(group.sections)) {
    const members = results.filter(({ step }) => step.group === name);
    if (members.length === 0) continue;
    sections.push(`### ${title}`);
    if (group.name === 'start-up') sections.push(renderStartUps(members));
    else sections.push(renderCosts(members, [stored, sent, received]));
    const limit = describeLimit(members);
    if (limit !== undefined) sections.push(limit);
  }
  if (group.name !== 'start-up') sections.push('### Every run', renderRuns(results));
  return `${sections.join('\n\n')}\n`;
}

function describeLimit(results: readonly StepResult[]): string | undefined {
  const of = (name: string) => medianOutcome(results.find(({ step }) => step.name === name)?.outcomes ?? []);
  const [copy, compression] = [of(limitSteps.copy), of(limitSteps.compression)];
  if (copy === undefined || compression === undefined) return undefined;
  const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;
  return `The limit: ${seconds(copy.serverCpuMs)} of CPU of the server for the one and ${seconds(compression.clientCpuMs)} of zstd for the other, together on ${jobs} cores ${seconds(physicalLimitMs(copy, compression))}. Large tables are halved by ctid, so that both sessions are busy; zstd is ${jobs} threads over one file in the page cache. Encryption, hashing and storing are no part of it, nor is moving the text from the server to anybody.`;
}

/** A figure of an outcome, of which those that some steps do not have are left empty. */
interface Column {
  title: string;
  bytes(outcome: Outcome): number | undefined;
}

const stored: Column = { title: 'stored MB', bytes: ({ storedBytes }) => storedBytes };
/** What is written into a local folder is what was sent there; see the beginning of RESULTS.md. */
const sent: Column = {
  title: 'sent MB',
  bytes: ({ storedBytes, traffic }) =>
    storedBytes === undefined ? undefined : (traffic?.sentBytes ?? storedBytes),
};
const received: Column = { title: 'read MB', bytes: ({ traffic }) => traffic?.receivedBytes };

/** @param columns those shown beside the costs, where any step has them. */
export function renderCosts(results: readonly StepResult[], columns: readonly Column[] = [stored]): string {
  const lines = results.map(result => ({ ...result, outcome: medianOutcome(result.outcomes) }));
  const shown = columns.filter(({ bytes }) =>
    lines.some(({ outcome }) => outcome !== undefined && bytes(outcome) !== undefined),
  );
  const head = ['', ...costColumns, ...shown.map(({ title }) => title)];
  const rows = lines.map(({ step, failure, outcome }) => {
    if (outcome === undefined) return [step.title, failure ?? 'not run', ...head.slice(2).map(() => '')];
    const sizes = shown.map(({ bytes }) => bytes(outcome));
    return [
      failure === undefined ? step.title : `${step.title} (later failed: ${failure})`,
      ...renderCost(outcome),
      ...sizes.map(size => (size === undefined ? '' : megabytes(size))),
    ];
  });
  return renderTable(head, rows);
}

export const costColumns = ['wall s', 'CPU s client', 'CPU s server', 'peak memory MB'];

export function renderCost(cost: Cost): string[] {
  const times = [cost.wallMs, cost.clientCpuMs, cost.serverCpuMs].map(ms => (ms / 1000).toFixed(1));
  return [...times, megabytes(cost.peakMemoryBytes)];
}

function renderStartUps(results: readonly StepResult[]): string {
  const rows = results.map(({ step, outcomes, failure }) => {
    if (failure !== undefined) return [step.title, failure, '', '', ''];
    const wallMs = outcomes.map(outcome => outcome.wallMs);
    const figures = [median(wallMs), Math.min(...wallMs), Math.max(...wallMs)];
    return [step.title, ...figures.map(ms => ms.toFixed(0)), String(wallMs.length)];
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

export function verdict<T>(value: T | undefined, isMet: (value: T) => boolean): string {
  return value === undefined ? '' : isMet(value) ? 'yes' : '**no**';
}

export function megabytes(sizeBytes: number): string {
  const size = sizeBytes / 1e6;
  return size < 10 ? size.toFixed(1) : size.toFixed(0);
}
