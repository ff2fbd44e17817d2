// The results of the backups that follow others, as a part of the file of results.

import { daysOfWeek, type StageName, stages } from './incremental.ts';
import {
  medianOutcome,
  megabytes,
  renderCosts,
  renderRuns,
  renderTable,
  type StepResult,
  verdict,
} from './report.ts';
import type { BackupTool, Outcome } from './steps.ts';

const nothingBytes = 100e3;
const slowerRestore = 1.2;
const maxMemoryBytes = 350e6;

export function renderIncrementalReport(
  circumstances: readonly string[],
  results: readonly StepResult[],
): string {
  const sections = [
    '## Backups that follow others',
    'Written by `npm run bench -- incremental`. Each tool makes its backups in a store of its own, after the same changes; who goes\nfirst rotates from round to round. What is stored is how much the files of the store grew; of pgBackRest without its archive\nof the write-ahead log.',
    circumstances.map(line => `- ${line}`).join('\n'),
    '### Targets of backups that follow others',
    renderTargets(results),
  ];
  for (const { name, title } of stages) {
    const members = results.filter(({ step }) => step.group === name);
    if (members.length > 0) sections.push(`### ${title}`, renderCosts(members));
  }
  const week = results.filter(({ step }) => step.group === 'week');
  if (week.length > 0) sections.push('### A week of daily backups, MB stored', renderWeek(week));
  const history = results.filter(({ step }) => step.group === 'history');
  if (history.length > 0) sections.push('### A history of small changes', renderCosts(history));
  sections.push('### Every run of backups that follow others', renderRuns(results));
  return `${sections.join('\n\n')}\n`;
}

function renderTargets(results: readonly StepResult[]): string {
  const rows: string[][] = [];
  const result = (name: string) => results.find(({ step }) => step.name === name);
  const outcome = (name: string) => medianOutcome(result(name)?.outcomes ?? []);
  const of = (stage: StageName | 'week', tool: BackupTool['name']) => outcome(`${stage} ${tool}`);
  const add = (
    what: string,
    target: string,
    value: number | undefined,
    show: (value: number) => string,
    isMet: (value: number) => boolean,
  ) => {
    rows.push([what, target, value === undefined ? 'not measured' : show(value), verdict(value, isMet)]);
  };
  const ratio = (above: number | undefined, below: number | undefined) =>
    above === undefined || below === undefined ? undefined : above / below;
  const times = (value: number) => `${value.toFixed(2)}x`;

  const faster: [StageName, number][] = [
    ['nothing', 10],
    ['scattered', 5],
    ['clustered', 8],
  ];
  for (const [stage, atLeast] of faster) {
    add(
      `speed of the first backup, after ${stage === 'nothing' ? stage : `${stage} changes`}`,
      `at least ${atLeast}x`,
      ratio(of('first', 'pgkeep')?.wallMs, of(stage, 'pgkeep')?.wallMs),
      times,
      value => value >= atLeast,
    );
  }
  add(
    'stored after nothing, beside the manifest',
    `under ${nothingBytes / 1e3} kB`,
    of('nothing', 'pgkeep')?.contentBytes,
    value => `${(value / 1e3).toFixed(1)} kB`,
    value => value < nothingBytes,
  );
  const scattered = of('scattered', 'pgkeep')?.storedBytes;
  const share = (value: number) => `${(value * 100).toFixed(1)} %`;
  add(
    'stored after scattered changes, of what restic stores',
    'at most 5 %',
    ratio(scattered, of('scattered', 'restic')?.storedBytes),
    share,
    value => value <= 0.05,
  );
  add(
    'stored after scattered changes, of what block-incremental pgBackRest stores',
    'under 100 %',
    ratio(scattered, of('scattered', 'block-incr')?.storedBytes),
    share,
    value => value < 1,
  );
  const sums = new Map(
    results
      .filter(({ step }) => step.group === 'week')
      .map(({ step, outcomes }) => [step.name, storedSum(outcomes)]),
  );
  const own = sums.get('week pgkeep');
  sums.delete('week pgkeep');
  add(
    'stored in a week, of what the next best tool stores',
    'under 100 %',
    sums.size === 0 ? undefined : ratio(own, Math.min(...sums.values())),
    share,
    value => value < 1,
  );
  add(
    'restore of a history, time of that of a full backup',
    `at most ${slowerRestore.toFixed(2)}x`,
    ratio(outcome('restore of the history')?.wallMs, outcome('restore of the full backup')?.wallMs),
    times,
    value => value <= slowerRestore,
  );
  const ours = results.filter(({ step }) => /^history|^restore| pgkeep$/.test(step.name));
  const peaks = ours.flatMap(({ outcomes }) => outcomes.map(run => run.peakMemoryBytes));
  add(
    'peak memory of any run of pgkeep',
    `under ${megabytes(maxMemoryBytes)} MB`,
    peaks.length === 0 ? undefined : Math.max(...peaks),
    value => `${megabytes(value)} MB`,
    value => value < maxMemoryBytes,
  );
  return renderTable(['', 'target', 'measured', 'met'], rows);
}

function renderWeek(results: readonly StepResult[]): string {
  const days = Array.from({ length: daysOfWeek }, (_, index) => `day ${index + 1}`);
  const rows = results.map(({ step, outcomes, failure }) => [
    failure === undefined ? step.title : `${step.title} (${failure})`,
    ...days.map((_, index) => {
      const stored = outcomes[index]?.storedBytes;
      return stored === undefined ? '' : megabytes(stored);
    }),
    megabytes(storedSum(outcomes)),
    ((medianOutcome(outcomes)?.wallMs ?? 0) / 1000).toFixed(1),
  ]);
  return renderTable(['', ...days, 'week', 'median wall s'], rows);
}

function storedSum(outcomes: readonly Outcome[]): number {
  return outcomes.reduce((sum, { storedBytes = 0 }) => sum + storedBytes, 0);
}
