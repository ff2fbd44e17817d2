// What a user sees of a backup that leaves out what the role may not read.

import { afterAll, beforeAll, expect, test } from 'vitest';
import { generateKey } from '../../src/crypto/key.ts';
import { runCli } from '../support/cli-io.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let server: Server;
const cwd = makeTempFolder('partial').path;
const env: Record<string, string> = { BACKUP_ENCRYPTION_KEY: generateKey() };

beforeAll(async () => {
  server = await startServer();
  await server.createDatabase('shop');
  await psql(
    server,
    'shop',
    'CREATE ROLE reader LOGIN; CREATE TABLE open AS SELECT 1 AS n; CREATE TABLE secret AS SELECT 1 AS n; GRANT SELECT ON open TO reader; CREATE VIEW v AS SELECT * FROM secret',
  );
  env.DATABASE_URL = server.url('shop', 'reader');
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

test('without the option the tables are named and nothing is stored', async () => {
  const { exitCode, err } = await runCli(['create'], { cwd, env });
  expect(exitCode).toBe(5);
  expect(err).toContain('the role may not read public.secret');
});

test('with it the backup is printed as a result, what is missing as an error, and the exit code is its own', async () => {
  const { exitCode, out, err } = await runCli(['create', '--skip-unreadable', '--json'], { cwd, env });
  expect(exitCode).toBe(10);
  const result = JSON.parse(out);
  expect(result).toMatchObject({
    complete: false,
    tables: 1,
    leftOut: [
      { schema: 'public', name: 'secret', kind: 'table', reason: 'the role may not read it', missing: true },
      { schema: 'public', name: 'v', kind: 'view', missing: true },
    ],
  });
  expect(err).toContain(`incomplete backup ${result.id} of shop`);
  expect(err).toContain(
    `pgkeep: ${result.id} is incomplete; missing from it: [BACKUP_PARTIAL]
  table public.secret: the role may not read it
  view public.v: it needs public.secret, which the role may not read
hint: grant the role`,
  );

  const listed = await runCli(['list'], { cwd, env });
  expect(listed.out).toMatch(/ STATE .*incomplete: 2 missing /s);
  const shown = await runCli(['show', result.id], { cwd, env });
  expect(shown.out).toContain('Complete    no: 2 things missing, see below');
  expect(shown.out).toMatch(/public\.v +view +yes +it needs public\.secret/);
  const latest = await runCli(['show'], { cwd, env });
  expect(latest.exitCode).toBe(4);
  expect(latest.err).toContain('no complete backup');

  const plan = await runCli(['restore', result.id, '--create', '--dry-run'], {
    cwd,
    env: { ...env, RESTORE_DATABASE_URL: server.url('shop_copy') },
  });
  expect(plan.exitCode, plan.err).toBe(0);
  expect(plan.err).toContain(`warning: ${result.id} is incomplete: it lacks public.secret`);
});

test('quiet or not, what is missing is said', async () => {
  const { exitCode, err } = await runCli(['create', '--skip-unreadable', '--quiet'], { cwd, env });
  expect(exitCode).toBe(10);
  expect(err).toMatch(/^pgkeep: backup-\S+ is incomplete/);
});
