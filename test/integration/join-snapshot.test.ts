// A snapshot lasts as long as the session that exported it: whoever comes later is told that this session is gone.

import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runProgram } from '../../src/base/child-process.ts';
import { queryRows } from '../../src/postgres/client.ts';
import { isSnapshotLost, joinSnapshot } from '../../src/postgres/join-snapshot.ts';
import { serverProgramFailure } from '../../src/postgres/server-error.ts';
import { readTarget } from '../../src/postgres/target.ts';
import { WireConnection } from '../../src/postgres/wire.ts';
import { testedVersions } from '../support/postgres-programs.ts';
import { type Server, startServer } from '../support/postgres-server.ts';

describe.each(testedVersions)('the snapshot of a session that has ended, in PostgreSQL %i', version => {
  let server: Server;
  let snapshotId = '';

  beforeAll(async () => {
    server = await startServer({ version });
    const leader = new pg.Client(server.url());
    await leader.connect();
    await leader.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    snapshotId = (await leader.query<{ id: string }>('SELECT pg_export_snapshot() AS id')).rows[0]?.id ?? '';
    await using late = await connect();
    await joinSnapshot((sql, doing) => late.run(sql, doing), snapshotId, 1_000);
    await leader.end();
    // Who joined in time keeps it.
    expect(await late.run('SHOW lock_timeout', 'asking')).toEqual([['1s']]);
  });
  afterAll(() => server[Symbol.asyncDispose]());

  async function connect(): Promise<WireConnection & AsyncDisposable> {
    const wire = await WireConnection.open(readTarget(server.url(), {}), 'pgkeep test');
    return Object.assign(wire, { [Symbol.asyncDispose]: async () => wire.close() });
  }

  const lost = {
    code: 'DATABASE_CONNECTION_LOST',
    message: 'the connection that holds the snapshot of the backup was lost',
    hint: expect.stringContaining('see the server log'),
  };

  it('cannot be joined by a worker, nor by a shard', async () => {
    await using wire = await connect();
    const joined = joinSnapshot((sql, doing) => wire.run(sql, doing), snapshotId, 0);
    await expect(joined).rejects.toMatchObject(lost);
    await expect(joined).rejects.toSatisfy(isSnapshotLost);
    const client = new pg.Client(server.url());
    await client.connect();
    await expect(
      joinSnapshot((sql, doing) => queryRows(client, sql, doing), snapshotId, 0),
    ).rejects.toMatchObject(lost);
    await client.end();
  });

  it('is not blamed for what else fails', async () => {
    await using wire = await connect();
    const other = joinSnapshot(() => wire.run('SELECT 1 / 0', 'dividing'), snapshotId, 0);
    await expect(other).rejects.toMatchObject({ code: 'DATABASE_QUERY' });
    await expect(other).rejects.not.toSatisfy(isSnapshotLost);
  });

  it('cannot be joined by pg_dump, either', async () => {
    const file = join(server.binDir, 'pg_dump');
    const args = [`--snapshot=${snapshotId}`, server.url()];
    const result = await runProgram({ file, args, env: { PATH: process.env.PATH ?? '' } });
    expect(serverProgramFailure(file, result, 'dumping the schema')).toMatchObject({
      code: 'DATABASE_CONNECTION_LOST',
      hint: expect.stringContaining('server log'),
    });
  });
});
