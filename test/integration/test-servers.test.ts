// The tests' own servers: that each version is what it says, and that none outlives its process.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { describe, expect, test } from 'vitest';
import { testedVersions } from '../support/postgres-programs.ts';
import { psql, startServer, startStandby, waitForReplay } from '../support/postgres-server.ts';

describe.each(testedVersions)('a PostgreSQL %i server', version => {
  test('answers over TCP with its own version', async () => {
    await using server = await startServer({ version });
    const client = new pg.Client({ connectionString: server.url() });
    await client.connect();
    const { rows } = await client.query<{ version: string }>('SELECT version()');
    await client.end();
    expect(rows[0]?.version).toMatch(new RegExp(`^PostgreSQL ${version}\\.`));
  });

  test('has a standby that shows what the primary committed', async () => {
    await using primary = await startServer({ version });
    await using standby = await startStandby(primary);
    await psql(primary, 'postgres', 'CREATE TABLE t AS SELECT generate_series(1, 1000) AS n');
    await waitForReplay(standby, primary);
    expect(await psql(standby, 'postgres', 'SELECT count(*), pg_is_in_recovery() FROM t')).toBe('1000|t\n');
  });
});

test('a server keeps its data, port and settings over a crash', async () => {
  await using server = await startServer({ settings: { work_mem: '5MB' } });
  await psql(server, 'postgres', 'CREATE TABLE t AS SELECT 7 AS n');
  const { port } = server;
  await server.stop('immediate');
  expect(server.pid).toBeUndefined();
  await server.start();
  expect(server.port).toBe(port);
  expect(await psql(server, 'postgres', 'SELECT n, current_setting($$work_mem$$) FROM t')).toBe('7|5MB\n');
});

test('a server asks for passwords when its hba lines say so', async () => {
  await using server = await startServer({ hba: 'host all all 127.0.0.1/32 scram-sha-256' });
  await psql(server, 'postgres', `CREATE ROLE "a b" LOGIN PASSWORD 'p@:/ w'`);
  const ask = (password: string) => psql(server, 'postgres', 'SELECT 1', { user: 'a b', password });
  await expect(ask('wrong')).rejects.toThrow('password authentication failed');
  expect(await ask('p@:/ w')).toBe('1\n');
});

test('databases have the encoding asked for, and a clone has the rows of its template', async () => {
  await using server = await startServer();
  await server.createDatabase('Odd "name"', { encoding: 'LATIN1' });
  await psql(server, 'Odd "name"', 'CREATE TABLE t AS SELECT 1');
  const clone = await server.cloneDatabase('Odd "name"');
  expect(await psql(server, clone, 'SELECT count(*), getdatabaseencoding() FROM t')).toBe('1|LATIN1\n');
});

test('servers share a system identifier unless a cluster of its own is asked for', async () => {
  await using one = await startServer();
  await using same = await startServer();
  await using other = await startServer({ initdb: [] });
  const ask = 'SELECT system_identifier FROM pg_control_system()';
  const identifier = await psql(one, 'postgres', ask);
  expect(await psql(same, 'postgres', ask)).toBe(identifier);
  expect(await psql(other, 'postgres', ask)).not.toBe(identifier);
});

test('psql reports the first error of several statements and runs none after it', async () => {
  await using server = await startServer();
  const script = 'CREATE TABLE before (); SELECT boom; CREATE TABLE after ();';
  await expect(psql(server, 'postgres', script)).rejects.toThrow('column "boom" does not exist');
  const remains = await psql(server, 'postgres', 'SELECT relname FROM pg_class WHERE relnamespace = 2200');
  expect(remains).toBe('before\n');
});

test('a process that is killed takes its server and its folder with it', async () => {
  const module = join(import.meta.dirname, '../support/postgres-server.ts');
  const script = `
    const { startServer } = await import(${JSON.stringify(module)});
    const server = await startServer();
    console.log(JSON.stringify({ pid: server.pid, folder: server.socketDir }));
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = await once(createInterface(child.stdout), 'line');
  const { pid, folder }: { pid: number; folder: string } = JSON.parse(line);
  expect(existsSync(folder)).toBe(true);
  child.kill('SIGKILL');
  for (let waitedMs = 0; existsSync(folder) && waitedMs < 60_000; waitedMs += 50) await sleep(50);
  expect(existsSync(folder)).toBe(false);
  expect(existsSync(join('/proc', String(pid), 'cwd'))).toBe(false);
});
