import { describe, expect, test } from 'vitest';
import type { PgkeepError } from '../../../../src/base/errors.ts';
import { parseCommandLine } from '../../../../src/cli/options/parse-command-line.ts';
import { testIo } from '../../../support/cli-io.ts';

const parse = (...argv: string[]) => parseCommandLine(argv, '1.2.3', testIo());

function parsed(...argv: string[]) {
  const commandLine = parse(...argv);
  if ('exitCode' in commandLine) throw new Error('help was printed');
  return { ...commandLine, given: Object.fromEntries(commandLine.given) };
}

test('flags are taken as text, and only those that were given', () => {
  expect(parsed('create', '-j4', '--tag', 'a', '--tag=b', '--no-encryption', '--json')).toEqual({
    command: 'create',
    argument: undefined,
    given: { jobs: '4', tags: ['a', 'b'], encryption: false, json: true },
  });
  expect(parsed('create').given).toEqual({});
});

test('the same flag may mean another option in another command', () => {
  expect(parsed('create', '--database', 'postgres://x').given).toEqual({ database: 'postgres://x' });
  expect(parsed('list', '--database', 'shop').given).toEqual({ databaseName: 'shop' });
});

test('an option of the environment or the file can be turned either way', () => {
  expect(parsed('create', '--encryption', '--no-private-metadata').given).toEqual({
    encryption: true,
    privateMetadata: false,
  });
});

test('restore takes the backup as argument or flag', () => {
  expect(parsed('restore', 'latest', '--yes').argument).toBe('latest');
  expect(parsed('restore', '--backup-id=latest').given).toEqual({ backupId: 'latest' });
});

test('commands of two words are one command', () => {
  expect(parsed('key', 'generate', '-o', 'f')).toEqual({
    command: 'key generate',
    argument: undefined,
    given: { outputFile: 'f' },
  });
});

describe('mistakes', () => {
  test.each([
    [['crate'], "unknown command 'crate'", 'did you mean create?'],
    [['create', '--jbos', '3'], "unknown option '--jbos'", 'did you mean --jobs?'],
    [['list', 'x'], "too many arguments for 'list': expected 0 arguments but got 1", 'see pgkeep --help'],
    [['create', '--jobs'], "option '-j, --jobs <n>' argument missing", 'see pgkeep --help'],
    [['completion'], "missing required argument 'shell'", 'see pgkeep --help'],
    [['key', 'genrate'], "unknown command 'genrate'", 'did you mean generate?'],
    [['list', '--encryption-key', 'abc'], "unknown option '--encryption-key'", 'see pgkeep --help'],
  ])('%j: %s', (argv, message, hint) => {
    expect(() => parse(...argv)).toThrow(
      expect.objectContaining({ code: 'OPTION_INVALID', message, hint }) as unknown as PgkeepError,
    );
  });
});

test('help and version are answers, a missing command is a mistake', () => {
  const answers = [
    ['--help'],
    ['help'],
    ['help', 'create'],
    ['create', '-h'],
    ['--version'],
    ['key', '--help'],
  ];
  for (const argv of answers) expect(parse(...argv), argv.join(' ')).toEqual({ exitCode: 0 });
  for (const argv of [[], ['key']]) expect(parse(...argv), argv.join(' ')).toEqual({ exitCode: 2 });
});
