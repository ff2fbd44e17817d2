import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { readEncryptionKey } from '../../../src/cli/encryption-key.ts';
import { type GivenFlags, resolveOptions } from '../../../src/cli/options/resolve.ts';
import { makeTempFolder } from '../../support/temp-folder.ts';

let cwd: string;

beforeEach(() => {
  cwd = makeTempFolder('key').path;
  writeFileSync(join(cwd, 'key'), 'from the file\n');
});

const key = (given: GivenFlags, env: Record<string, string>) =>
  readEncryptionKey(resolveOptions('show', given, { cwd, env, now: () => 0 }));

const keyFile: GivenFlags = new Map([['keyFile', 'key']]);

test('the key is that of the environment, or that in the file named there', () => {
  expect(key(new Map(), {})).toBeUndefined();
  expect(key(new Map(), { BACKUP_ENCRYPTION_KEY: 'from the environment' })).toBe('from the environment');
  expect(key(new Map(), { BACKUP_ENCRYPTION_KEY_FILE: 'key' })).toBe('from the file');
});

test('a file named by a flag outranks the environment, one named in the configuration file does not', () => {
  const env = { BACKUP_ENCRYPTION_KEY: 'from the environment' };
  expect(key(keyFile, env)).toBe('from the file');
  writeFileSync(join(cwd, 'backup.config.json'), '{ "keyFile": "key" }');
  expect(key(new Map(), env)).toBe('from the environment');
  expect(key(new Map(), {})).toBe('from the file');
});

test('a file that is missing or empty is named', () => {
  expect(() => key(new Map([['keyFile', 'nokey']]), {})).toThrow(
    expect.objectContaining({
      code: 'KEY_MISSING',
      message: expect.stringMatching(/--key-file cannot be read: ENOENT/),
    }),
  );
  writeFileSync(join(cwd, 'key'), '\n');
  expect(() => key(keyFile, {})).toThrow(expect.objectContaining({ code: 'KEY_MISSING' }));
});
