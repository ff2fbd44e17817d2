// The targets, each beside what was measured. The parts may have been measured on different days.

import { limitSteps, physicalLimitMs } from './physical-limit.ts';
import { megabytes, renderTable, verdict } from './report.ts';
import { measured, type Results } from './results.ts';
import type { Outcome } from './steps.ts';

export interface TargetRow {
  what: string;
  target: string;
  measured: string;
  /** Undefined where it was not measured. */
  isMet: boolean | undefined;
  /** Names of the parts it was taken from. */
  parts: readonly string[];
}

const maxMemoryBytes = 300e6;

export function renderTargets(results: Results): string {
  const sections = [
    '## Targets',
    'On 2 cores, with the server on the same machine. Ratios are those of medians of one part, which is named with the day of its run.',
    renderRows(mainTargets(results), results),
    '### Beside these',
    renderRows(furtherTargets(results), results),
  ];
  return `${sections.join('\n\n')}\n`;
}

function renderRows(rows: readonly TargetRow[], results: Results): string {
  const from = (part: string) => `${part}${results[part] === undefined ? '' : `, ${results[part].date}`}`;
  return renderTable(
    ['', 'target', 'measured', 'met', 'part'],
    rows.map(row => [
      row.what,
      row.target,
      row.measured,
      verdict(row.isMet, isMet => isMet),
      row.parts.map(from).join('; '),
    ]),
  );
}

export function mainTargets(results: Results): TargetRow[] {
  const create = measured(results, 'tools', 'create');
  const directory = measured(results, 'tools', 'dump-directory');
  const faster = (other: Outcome | undefined, own = create) => ratio(other?.wallMs, own?.wallMs);
  const limit = limitMs(results);
  const smaller = ratio(create?.storedBytes, directory?.storedBytes);
  const againstDirectory = faster(directory);
  const whole = measured(results, 'restores', 'restore');
  const table = measured(results, 'restores', 'restore-table');
  const tableSpeed = faster(whole, table);
  const reading = ratio(
    table?.traffic?.receivedBytes,
    measured(results, 'restores', 'create-table')?.storedBytes,
  );
  const isBoth = (one: number | undefined, least: number, other: number | undefined, most: number) =>
    one === undefined || other === undefined ? undefined : one >= least && other <= most;
  return [
    {
      what: 'first backup against `pg_dump -Fd -j2 -Z1`',
      target: '2x faster, 10 % smaller',
      measured: both(
        againstDirectory,
        smaller,
        (factor, share) => `${times(factor)}, ${((1 - share) * 100).toFixed(1)} % smaller`,
      ),
      isMet: isBoth(againstDirectory, 2, smaller, 0.9),
      parts: ['tools'],
    },
    speed('first backup against `pg_dump -Fc`', 5.5, faster(measured(results, 'tools', 'dump-custom'))),
    {
      ...speed(
        'first backup against `pg_dump \\| zstd -1 \\| openssl`',
        1,
        faster(measured(results, 'tools', 'dump-encrypted')),
      ),
      target: 'faster',
    },
    row(
      "first backup against the physical limit (server's own COPY to null on the same cores + zstd alone)",
      'within 1.1',
      ratio(create?.wallMs, limit),
      times,
      value => value <= 1.1,
    ),
    {
      ...speed(
        'restore whole against `pg_restore -j2`',
        1.2,
        faster(measured(results, 'restores', 'restore-directory'), whole),
      ),
      parts: ['restores'],
    },
    {
      what: 'restore one table of 2 %',
      target: '20x faster than restoring all, reading 1.1x its bytes',
      measured: both(tableSpeed, reading, (factor, share) => `${times(factor)}, reading ${times(share)}`),
      isMet: isBoth(tableSpeed, 20, reading, 1.1),
      parts: ['restores'],
    },
    memoryRow(results),
  ];
}

function furtherTargets(results: Results): TargetRow[] {
  const shapes = [
    ['tables', '10,000 tables of 10 rows'],
    ['wide', 'rows of 250 columns, and of a megabyte'],
    ['objects', '100,000 large objects'],
  ] as const;
  const startUps = [
    ['help', '`pgkeep --help`', 100],
    ['list', '`pgkeep list`', 150],
  ] as const;
  return [
    ...shapes.map(([part, what]) => ({
      ...speed(
        `first backup of ${what}, against \`pg_dump -Fc\``,
        1,
        ratio(
          measured(results, part, `${part}-dump-custom`)?.wallMs,
          measured(results, part, `${part}-create`)?.wallMs,
        ),
      ),
      target: 'no slower',
      parts: [part],
    })),
    ...startUps.map(([step, what, most]) => ({
      ...row(
        what,
        `under ${most} ms`,
        measured(results, 'start-up', step)?.wallMs,
        value => `${value.toFixed(0)} ms`,
        value => value < most,
      ),
      parts: ['start-up'],
    })),
  ];
}

/** Of the medians of the two runs that it is made of; undefined where one of them was not measured. */
export function limitMs(results: Results): number | undefined {
  const copy = measured(results, 'tools', limitSteps.copy);
  const compression = measured(results, 'tools', limitSteps.compression);
  return copy === undefined || compression === undefined ? undefined : physicalLimitMs(copy, compression);
}

/** The most of any run of pgkeep in any part of `npm run bench`. */
function memoryRow(results: Results): TargetRow {
  const peaks = Object.entries(results)
    .filter(([part]) => part !== 'incremental' && part !== 'storages')
    .flatMap(([part, { results: steps }]) =>
      steps
        .filter(({ step }) => /pgkeep (create|restore)/.test(step.title))
        .flatMap(({ step, outcomes }) =>
          outcomes.map(({ peakMemoryBytes }) => ({ peakMemoryBytes, part, name: step.name })),
        ),
    );
  const [most] = peaks.toSorted((a, b) => b.peakMemoryBytes - a.peakMemoryBytes);
  return {
    ...row(
      `peak memory, of any run but those of the last two parts below${most === undefined ? '' : `: ${most.name}`}`,
      `under ${megabytes(maxMemoryBytes)} MB at jobs 2`,
      most?.peakMemoryBytes,
      value => `${megabytes(value)} MB`,
      value => value < maxMemoryBytes,
    ),
    parts: most === undefined ? [] : [most.part],
  };
}

function speed(what: string, atLeast: number, value: number | undefined): TargetRow {
  return row(what, `${atLeast}x faster`, value, times, factor => factor >= atLeast);
}

function row(
  what: string,
  target: string,
  value: number | undefined,
  show: (value: number) => string,
  isMet: (value: number) => boolean,
): TargetRow {
  return {
    what,
    target,
    measured: value === undefined ? notMeasured : show(value),
    isMet: value === undefined ? undefined : isMet(value),
    parts: ['tools'],
  };
}

const notMeasured = 'not measured';

function ratio(above: number | undefined, below: number | undefined): number | undefined {
  return above === undefined || below === undefined ? undefined : above / below;
}

function both(
  one: number | undefined,
  other: number | undefined,
  show: (one: number, other: number) => string,
): string {
  return one === undefined || other === undefined ? notMeasured : show(one, other);
}

function times(value: number): string {
  return `${value.toFixed(2)}x`;
}
