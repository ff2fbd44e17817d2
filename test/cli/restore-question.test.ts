// On a terminal, restore shows its plan and asks; everywhere else it does as it was told.

import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { run } from '../../src/cli/main.ts';
import { runCli, testIo } from '../support/cli-io.ts';
import { dieAt } from '../support/dying-restore.ts';
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

test('a restore that was killed is told with exit code 8, resumed on request, and cleaned only when confirmed', async () => {
  const target = server.url(await server.createDatabase('killed'));
  const words = ['restore', 'latest', '--to', target];
  const options = { repository: join(cwd, 'backups'), backup: 'latest', to: target, programs: server.binDir };
  const killed = await dieAt({ options, during: { section: 'pre-data', ms: 0 } });
  expect(killed.isKilled).toBe(true);

  const refused = await runCli([...words, '--json'], { cwd, env });
  expect(refused.exitCode).toBe(8);
  expect(JSON.parse(refused.out).error).toMatchObject({
    code: 'TARGET_UNFINISHED',
    hint: 'the same command with --resume goes on, and with --clean-target begins anew',
  });
  const both = await runCli([...words, '--resume', '--clean-target'], { cwd, env });
  expect([both.exitCode, both.err]).toEqual([2, expect.stringContaining('cannot be combined with --resume')]);
  const unasked = await runCli([...words, '--clean-target'], { cwd, env });
  expect([unasked.exitCode, unasked.err]).toEqual([2, expect.stringContaining('add --yes')]);
  const planned = await runCli([...words, '--clean-target', '--dry-run'], { cwd, env });
  expect(planned.out).toMatch(/1\. remove what the restore of backup-\S+ begun at \S+ has left in killed at/);

  const io = testIo({ cwd, env, isTTY: true });
  io.typed.end('n\n');
  expect(await run([...words, '--clean-target'], io)).toBe(130);
  expect((await runCli(words, { cwd, env })).exitCode).toBe(8);

  const resumed = await runCli([...words, '--resume'], { cwd, env });
  expect(resumed.exitCode, resumed.err).toBe(0);
  expect(await tablesOf('killed')).toEqual([{ relname: 'customer' }]);
});

test('--clean-target --yes begins anew', async () => {
  const target = server.url(await server.createDatabase('cleaned'));
  const options = { repository: join(cwd, 'backups'), backup: 'latest', to: target, programs: server.binDir };
  expect((await dieAt({ options, during: { section: 'post-data', ms: 0 } })).isKilled).toBe(true);
  const words = ['restore', 'latest', '--to', target, '--clean-target', '--yes', '--json'];
  const { exitCode, out, err } = await runCli(words, { cwd, env });
  expect(exitCode, err).toBe(0);
  expect(JSON.parse(out)).toMatchObject({ resumed: false, rows: 1 });
  expect(await tablesOf('cleaned')).toEqual([{ relname: 'customer' }]);
});
