import { describe, expect, test } from 'vitest';
import { renderChart } from '../../../bench/charts.ts';
import { physicalLimitMs } from '../../../bench/physical-limit.ts';
import type { Results, StepRecord } from '../../../bench/results.ts';
import { replacePart } from '../../../bench/results-file.ts';
import type { Outcome } from '../../../bench/steps.ts';
import { mainTargets } from '../../../bench/targets.ts';

const nothing: Outcome = {
  wallMs: 0,
  clientCpuMs: 0,
  serverCpuMs: 0,
  machineCpuMs: 0,
  peakMemoryBytes: 0,
  storedBytes: undefined,
};

test('the physical limit is the CPU of the server for the text and that of zstd, over the cores', () => {
  const copy = { ...nothing, wallMs: 99, clientCpuMs: 50, serverCpuMs: 13_000 };
  const compression = { ...nothing, wallMs: 99, clientCpuMs: 7_000, serverCpuMs: 50 };
  expect(physicalLimitMs(copy, compression)).toBe(10_000);
  expect(physicalLimitMs(copy, compression, 4)).toBe(5_000);
});

describe('targets', () => {
  function step(name: string, runs: readonly Partial<Outcome>[]): StepRecord {
    const outcomes = runs.map(run => ({ ...nothing, ...run }));
    return { step: { name, title: `\`pgkeep create\` ${name}`, group: 'first' }, outcomes };
  }
  function results(createWallMs: readonly number[], createBytes: number): Results {
    const tools = [
      step('dump-directory', [{ wallMs: 20_000, storedBytes: 1000 }]),
      step(
        'create',
        createWallMs.map(wallMs => ({ wallMs, storedBytes: createBytes, peakMemoryBytes: 200e6 })),
      ),
      step('copy-to-null', [{ serverCpuMs: 12_000 }]),
      step('zstd-alone', [{ clientCpuMs: 6_000 }]),
    ];
    return { tools: { date: '2026-01-01', circumstances: [], results: tools } };
  }
  const verdicts = (measured: Results) => mainTargets(measured).map(({ isMet }) => isMet);

  test('compare medians with each bound', () => {
    expect(verdicts(results([9_800, 9_000, 90_000], 900))).toEqual([
      true,
      undefined,
      undefined,
      true,
      undefined,
      undefined,
      true,
    ]);
    expect(verdicts(results([10_100], 900))[0]).toBe(false);
    expect(verdicts(results([9_800], 901))[0]).toBe(false);
    expect(verdicts(results([9_950], 900))[3]).toBe(false);
  });

  test('are neither met nor missed by what failed', () => {
    const measured = results([9_000], 900);
    const [part] = Object.values(measured);
    const failing = (part?.results ?? []).map(result => ({ ...result, failure: 'failed: no disk' }));
    const failed: Results = { tools: { date: '2026-01-01', circumstances: [], results: failing } };
    expect(mainTargets(failed)[0]).toMatchObject({
      measured: 'not measured',
      isMet: undefined,
    });
  });
});

test('a chart has a bar and a number for each value, in proportion', () => {
  const svg = renderChart({
    title: 'Times',
    subtitle: 'somewhere',
    unit: 's',
    bars: [
      { label: 'a <fast> one', value: 9.96, kind: 'own' },
      { label: 'another & slower', value: 19.92, kind: 'other' },
    ],
  });
  const widths = [...svg.matchAll(/class="(own|other)"[^>]* width="([\d.]+)"/g)].map(([, , width]) =>
    Number(width),
  );
  expect(widths).toHaveLength(2);
  expect(widths[1]).toBeCloseTo(2 * (widths[0] ?? 0), 0);
  expect(svg).toContain('>10.0 s<');
  expect(svg).toContain('>20 s<');
  expect(svg).toContain('<title id="title">Times, s</title>');
  expect(svg).toContain('a &lt;fast&gt; one');
  expect(svg).toContain('another &amp; slower');
});

test('a part takes its own place between those that stand there, and then the place of itself', () => {
  const order = ['first', 'second', 'third'];
  const both = replacePart(replacePart('# Head\n', 'third', 'c', order), 'first', 'a', order);
  const all = replacePart(both, 'second', 'b', order);
  expect([...all.matchAll(/begin: (\w+)/g)].map(([, name]) => name)).toEqual(order);
  const again = replacePart(all, 'second', 'B', order);
  expect(again).toBe(all.replace('\nb\n', '\nB\n'));
  expect(again.startsWith('# Head\n')).toBe(true);
});
