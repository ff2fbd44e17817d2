// On a terminal, restore shows its plan and asks; everywhere else it does as it was told.

import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { run } from '../../src/cli/main.ts';
import { runCli, testIo } from '../support/cli-io.ts';
import { type Server, startServer } from '../support/postgres-server.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let server: Server;
const cwd = makeTempFolder('restore').path;
const env: Record<string, string> = { PGKEEP_ENCRYPTION: 'false', NO_COLOR: '1', CI: 'true' };

beforeAll(async () => {
  server = await startServer();
  env.DATABASE_URL = server.url(await server.createDatabase('shop'));
  await query('shop', 'CREATE TABLE customer AS SELECT 1 AS id');
  const { exitCode, err } = await runCli(['create'], { cwd, env });
  expect(exitCode, err).toBe(0);
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

async function query(database: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: server.url(database) });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

const tablesOf = (database: string) =>
  query(database, `SELECT relname FROM pg_class WHERE relname = 'customer'`);

/** Restores into a new database on a terminal where this was typed. */
async function restoreTyping(database: string, typed: string, ...flags: string[]) {
  const io = testIo({ cwd, env, isTTY: true });
  io.typed.end(typed);
  const target = server.url(await server.createDatabase(database));
  const exitCode = await run(['restore', 'latest', '--to', target, ...flags], io);
  return { exitCode, err: io.err() };
}

test('the plan is shown, and nothing happens without a yes', async () => {
  const { exitCode, err } = await restoreTyping('declined', 'n\n');
  expect(err).toMatch(/backup-\d+-[0-9a-f]+ into declined:\n {2}1\. /);
  expect(err).toContain('Go on? [y/N] ');
  expect(err).toContain('the restore was not confirmed, and nothing was changed [INTERRUPTED]');
  expect(exitCode).toBe(130);
  expect(await tablesOf('declined')).toEqual([]);
});

test('after a yes it is done', async () => {
  const { exitCode, err } = await restoreTyping('confirmed', 'yes\n');
  expect(exitCode, err).toBe(0);
  expect(await tablesOf('confirmed')).toEqual([{ relname: 'customer' }]);
});

test('--yes asks nothing', async () => {
  const { exitCode, err } = await restoreTyping('assured', '', '--yes');
  expect(exitCode, err).toBe(0);
  expect(err).not.toContain('Go on?');
  expect(await tablesOf('assured')).toEqual([{ relname: 'customer' }]);
});

test('without a terminal there is no question', async () => {
  const target = server.url(await server.createDatabase('unattended'));
  const { exitCode, err } = await runCli(['restore', 'latest', '--to', target], { cwd, env });
  expect(exitCode, err).toBe(0);
  expect(await tablesOf('unattended')).toEqual([{ relname: 'customer' }]);
});

test('--dry-run prints the plan on stdout and changes nothing', async () => {
  const target = server.url(await server.createDatabase('planned'));
  const { exitCode, out } = await runCli(['restore', 'latest', '--to', target, '--dry-run'], { cwd, env });
  expect(exitCode).toBe(0);
  expect(out).toMatch(/^backup-\S+ into planned:\n {2}1\. /);
  expect(await tablesOf('planned')).toEqual([]);
});
