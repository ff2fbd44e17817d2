// The command line as a whole, as far as it needs neither a repository nor a server.

import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { commandNames } from '../../src/cli/commands/table.ts';
import { runCli } from '../support/cli-io.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

describe('help', () => {
  test.each(commandNames)('of %s names its flags and shows examples', async command => {
    const { exitCode, out, err } = await runCli([...command.split(' '), '--help']);
    expect({ exitCode, err }).toEqual({ exitCode: 0, err: '' });
    expect(out).toContain(`Usage: pgkeep ${command}`);
    expect(out).toMatch(/\nExamples:\n {2}\S/);
  });

  test('is on stdout when asked for, and on stderr with exit code 2 when no command was given', async () => {
    const asked = await runCli(['--help']);
    expect(asked).toMatchObject({ exitCode: 0, err: '' });
    expect(asked.out).toContain('Start with:');
    const missing = await runCli([]);
    expect(missing).toEqual({ exitCode: 2, out: '', err: asked.out });
  });
});

test('--version prints the version of the package', async () => {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  expect(await runCli(['--version'])).toEqual({ exitCode: 0, out: `${version}\n`, err: '' });
});

describe('mistakes', () => {
  test('end with exit code 2, a sentence and a hint', async () => {
    expect(await runCli(['crate'])).toEqual({
      exitCode: 2,
      out: '',
      err: "pgkeep: unknown command 'crate' [OPTION_INVALID]\nhint: did you mean create?\n",
    });
  });

  test('are one JSON document with --json', async () => {
    const { exitCode, out } = await runCli(['create', '--jobs', 'many', '--json']);
    expect(exitCode).toBe(2);
    expect(JSON.parse(out)).toEqual({
      error: {
        code: 'OPTION_INVALID',
        message: "--jobs: 'many' is not a whole number from 1 to 64",
        context: { problems: ["--jobs: 'many' is not a whole number from 1 to 64"] },
      },
    });
  });

  test('in a configuration file name the file', async () => {
    const cwd = makeTempFolder('cli').path;
    writeFileSync(join(cwd, 'backup.config.json'), '{ "repositry": "x" }');
    expect(await runCli(['list'], { cwd })).toEqual({
      exitCode: 2,
      out: '',
      err: 'pgkeep: repositry in backup.config.json: is not a key of this file [CONFIG_INVALID]\nhint: did you mean repository?\n',
    });
  });

  test('of restore: no backup named', async () => {
    expect(await runCli(['restore'])).toMatchObject({
      exitCode: 2,
      err: expect.stringContaining('pgkeep restore latest'),
    });
  });

  test('never repeat a password', async () => {
    const { out, err } = await runCli(['create', '--database', 'host=a password=hunter2', '--json']);
    expect(out + err).not.toContain('hunter2');
  });
});

describe('key generate', () => {
  test('prints the key alone on stdout, a new one each time', async () => {
    const [first, second] = [await runCli(['key', 'generate']), await runCli(['key', 'generate'])];
    expect(first.out).toMatch(/^[0-9a-f]{64}\n$/);
    expect(second.out).not.toBe(first.out);
    expect(first.err).toContain('BACKUP_ENCRYPTION_KEY=');
    expect(first.err).not.toContain(first.out.trim());
  });

  test('--json holds it', async () => {
    const { out } = await runCli(['key', 'generate', '--json']);
    expect(JSON.parse(out)).toEqual({ key: expect.stringMatching(/^[0-9a-f]{64}$/) });
  });

  test('--output makes a file for the owner only, and never overwrites one', async () => {
    const cwd = makeTempFolder('cli').path;
    const argv = ['key', 'generate', '--output', 'shop.key'];
    const { exitCode, out, err } = await runCli(argv, { cwd });
    expect({ exitCode, out }).toEqual({ exitCode: 0, out: '' });
    const file = join(cwd, 'shop.key');
    expect(err).toContain(`BACKUP_ENCRYPTION_KEY_FILE=${file}`);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const key = readFileSync(file, 'utf8');
    expect(key).toMatch(/^[0-9a-f]{64}\n$/);

    expect(await runCli(argv, { cwd })).toMatchObject({
      exitCode: 2,
      err: expect.stringContaining('never overwritten'),
    });
    expect(readFileSync(file, 'utf8')).toBe(key);
  });

  test('--output says why a file cannot be made', async () => {
    const cwd = makeTempFolder('cli').path;
    const { exitCode, err } = await runCli(['key', 'generate', '-o', 'missing/shop.key'], { cwd });
    expect(exitCode).toBe(2);
    expect(err).toMatch(/missing\/shop\.key cannot be written: ENOENT/);
  });
});
