// Backups of a hot standby: what it has no rows of is listed, and a conflict with replay says what to set.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PgkeepError } from '../../src/base/errors.ts';
import { listBackups } from '../../src/operations/list-backups.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import { makeFaultDatabase } from '../support/fault-database.ts';
import { psql, type Server, startServer, startStandby, waitForReplay } from '../support/postgres-server.ts';
import { waitFor } from '../support/processes.ts';
import { backUp, restoreInto } from '../support/round-trip.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let primary: Server;
let standby: Server;

beforeAll(async () => {
  primary = await startServer({ version: 17 });
  await makeFaultDatabase(primary, 'shop', 40_000);
  await psql(
    primary,
    'shop',
    'CREATE UNLOGGED TABLE fleeting AS SELECT i AS n FROM generate_series(1, 10) AS i; CREATE UNLOGGED SEQUENCE fleeting_numbers',
  );
  standby = await startStandby(primary, { settings: { max_standby_streaming_delay: '0' } });
  await waitForReplay(standby, primary);
});
afterAll(async () => {
  await standby[Symbol.asyncDispose]();
  await primary[Symbol.asyncDispose]();
});

it('takes a backup that is restored to what the primary has, without the rows of unlogged tables, which it lists', async () => {
  await using repository = makeTempFolder('repository');
  const backup = await backUp(standby, 'shop', repository.path);
  expect(backup.leftOut).toContainEqual({
    schema: 'public',
    name: 'fleeting',
    kind: 'table',
    reason: 'it is unlogged, and a standby has no rows of unlogged tables',
  });
  await restoreInto(primary, 'restored', repository.path, { create: true });
  expect(await psql(primary, 'restored', 'SELECT count(*) FROM fleeting')).toBe('0\n');
  const { differences } = await compareDatabases(primary.url('shop'), primary.url('restored'), {
    binDir: primary.binDir,
    ignore: [/fleeting/],
  });
  expect(differences).toEqual([]);
  await primary.dropDatabase('restored');
});

describe('ends by name and says what to set, when replay', () => {
  it.each([
    { title: 'removes rows that it still sees', sql: 'DELETE FROM big WHERE id % 2 = 0; VACUUM big' },
    { title: 'drops a table that it holds', sql: 'DROP TABLE notes' },
  ])('$title', async ({ sql }) => {
    await using repository = makeTempFolder('repository');
    await using proxy = await startTcpProxy(standby.port, { bytesPerSecond: 150_000 });
    const ended = backUp(standby, 'shop', repository.path, {
      database: proxy.through(standby.url('shop')),
      jobs: 1,
    }).then(
      () => expect.unreachable('the backup has not failed'),
      error => error,
    );
    await waitFor('rows on their way', () => proxy.receivedBytes > 150_000);
    for (const statement of sql.split('; ')) await psql(primary, 'shop', statement);
    const failure: PgkeepError = await ended;
    expect(failure.message).toMatch(/conflict with recovery/);
    expect(failure.code).toBe('STANDBY_CONFLICT');
    expect(failure.exitCode).toBe(6);
    expect(failure.hint).toMatch(/hot_standby_feedback = on.*max_standby_streaming_delay/);
    expect(await listBackups({ repository: repository.path })).toEqual([]);
  });
});
