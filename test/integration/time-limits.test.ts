// Time limits and habits that a role or a database has set do not end a backup that takes longer, or change what it holds.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expectSame, makeFaultDatabase } from '../support/fault-database.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto } from '../support/round-trip.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

const settings = [
  "statement_timeout = '250ms'",
  "lock_timeout = '100ms'",
  "idle_in_transaction_session_timeout = '1s'",
  "idle_session_timeout = '1s'",
  'default_transaction_read_only = on',
  'default_transaction_isolation = serializable',
  'default_transaction_deferrable = on',
  "work_mem = '64kB'",
  "temp_buffers = '800kB'",
  'synchronize_seqscans = on',
  'enable_tidscan = off',
];

describe.each([
  { version: 15, more: [] },
  { version: 17, more: ["transaction_timeout = '2s'"] },
])('on PostgreSQL $version', ({ version, more }) => {
  let server: Server;

  beforeAll(async () => {
    server = await startServer({ version });
    await makeFaultDatabase(server, 'shop', 50_000);
    await psql(server, 'shop', 'CREATE ROLE keeper LOGIN SUPERUSER');
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
  });

  it.each([
    { where: 'ROLE keeper', title: 'the role' },
    { where: 'DATABASE shop', title: 'the database' },
  ])('settings of $title do not end a backup that takes longer, nor its restore', async ({ where }) => {
    for (const setting of [...settings, ...more])
      await psql(server, 'postgres', `ALTER ${where} SET ${setting}`);
    await using repository = makeTempFolder('repository');
    await using proxy = await startTcpProxy(server.port, { bytesPerSecond: 2_000_000 });
    const began = Date.now();
    await backUp(server, 'shop', repository.path, {
      database: proxy.through(server.url('shop', 'keeper')),
      jobs: 1,
    });
    // Longer than every limit.
    expect(Date.now() - began).toBeGreaterThan(2_500);
    await restoreInto(server, 'restored', repository.path, {
      create: true,
      to: server.url('restored', 'keeper'),
    });
    const ofRestored = await psql(
      server,
      'postgres',
      "SELECT array_length(setconfig, 1) FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE datname = 'restored'",
    );
    expect(ofRestored.trim()).toBe(where.startsWith('DATABASE') ? String(settings.length + more.length) : '');
    await psql(server, 'postgres', `ALTER ${where} RESET ALL; ALTER DATABASE restored RESET ALL`);
    await expectSame(server, 'shop', 'restored');
    await server.dropDatabase('restored');
  });
});
