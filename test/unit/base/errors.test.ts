import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import { errorFromData, errorTable, errorToData, exitCodes, PgkeepError } from '../../../src/base/errors.ts';
import { errorsDocument } from '../../support/documents/errors.ts';

const documented = new URL('../../../docs/errors.md', import.meta.url);

test('docs/errors.md is written from the error table', async () => {
  await expect(errorsDocument()).toMatchFileSnapshot(documented.pathname);
});

test('that document names every code and every exit code', () => {
  const text = errorsDocument();
  for (const code of Object.keys(errorTable)) expect(text).toContain(`| \`${code}\` |`);
  for (const [kind, exitCode] of Object.entries(exitCodes))
    expect(text).toContain(`| ${exitCode} | ${kind} |`);
});

test('every kind of failure has an exit code of its own, and codes that use it', () => {
  expect(new Set(Object.values(exitCodes)).size).toBe(Object.keys(exitCodes).length);
  const used = new Set<string>(Object.values(errorTable).map(({ kind }) => kind));
  expect([...used, 'success'].sort()).toEqual(Object.keys(exitCodes).sort());
});

test('an error survives the way through plain data', () => {
  const error = new PgkeepError('KEY_WRONG', 'the key is another one', {
    hint: 'find it',
    context: { tries: 2 },
  });
  const copy = errorFromData(structuredClone(errorToData(error)));
  expect(copy).toBeInstanceOf(PgkeepError);
  expect(inspect(errorToData(copy))).toBe(inspect(errorToData(error)));
  expect(copy.exitCode).toBe(exitCodes.key);
});

test('what is not ours becomes INTERNAL, with the place it came from', () => {
  const data = errorToData(new TypeError('x is undefined'));
  expect(data.code).toBe('INTERNAL');
  expect(data.message).toContain('TypeError: x is undefined\n    at ');
});
