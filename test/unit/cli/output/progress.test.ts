import { setTimeout } from 'node:timers/promises';
import { stripVTControlCharacters } from 'node:util';
import { describe, expect, test } from 'vitest';
import { startProgress } from '../../../../src/cli/output/progress.ts';
import type { OperationEvent } from '../../../../src/operations/events.ts';
import { testIo } from '../../../support/cli-io.ts';

const mebibyte = 2 ** 20;
const progress = (doneBytes: number): OperationEvent => ({
  type: 'progress',
  doneBytes: doneBytes * mebibyte,
  totalBytes: 100 * mebibyte,
  rows: 0,
});

/** Half a minute of a backup, one event a second. */
async function showRun(options: {
  quiet?: boolean;
  isTTY?: boolean;
  env?: Record<string, string>;
}): Promise<string> {
  let now = 0;
  const io = testIo({ ...options, now: () => now });
  const shown = await startProgress(options.quiet ?? false, io);
  shown.onEvent({ type: 'phase', phase: 'lock', detail: '17 tables' });
  shown.onEvent({ type: 'phase', phase: 'data' });
  for (let second = 0; second <= 30; second++) {
    now = second * 1000;
    shown.onEvent(progress(second * 4));
  }
  // The redrawn line follows the clock on the wall.
  if (options.isTTY) await setTimeout(200);
  shown.onEvent({ type: 'warning', message: 'roles were not read', hint: 'connect as a superuser' });
  shown.warn(['roles were not read', 'the disk is nearly full']);
  shown.stop();
  shown.stop();
  return stripVTControlCharacters(io.err());
}

const warnings = `warning: roles were not read
  hint: connect as a superuser
warning: the disk is nearly full
`;

describe('without a terminal', () => {
  const lines = `locking the tables: 17 tables
copying the rows
copying the rows: 40.0 MiB of about 100 MiB, 4.00 MiB/s, 15.0 s left
copying the rows: 80.0 MiB of about 100 MiB, 4.00 MiB/s, 5.0 s left
copying the rows: 120 MiB, 4.00 MiB/s
`;

  test('there is a line per step and one every ten seconds, and each warning once', async () => {
    expect(await showRun({})).toBe(lines + warnings);
  });

  test('CI counts as no terminal', async () => {
    expect(await showRun({ isTTY: true, env: { CI: 'true', NO_COLOR: '1' } })).toBe(lines + warnings);
  });
});

test('that a run is held back stands behind how far it is', async () => {
  const io = testIo({ now: () => 0 });
  const shown = await startProgress(false, io);
  const heldBack = { workers: 1, jobs: 4, activeSessions: 9 };
  shown.onEvent({ type: 'progress', doneBytes: 0, totalBytes: mebibyte, rows: 0, heldBack });
  expect(io.err()).toMatch(/ of about 1\.00 MiB, held back to 1 of 4 workers by 9 active sessions\n$/);
});

test('on a terminal one line is redrawn, and warnings stand', async () => {
  const text = await showRun({ isTTY: true, env: { NO_COLOR: '1', TERM: 'xterm' } });
  expect(text).toContain('warning: roles were not read\n  hint: connect as a superuser\n');
  expect(text).toContain('copying the rows: 120 MiB, 4.00 MiB/s');
  expect(text).not.toContain('copying the rows\n');
});

test('quiet leaves only the warnings', async () => {
  expect(await showRun({ quiet: true })).toBe(warnings);
  expect(await showRun({ quiet: true, isTTY: true, env: { NO_COLOR: '1' } })).toBe(warnings);
});
