// Whoever can write to the storage can put any bytes there. Each reader is given thousands of them.

import { resolve } from 'node:path';
import { expect, test } from 'vitest';
import type { FuzzOutcome } from '../../support/fuzz-readers.ts';
import { startModule } from '../../support/pgkeep-process.ts';
import { chosenSeed } from '../../support/seeded-random.ts';

test('bytes that are not what was written give an error with a code: no crash, no hang, no more than 350 MB', {
  timeout: 300_000,
}, async () => {
  const seed = chosenSeed();
  const script = resolve(import.meta.dirname, '../../support/fuzz-readers.ts');
  const run = startModule(script, { seed, cases: 400 });
  const hung = setTimeout(() => run.kill('SIGKILL'), 280_000);
  const { exitCode, signal, out, err } = await run.ended;
  clearTimeout(hung);
  const what = `PGKEEP_TEST_SEED=${seed}`;
  expect({ exitCode, signal, err, what }).toEqual({ exitCode: 0, signal: null, err: '', what });
  const outcome = JSON.parse(out) as FuzzOutcome;
  expect({ what, failures: outcome.failures }).toEqual({ what, failures: [] });
  expect(outcome.cases).toBeGreaterThan(5_000);
  // Not all of it is caught by the seal: what was sealed again with the right key is caught by its contents.
  expect(Object.keys(outcome.outcomes)).toEqual(
    expect.arrayContaining(['OBJECT_DAMAGED', 'REPOSITORY_UNSUPPORTED', 'REPOSITORY_MISMATCH', 'read']),
  );
  expect(outcome.maxRssMb).toBeLessThan(350);
  // Processor time, which other processes do not lengthen.
  expect(outcome.slowestCpuMs).toBeLessThan(10_000);
});
