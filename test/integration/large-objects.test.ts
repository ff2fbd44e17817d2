// Large objects are read and written by the workers: the archive is what pg_dump would have written, what did not change is
// not stored again, and restores of them are as those of pg_restore.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CreateBackupResult } from '../../src/operations/create-backup.ts';
import type { OperationEvent } from '../../src/operations/events.ts';
import { listBackups } from '../../src/operations/list-backups.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import { type Fault, withFaults } from '../support/faulty-storage.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { waitFor } from '../support/processes.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';
import { SecondReader } from '../unit/repository/second-reader.ts';

const run = promisify(execFile);

/** As SQL: two kilobytes without a pattern. */
const bytesOf = (seed: string) =>
  `(SELECT decode(string_agg(md5(((${seed}) * 128 + k)::text), '' ORDER BY k), 'hex') FROM generate_series(1, 128) AS k)`;

/** Without the time it was made, which stands in its head. */
function timeless(archive: Buffer): Buffer {
  const copy = Buffer.from(archive);
  const minor = copy[6] ?? 0;
  const at = minor >= 15 ? 12 : 16;
  return copy.fill(0, at, at + 7 * 5);
}

/** Fails unless the archive of the backup is what pg_dump writes. */
async function expectDumped(server: Server, database: string, repository: string, id: string): Promise<void> {
  const reader = new SecondReader(repository, testKey);
  const stored = reader.archive(reader.manifest(id));
  const { stdout } = await run(
    join(server.binDir, 'pg_dump'),
    ['--format=custom', '--compress=0', '--exclude-table-data=*', server.url(database)],
    { encoding: 'buffer', maxBuffer: 2 ** 30, env: { PATH: process.env.PATH } },
  );
  expect(timeless(stored).equals(timeless(stdout))).toBe(true);
}

// Nor is there a difference in the version between: some groups, of other owners and privileges, which one entry names for all of a group.
it('large objects of PostgreSQL 17 are stored byte for byte as pg_dump writes them, and restored as they were', async () => {
  await using server = await startServer({ version: 17 });
  await using repository = makeTempFolder('repository');
  await server.createDatabase('pictures');
  await psql(
    server,
    'pictures',
    `CREATE ROLE painter; SELECT count(lo_from_bytea((20000 + i)::oid, ${bytesOf('i')})) FROM generate_series(1, 1500) AS i;
     ALTER LARGE OBJECT 20700 OWNER TO painter;
     SELECT format('GRANT SELECT, UPDATE ON LARGE OBJECT %s TO painter', 20000 + i) FROM generate_series(1, 1200) AS i WHERE i <> 700 \\gexec`,
  );
  const { id } = await backUp(server, 'pictures', repository.path);
  await expectDumped(server, 'pictures', repository.path, id);
  await server.createDatabase('restored');
  await restoreInto(server, 'restored', repository.path);
  const all = `SELECT oid, lomowner::regrole, lomacl, md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY oid`;
  const source = await psql(server, 'pictures', all);
  expect(source.match(/painter=rw/g)).toHaveLength(1199);
  expect(await psql(server, 'restored', all)).toBe(source);
});

// The archives of 15 have all large objects in one group, those of 18 a thousand at most of one owner and privileges.
describe.each([15, 18])('large objects of PostgreSQL %i', version => {
  let server: Server;
  const folder = makeTempFolder('repository');
  const gallery = makeTempFolder('repository');
  let first: CreateBackupResult;
  const events: OperationEvent[] = [];

  beforeAll(async () => {
    server = await startServer({ version });
    await server.createDatabase('pictures');
    await psql(
      server,
      'pictures',
      `CREATE ROLE painter; CREATE TABLE public.picture (id integer PRIMARY KEY, content oid);
       INSERT INTO public.picture SELECT i, lo_from_bytea((20000 + i)::oid, ${bytesOf('i')}) FROM generate_series(1, 6000) AS i;
       SELECT lo_create(11), lo_from_bytea(12, 'a small one'), lo_create(13), lo_from_bytea(4294967295, 'the largest oid') \\g /dev/null
       SELECT lo_put(13, 3000000, 'behind a hole') \\g /dev/null
       SELECT lo_from_bytea(oid::oid, string_agg(decode(md5(i::text), 'hex'), '' ORDER BY i))
         FROM generate_series(1, 200000) AS i, generate_series(30001, 30002) AS oid GROUP BY oid \\g /dev/null
       ALTER LARGE OBJECT 12 OWNER TO painter; GRANT SELECT ON LARGE OBJECT 22000 TO PUBLIC;
       COMMENT ON LARGE OBJECT 13 IS 'has a hole'; COMMENT ON LARGE OBJECT 12 IS E'it''s; \\\\ a\\n-- comment'`,
    );
    first = await backUp(server, 'pictures', folder.path, { onEvent: event => events.push(event) });
    // Privileges of the owner himself are among those that are set last.
    await psql(
      server,
      'postgres',
      `CREATE ROLE curator LOGIN; CREATE ROLE "odd; ""name'" LOGIN; GRANT painter, "odd; ""name'" TO curator;
       CREATE ROLE stranger LOGIN NOINHERIT; GRANT painter, "odd; ""name'", curator TO stranger`,
    );
    await server.createDatabase('gallery', { owner: 'curator' });
    await server.createDatabase('gallery_again', { owner: 'curator' });
    await server.createDatabase('gallery_refused', { owner: 'stranger' });
    await psql(
      server,
      'gallery',
      `SELECT lo_from_bytea(i::oid, ${bytesOf('i')}) FROM generate_series(51, 60) AS i \\g /dev/null
       ALTER LARGE OBJECT 51 OWNER TO painter; ALTER LARGE OBJECT 52 OWNER TO painter; ALTER LARGE OBJECT 53 OWNER TO "odd; ""name'";
       REVOKE UPDATE ON LARGE OBJECT 51 FROM painter; GRANT SELECT ON LARGE OBJECT 52 TO PUBLIC`,
      { user: 'curator' },
    );
    await backUp(server, 'gallery', gallery.path, { database: server.url('gallery', 'curator') });
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    await folder.remove();
    await gallery.remove();
  });

  it('tells how far it is with them', () => {
    const begun = events.findIndex(event => event.type === 'phase' && event.phase === 'large-objects');
    expect(events[begun]).toMatchObject({ detail: '6,006 large objects' });
    const done = events.slice(begun).flatMap(event => (event.type === 'progress' ? [event.doneBytes] : []));
    expect(done.at(-1)).toBeGreaterThan(15_000_000);
    expect(done).toEqual(done.toSorted((a, b) => a - b));
  });

  it('leaves no backup when it is interrupted among them', async () => {
    await using repository = makeTempFolder('repository');
    const interruption = new AbortController();
    const interrupted = backUp(server, 'pictures', repository.path, {
      signal: interruption.signal,
      onEvent: event => {
        if (event.type === 'phase' && event.phase === 'large-objects') interruption.abort();
      },
    });
    await expect(interrupted).rejects.toMatchObject({ code: 'INTERRUPTED' });
    expect(await listBackups({ repository: repository.path })).toEqual([]);
  });

  it('leaves no backup when the storage is full among them, and says so', async () => {
    await using repository = makeTempFolder('repository');
    const faults: Fault[] = [];
    using _ = withFaults(repository.path, faults);
    const full = backUp(server, 'pictures', repository.path, {
      onEvent: event => {
        if (event.type === 'phase' && event.phase === 'large-objects')
          faults.push({ call: 'put', name: 'segments/', nth: 3, do: 'fail', code: 'STORAGE_FULL' });
      },
    });
    await expect(full).rejects.toMatchObject({ code: 'STORAGE_FULL' });
    expect(await listBackups({ repository: repository.path })).toEqual([]);
  });

  async function expectSame(target: string, onEvent?: (event: OperationEvent) => void): Promise<void> {
    await restoreInto(server, target, folder.path, { create: true, ...(onEvent && { onEvent }) });
    const { differences } = await compareDatabases(server.url('pictures'), server.url(target), {
      binDir: server.binDir,
    });
    expect(differences).toEqual([]);
  }

  it('are stored byte for byte as pg_dump writes them', () =>
    expectDumped(server, 'pictures', folder.path, first.id));

  it('come back as they were', async () => {
    const told: OperationEvent[] = [];
    await expectSame('restored', event => told.push(event));
    const begun = told.findIndex(event => event.type === 'phase' && event.phase === 'large-objects');
    expect(told[begun]).toMatchObject({ detail: '6,006 large objects' });
    const progress = told
      .slice(
        begun,
        told.findIndex(event => event.type === 'phase' && event.phase === 'data'),
      )
      .flatMap(event => (event.type === 'progress' ? [event] : []));
    expect(progress.at(-1)?.doneBytes).toBeGreaterThan(15_000_000);
    expect(progress.at(-1)?.doneBytes).toBe(progress[0]?.totalBytes);
  });

  it('of a role without privileges beyond its own come back with owners and privileges', async () => {
    const restored = restoreInto(server, 'gallery_again', gallery.path, {
      to: server.url('gallery_again', 'curator'),
    });
    expect((await restored).warnings).toEqual([]);
    const { differences } = await compareDatabases(server.url('gallery'), server.url('gallery_again'), {
      binDir: server.binDir,
    });
    expect(differences).toEqual([]);
  });

  it('that may not be written are named', async () => {
    const refused = restoreInto(server, 'gallery_refused', gallery.path, {
      to: server.url('gallery_refused', 'stranger'),
    });
    await expect(refused).rejects.toMatchObject({
      code: 'DATABASE_PRIVILEGE',
      message: expect.stringMatching(/writing large objects.*permission denied for large object 51$/),
    });
  });

  const objectsOf = (database: string) =>
    psql(
      server,
      database,
      'SELECT (SELECT count(*) FROM pg_largeobject_metadata), (SELECT count(*) FROM pg_largeobject)',
    );

  it.each(['phase', 'progress'])('are taken back when the restore is ended at their first %s', async type => {
    const target = `ended_${type}`;
    await server.createDatabase(target);
    const interruption = new AbortController();
    let isAmong = false;
    const interrupted = restoreInto(server, target, folder.path, {
      backup: first.id,
      signal: interruption.signal,
      onEvent: event => {
        if (event.type === 'phase') isAmong = event.phase === 'large-objects';
        if (isAmong && event.type === type) interruption.abort();
      },
    });
    await expect(interrupted).rejects.toMatchObject({ code: 'INTERRUPTED' });
    expect(await objectsOf(target)).toBe('0|0\n');
  });

  it('are taken back when the lock of the target is lost, and not before their writers have been ended', async () => {
    await server.createDatabase('unlocked');
    const holder = new pg.Client(server.url('unlocked'));
    await holder.connect();
    await holder.query('BEGIN; LOCK TABLE pg_largeobject IN SHARE MODE');
    const writers = async () => {
      const sql = `SELECT count(*) FROM pg_stat_activity WHERE datname = 'unlocked' AND wait_event_type = 'Lock' AND query ~ 'lo_put'`;
      return Number(await psql(server, 'postgres', sql));
    };
    const failed = restoreInto(server, 'unlocked', folder.path, { backup: first.id }).catch(error => error);
    await waitFor('the writers', async () => (await writers()) > 0);
    const { rows } = await holder.query(
      `SELECT pg_terminate_backend(l.pid) AS ended FROM pg_locks l JOIN pg_database d ON d.oid = l.database
       WHERE l.locktype = 'advisory' AND d.datname = 'unlocked'`,
    );
    expect(rows).toEqual([{ ended: true }]);
    // They would wait for as long as this lock lasts.
    await waitFor('the end of the writers', async () => (await writers()) === 0);
    await holder.query('ROLLBACK');
    await holder.end();
    expect(await failed).toMatchObject({ code: 'DATABASE_CONNECTION_LOST' });
    expect(await objectsOf('unlocked')).toBe('0|0\n');
  });

  it('are not stored again when they have not changed', async () => {
    const second = await backUp(server, 'pictures', folder.path, { jobs: 1 });
    expect(second.newBytes).toBeLessThan(first.newBytes / 50);
  });

  it('are stored again only around those that were changed and added', async () => {
    await psql(
      server,
      'pictures',
      `SELECT lo_put(23000, 100, 'changed') \\g /dev/null
       SELECT lo_from_bytea((40000 + i)::oid, ${bytesOf('-i')}) FROM generate_series(1, 20) AS i \\g /dev/null`,
    );
    const next = await backUp(server, 'pictures', folder.path);
    expect(next.newBytes).toBeLessThan(first.newBytes / 8);
  });

  it('are stored again only around those that were removed', async () => {
    await psql(server, 'pictures', `SELECT lo_unlink(24000) \\g /dev/null`);
    const next = await backUp(server, 'pictures', folder.path);
    expect(next.newBytes).toBeLessThan(first.newBytes / 4);
    await expectSame('restored_again');
  });
});
