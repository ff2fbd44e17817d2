// Charts of what was measured, as SVG in docs/charts, and the part of the README that shows them. Each is made once
// what it shows has been measured. Run by itself, it makes all of them again from results.json: node bench/charts.ts

import { mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { medianOutcome } from './report.ts';
import { type PartRecord, type Results, readResults } from './results.ts';
import { writePart } from './results-file.ts';
import type { Outcome } from './steps.ts';
import { limitMs } from './targets.ts';

export interface Bar {
  label: string;
  value: number;
  /** Those of pgkeep stand out; what no program reaches is an outline. */
  kind: 'own' | 'other' | 'limit';
}

export interface Chart {
  title: string;
  /** Where and when it was measured. */
  subtitle: string;
  unit: string;
  bars: readonly Bar[];
}

const root = resolve(import.meta.dirname, '..');

/** By the names of their files. */
const charts: Readonly<Record<string, (results: Results) => Chart | undefined>> = {
  'first-backup': results =>
    chartOf(results.tools, 'First backup', 's', 'first', wallSeconds, limitBar(results)),
  'restore-whole': ({ restores }) => chartOf(restores, 'Restore of everything', 's', 'whole', wallSeconds),
  'week-stored': ({ incremental }) =>
    chartOf(incremental, 'Stored by a week of daily backups after the first', 'MB', 'week', storedMegabytes),
};

/** Writes those that there are results for; others that are there already stay as they are. */
export async function writeCharts(results: Results): Promise<void> {
  const shown: string[] = [];
  for (const [name, make] of Object.entries(charts)) {
    const chart = make(results);
    if (chart === undefined) continue;
    const file = join('docs/charts', `${name}.svg`);
    await mkdir(join(root, 'docs/charts'), { recursive: true });
    await writeFile(join(root, file), renderChart(chart));
    shown.push(`![${chart.title}, ${chart.unit}](${file})`);
  }
  if (shown.length === 0) return;
  const rest = 'How this was measured, and the rest, is in [bench/RESULTS.md](bench/RESULTS.md).';
  await writePart(join(root, 'README.md'), 'charts', ['## Measured', ...shown, rest].join('\n\n'));
}

/** The runs of one section, shortest bar first; undefined where there are none of pgkeep. */
function chartOf(
  part: PartRecord | undefined,
  title: string,
  unit: string,
  section: string,
  figure: (outcomes: readonly Outcome[]) => number | undefined,
  further: readonly Bar[] = [],
): Chart | undefined {
  const bars = (part?.results ?? [])
    .filter(({ step, failure }) => step.group === section && failure === undefined)
    .flatMap(({ step, outcomes }): Bar[] => {
      const value = figure(outcomes);
      const label = step.title.replaceAll(/[`\\]/g, '');
      return value === undefined ? [] : [{ label, value, kind: label.includes('pgkeep') ? 'own' : 'other' }];
    });
  if (part === undefined || !bars.some(({ kind }) => kind === 'own')) return undefined;
  const sorted = [...further, ...bars].toSorted((a, b) => a.value - b.value);
  return { title, unit, subtitle: subtitleOf(part), bars: sorted };
}

function limitBar(results: Results): Bar[] {
  const limit = limitMs(results);
  const label = 'the limit: the server making the text and zstd -1 compressing it, and nothing else';
  return limit === undefined ? [] : [{ label, value: limit / 1000, kind: 'limit' }];
}

function wallSeconds(outcomes: readonly Outcome[]): number | undefined {
  const outcome = medianOutcome(outcomes);
  return outcome === undefined ? undefined : outcome.wallMs / 1000;
}

/** Of all runs together: each is a day. */
function storedMegabytes(outcomes: readonly Outcome[]): number | undefined {
  if (outcomes.length === 0) return undefined;
  return outcomes.reduce((sum, { storedBytes = 0 }) => sum + storedBytes, 0) / 1e6;
}

/** The lines about data and machine, without what only RESULTS.md has room for. */
function subtitleOf({ date, circumstances }: PartRecord): string {
  const line = (name: string) => circumstances.find(text => text.startsWith(name))?.slice(name.length) ?? '';
  const data = line('data (full): ').split(',')[0] ?? '';
  const machine = line('machine: ').split(',')[0] ?? '';
  const server =
    line('versions: ')
      .split(',')
      .find(text => text.includes('PostgreSQL'))
      ?.trim() ?? '';
  return [data, machine, server, date].filter(text => text !== '').join('; ');
}

const width = 760;
const margin = 16;
const firstRow = 76;
const rowHeight = 40;
/** Kept free at the right of the longest bar for its number. */
const numberWidth = 84;

/** A bar for each value, its label above it and its number behind it, readable on light and on dark ground. */
export function renderChart({ title, subtitle, unit, bars }: Chart): string {
  const most = Math.max(...bars.map(({ value }) => value));
  const full = width - 2 * margin - numberWidth;
  const height = firstRow + bars.length * rowHeight + margin / 2;
  const rows = bars.map(({ label, value, kind }, index) => {
    const y = firstRow + index * rowHeight;
    const length = Math.max(2, (value / most) * full).toFixed(1);
    const number = `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ${unit}`;
    return [
      `<text class="label" x="${margin}" y="${y}">${escapeXml(label)}</text>`,
      `<rect class="${kind}" x="${margin}" y="${y + 6}" width="${length}" height="14" rx="2"/>`,
      `<text class="number" x="${(margin + Number(length) + 8).toFixed(1)}" y="${y + 18}">${escapeXml(number)}</text>`,
    ].join('\n');
  });
  const spoken = bars.map(({ label, value }) => `${label}: ${value.toFixed(1)} ${unit}`).join('. ');
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-labelledby="title description">
<title id="title">${escapeXml(`${title}, ${unit}`)}</title>
<desc id="description">${escapeXml(spoken)}</desc>
<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.title { font-size: 17px; font-weight: 600; }
.subtitle { font-size: 12px; fill: #59636e; }
.number { font-weight: 600; }
.own { fill: #0969da; }
.other { fill: #afb8c1; }
.limit { fill: none; stroke: #59636e; stroke-dasharray: 4 3; }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc; }
.subtitle { fill: #9198a1; }
.own { fill: #4493f8; }
.other { fill: #656c76; }
.limit { stroke: #9198a1; }
}
</style>
<text class="title" x="${margin}" y="28">${escapeXml(`${title} (${unit}, less is better)`)}</text>
<text class="subtitle" x="${margin}" y="48">${escapeXml(subtitle)}</text>
${rows.join('\n')}
</svg>
`;
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

if (import.meta.main) await writeCharts(await readResults());
