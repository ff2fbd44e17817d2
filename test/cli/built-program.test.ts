// bin/pgkeep.js and what was built into dist, as a process of its own.

import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';
import { newBackupId } from '../../src/repository/backup-id.ts';
import type { BackupMetadata } from '../../src/repository/metadata.ts';
import { Repository } from '../../src/repository/repository.ts';
import { openStorage } from '../../src/storage/open-storage.ts';
import { runCli } from '../support/cli-io.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

const program = resolve(import.meta.dirname, '../../bin/pgkeep.js');
const execute = promisify(execFile);

async function runNode(args: readonly string[], cwd = makeTempFolder('cli').path) {
  const result = await execute(process.execPath, args, { cwd, env: { PATH: process.env.PATH } }).catch(
    (error: { code: number; stdout: string; stderr: string }) => error,
  );
  return { exitCode: 'code' in result ? result.code : 0, out: result.stdout, err: result.stderr };
}

/** A module to load before the program. */
const before = (source: string) => ['--import', `data:text/javascript,${encodeURIComponent(source)}`];

test('says the same as the sources do', async () => {
  for (const argv of [['--help'], ['restore', '--help'], ['crate'], ['create', '--jobs', '0', '--json']]) {
    const built = await runNode([program, ...argv]);
    // Off a terminal the width is the same.
    expect(built).toEqual(await runCli(argv));
  }
});

test('help loads neither an operation nor the packages that operations and colours need', async () => {
  const { err } = await runNode(
    [
      ...before(`import { registerHooks } from 'node:module';
      registerHooks({ load(url, context, next) { console.error(url); return next(url, context); } });`),
      ...[program, '--help'],
    ].flat(),
  );
  const loaded = err.split('\n').filter(url => url.startsWith('file:'));
  expect(loaded.filter(url => url.includes('/commander/')).length).toBeGreaterThan(0);
  expect(loaded.filter(url => /\/node_modules\/(?!commander\/)|\/dist\/(?!cli\/|base\/)/.test(url))).toEqual(
    [],
  );
});

describe('answers within 150 ms', () => {
  const cwd = makeTempFolder('cli').path;
  // What else the machine does is not the program's time: the best of several, and where the processors are all
  // busy the time it was given of them.
  const sayTime =
    "process.on('exit', () => { const { user, system } = process.cpuUsage(); console.error((user + system) / 1000); })";

  async function quickestMs(words: readonly string[]): Promise<number> {
    const durations: number[] = [];
    for (let run = 0; run < 10; run++) {
      const start = performance.now();
      const { exitCode, err } = await runNode([...before(sayTime), ...words], cwd);
      durations.push(performance.now() - start, Number(err));
      expect(exitCode).toBe(0);
    }
    expect(durations).not.toContain(Number.NaN);
    return Math.min(...durations);
  }

  beforeAll(async () => {
    const storage = await openStorage(join(cwd, 'backups'));
    const repository = await Repository.create(storage, null);
    for (let index = 0; index < 20; index++)
      await repository.writeMetadata(metadataOf(newBackupId(new Date())));
    await storage.close();
  });

  test.each([['--help'], ['completion bash'], ['list']])('%s', async words => {
    // On a machine on which Node alone takes longer than usual, so does everything.
    const bareMs = await quickestMs(['--eval', '']);
    expect(await quickestMs([program, ...words.split(' ')])).toBeLessThan(Math.max(150, 4 * bareMs));
  });
});

function metadataOf(id: string): BackupMetadata {
  return {
    id,
    timestamp: '2022-01-20T13:20:00.000Z',
    version: '1.0.0',
    type: 'database',
    database: 'shop',
    tableCount: 17,
    recordCount: 1000,
    checksum: '00'.repeat(32),
    encrypted: false,
    compressed: true,
    sizeBytes: 1,
    storedBytes: 1,
    newBytes: 1,
    durationMs: 1,
    tags: [],
    reason: null,
    complete: true,
  };
}

describe('says what to do', () => {
  test('on a Node that is too old', async () => {
    const pretend = `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '22.17.1' } });`;
    expect(await runNode([...before(pretend), program, '--help'])).toEqual({
      exitCode: 1,
      out: '',
      err: expect.stringMatching(
        /^pgkeep: pgkeep needs Node\.js 22\.18 or newer, and this is 22\.17\.1\nhint: install /,
      ),
    });
  });

  test('when it was not built', async () => {
    const checkout = makeTempFolder('cli').path;
    mkdirSync(join(checkout, 'bin'));
    cpSync(program, join(checkout, 'bin/pgkeep.js'));
    writeFileSync(join(checkout, 'package.json'), '{ "type": "module" }');
    expect(await runNode([join(checkout, 'bin/pgkeep.js'), 'list'])).toEqual({
      exitCode: 1,
      out: '',
      err: 'pgkeep: pgkeep has not been built yet\nhint: run `npm run build`\n',
    });
  });
});

test('does not mind a reader that goes away', async () => {
  const script = '{ sleep 0.2; "$0" "$1" completion bash; echo "exit code $?" >&2; } | true';
  const { stderr } = await execute('bash', ['-c', script, process.execPath, program]);
  expect(stderr).toBe('exit code 0\n');
});
