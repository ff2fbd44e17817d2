// What a user sees of `pgkeep doctor`.

import { afterAll, beforeAll, expect, test } from 'vitest';
import { generateKey } from '../../src/crypto/key.ts';
import { runCli } from '../support/cli-io.ts';
import { runPgkeep } from '../support/pgkeep-process.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let server: Server;
const cwd = makeTempFolder('doctor').path;
const env: Record<string, string> = { BACKUP_ENCRYPTION_KEY: generateKey(), PATH: process.env.PATH ?? '' };

beforeAll(async () => {
  server = await startServer();
  await server.createDatabase('shop');
  await psql(server, 'shop', 'CREATE ROLE reader LOGIN; CREATE TABLE secret (n int)');
  env.DATABASE_URL = server.url('shop');
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

test('a line for each check on stdout, and exit code 0 although there are warnings', async () => {
  const { exitCode, out, err } = await runCli(['doctor'], { cwd, env });
  expect([exitCode, err]).toEqual([0, '']);
  expect(out).toMatch(/^ok {7}node {14}Node \d+/);
  expect(out).toMatch(
    /\nwarning {2}newest-backup {5}there is no backup of shop yet\n +to mend: pgkeep create\n/,
  );
  expect(out).toMatch(/\n26 checks: 25 ok, 1 warning, 0 failures, 0 skipped\n$/);
});

test('a failure has its own exit code, and as JSON too stdout holds the whole report', async () => {
  const given = { ...env, DATABASE_URL: server.url('shop', 'reader', 'hunter2') };
  const { exitCode, out, err } = await runCli(['doctor', '--json'], { cwd, env: given });
  expect(exitCode).toBe(11);
  const report = JSON.parse(out);
  expect(report).toMatchObject({ ok: false, counts: { failure: 1 } });
  expect(report.checks).toContainEqual({
    name: 'tables',
    status: 'failure',
    message: 'the role may not read public.secret',
    remedy: 'GRANT pg_read_all_data TO "reader"; or do without them: pgkeep create --skip-unreadable',
  });
  expect(err).toContain('pgkeep: 1 of 26 checks failed: tables [CHECK_FAILED]');
  expect(out + err).not.toContain('hunter2');
  expect(out + err).not.toContain(env.BACKUP_ENCRYPTION_KEY);
});

test('with nothing set at all it says what to set, as the built program too', async () => {
  const { exitCode, out } = await runPgkeep(['doctor']);
  expect(exitCode).toBe(11);
  expect(out).toMatch(/failure {2}database +no database was named\n +to mend: set DATABASE_URL/);
  expect(out).toMatch(/failure {2}key +a new repository is encrypted/);
  expect(out).toMatch(/ok +storage /);
});

test('a key file that is missing or open to others is one finding among others', async () => {
  const missing = await runCli(['doctor', '--key-file', 'none.key'], {
    cwd,
    env: { PATH: env.PATH ?? '', DATABASE_URL: env.DATABASE_URL ?? '' },
  });
  expect(missing.exitCode).toBe(11);
  expect(missing.out).toMatch(/failure {2}key +the key file of --key-file cannot be read/);
  expect(missing.out).toMatch(/ok +storage /);
});
