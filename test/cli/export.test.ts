// pgkeep export and recovery-kit as commands: what goes to stdout, what to stderr, and how pipes end.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runCli } from '../support/cli-io.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, testKey } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

const program = resolve(import.meta.dirname, '../../bin/pgkeep.js');
const folder = makeTempFolder('export-command');
let server: Server;
let env: Record<string, string>;

beforeAll(async () => {
  server = await startServer();
  await server.createDatabase('shop');
  await psql(
    server,
    'shop',
    `CREATE TABLE notes AS SELECT n, repeat(md5(n::text), 50) AS t FROM generate_series(1, 5000) n`,
  );
  await backUp(server, 'shop', join(folder.path, 'backups'));
  env = {
    PATH: `${server.binDir}:${process.env.PATH}`,
    BACKUP_ENCRYPTION_KEY: testKey,
    PGKEEP_PROGRAMS: server.binDir,
    PGHOST: server.socketDir,
    PGPORT: String(server.port),
    PGUSER: 'postgres',
  };
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await folder.remove();
});

/** A command line of bash, where `pgkeep` is the built program; it fails when any part of a pipe does. */
function bash(commandLine: string) {
  const text = `set -o pipefail; pgkeep() { '${process.execPath}' '${program}' "$@"; }; ${commandLine}`;
  const { status, stdout, stderr } = spawnSync('bash', ['--norc', '-c', text], {
    cwd: folder.path,
    env,
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}

test('a pipe to psql makes the database anew', async () => {
  await server.createDatabase('piped');
  const { status, stderr } = bash('pgkeep export latest | psql -X -q -o /dev/null -v ON_ERROR_STOP=1 piped');
  expect(status, stderr).toBe(0);
  expect(stderr).toMatch(/^exported backup-\S+ of shop: 1 table, 5,000 rows, \S+ MiB of SQL/m);
  const digest = 'SELECT count(*), md5(string_agg(t, n::text ORDER BY n)) FROM notes';
  expect(await psql(server, 'piped', digest)).toBe(await psql(server, 'shop', digest));
});

test('a reader that goes away ends the export in a sentence, and not as if all were well', () => {
  const { status, stdout, stderr } = bash('pgkeep export latest --quiet | head -c 100');
  expect(stdout).toHaveLength(100);
  expect(stderr).toBe('pgkeep: the reader of the script went away before its end [INTERRUPTED]\n');
  expect(status).toBe(130);
});

test('the script is all that is on standard output; with --output nothing is', async () => {
  const options = { cwd: folder.path, env };
  const piped = await runCli(['export', '--backup-id', 'latest', '--output', '-'], options);
  expect(piped.exitCode, piped.err).toBe(0);
  const filed = await runCli(['export', 'latest', '-o', 'shop.sql'], options);
  expect(filed).toMatchObject({ exitCode: 0, out: '' });
  expect(filed.err).toContain(`to ${join(folder.path, 'shop.sql')}: 1 table`);
  expect(readFileSync(join(folder.path, 'shop.sql'), 'utf8')).toBe(piped.out);
  const again = await runCli(['export', 'latest', '-o', 'shop.sql'], options);
  expect(again).toMatchObject({ exitCode: 2, err: expect.stringMatching(/exists already.*--force/s) });
  expect(await runCli(['export', 'latest', '-o', 'shop.sql', '--force'], options)).toMatchObject({
    exitCode: 0,
  });
});

test('what cannot be is said before anything is read', async () => {
  const options = { cwd: folder.path, env };
  expect(await runCli(['export'], options)).toMatchObject({
    exitCode: 2,
    err: expect.stringContaining('not said'),
  });
  const json = await runCli(['export', 'latest', '--json'], options);
  expect(json.exitCode).toBe(2);
  expect(JSON.parse(json.out)).toMatchObject({ error: { message: expect.stringContaining('--output') } });
});

test('the recovery kit is named, file by file', async () => {
  const { exitCode, out, err } = await runCli(['recovery-kit'], { cwd: folder.path, env: {} });
  expect([exitCode, out]).toEqual([0, '']);
  expect(err).toContain('recovery/pgkeep-recover.mjs: current\n');
  expect(err).toContain('Of an encrypted repository it needs the key');
  expect(existsSync(join(folder.path, 'backups/recovery/README.txt'))).toBe(true);
  const nowhere = await runCli(['recovery-kit', '--repository', 'nowhere'], { cwd: folder.path, env: {} });
  expect(nowhere.err).toContain('[REPOSITORY_NOT_FOUND]');
});
