import { expect, test } from 'vitest';
import { PgkeepError } from '../../../../src/base/errors.ts';
import { reportError, reportWarning } from '../../../../src/cli/output/report.ts';
import { testIo } from '../../../support/cli-io.ts';

const error = new PgkeepError('KEY_WRONG', 'the key is another one', {
  hint: 'set BACKUP_ENCRYPTION_KEY',
  context: { recipients: ['a', 'b'] },
});

test('an error is a sentence with its code, and a hint; the exit code is that of the table', async () => {
  const io = testIo();
  expect(await reportError(error, false, io)).toBe(3);
  expect(io.err()).toBe('pgkeep: the key is another one [KEY_WRONG]\nhint: set BACKUP_ENCRYPTION_KEY\n');
  expect(io.out()).toBe('');
});

test('as JSON it is the one document on stdout', async () => {
  const io = testIo();
  await reportError(error, true, io);
  expect(JSON.parse(io.out())).toEqual({
    error: {
      code: 'KEY_WRONG',
      message: 'the key is another one',
      hint: 'set BACKUP_ENCRYPTION_KEY',
      context: { recipients: ['a', 'b'] },
    },
  });
});

test('a fault in the program shows where it arose, and asks for a report', async () => {
  const io = testIo();
  expect(await reportError(new RangeError('no such page'), false, io)).toBe(1);
  expect(io.err()).toMatch(/^pgkeep: RangeError: no such page \[INTERNAL\]\n {4}at /);
  expect(io.err()).toMatch(/hint: this is a fault in pgkeep: please report it\n$/);
});

test('colours are for terminals, unless NO_COLOR or FORCE_COLOR say otherwise', async () => {
  const coloured = async (isTTY: boolean, env: Record<string, string>) => {
    const io = testIo({ isTTY, env });
    await reportWarning('low on space', undefined, io);
    return io.err() !== 'warning: low on space\n';
  };
  expect(await coloured(true, {})).toBe(true);
  expect(await coloured(false, {})).toBe(false);
  expect(await coloured(true, { NO_COLOR: '1' })).toBe(false);
  expect(await coloured(true, { TERM: 'dumb' })).toBe(false);
  expect(await coloured(false, { FORCE_COLOR: '1' })).toBe(true);
  expect(await coloured(true, { FORCE_COLOR: '0' })).toBe(false);
});
