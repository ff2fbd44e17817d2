// `create --skip-unreadable`: what the role may read is backed up and restores; what it may not is named, and the
// backup never passes for a complete one.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CreateBackupResult } from '../../src/operations/create-backup.ts';
import { exportBackup } from '../../src/operations/export-backup.ts';
import { listBackups } from '../../src/operations/list-backups.ts';
import { showBackup } from '../../src/operations/show-backup.ts';
import { verifyBackups } from '../../src/operations/verify-backups.ts';
import { offerFixtureExtension } from '../fixtures/everything.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { psqlFile } from '../support/psql-file.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

/** What is missing, as `schema.name` or identity. */
const missingOf = (backup: CreateBackupResult) =>
  backup.leftOut
    .filter(entry => entry.missing)
    .map(({ schema, name }) => (schema === '' ? name : `${schema}.${name}`))
    .sort();

describe.each([15, 18])('on PostgreSQL %i, leaving out what the role may not read', version => {
  let server: Server;
  const folder = makeTempFolder('repository');

  beforeAll(async () => {
    server = await startServer({ version });
    await psql(
      server,
      'postgres',
      'CREATE ROLE reader LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_read_all_data',
    );
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    await folder.remove();
  });

  let databases = 0;
  /** Makes a database, backs it up as the reader, restores it, and says how the restored one differs. */
  const roundTrip = async (sql: string, options: Parameters<typeof backUp>[3] = {}) => {
    const source = await server.createDatabase(`source_${++databases}`);
    await psql(server, source, sql);
    const backup = await backUp(server, source, folder.path, {
      database: server.url(source, 'reader'),
      skipUnreadable: true,
      ...options,
    });
    const target = `target_${databases}`;
    const { warnings } = await restoreInto(server, target, folder.path, { backup: backup.id, create: true });
    const differences = async () =>
      (await compareDatabases(server.url(source), server.url(target), { binDir: server.binDir })).differences;
    return { source, target, backup, warnings, differences };
  };
  /** The other two ways out of a repository lead to the same. */
  const expectSameFromScripts = async (backup: CreateBackupResult, target: string) => {
    const exported = join(folder.path, `exported-${version}.sql`);
    await exportBackup({
      repository: folder.path,
      encryptionKey: testKey,
      backup: backup.id,
      output: exported,
      environment: { PATH: process.env.PATH },
      programs: server.binDir,
    });
    const recovered = join(folder.path, `recovered-${version}.sql`);
    const kit = join(folder.path, 'recovery/pgkeep-recover.mjs');
    const { stderr } = await promisify(execFile)(
      process.execPath,
      [kit, '--backup', backup.id, '--output', recovered],
      { env: { BACKUP_ENCRYPTION_KEY: testKey } },
    );
    expect(stderr).toContain('the backup lacks public.secret: the role may not read it');
    for (const script of [exported, recovered]) {
      const name = await server.createDatabase(`by_script_${++databases}`, { template: 'template0' });
      await psqlFile(server, name, script);
      const { differences } = await compareDatabases(server.url(target), server.url(name), {
        binDir: server.binDir,
      });
      expect(differences).toEqual([]);
    }
  };
  /** Nothing but these names is not the same in the restored database. */
  const expectOnly = async (found: readonly string[], names: readonly RegExp[]) => {
    expect(found.filter(line => !names.some(name => name.test(line)))).toEqual([]);
    for (const name of names) expect(found).toContainEqual(expect.stringMatching(name));
  };

  it('leaves out tables, and what needs them, and restores the rest', async () => {
    const { backup, warnings, differences, target } = await roundTrip(`
      CREATE TABLE open (id int PRIMARY KEY, n int); INSERT INTO open SELECT i, i FROM generate_series(1, 1000) AS i;
      CREATE TABLE secret (id int PRIMARY KEY); INSERT INTO secret SELECT generate_series(1, 10);
      CREATE SCHEMA closed; CREATE TABLE closed.t AS SELECT 1 AS n; GRANT SELECT ON closed.t TO reader;
      CREATE TABLE orders (id int PRIMARY KEY, secret int REFERENCES secret, open int REFERENCES open);
      INSERT INTO orders SELECT i, i, i FROM generate_series(1, 10) AS i;
      CREATE VIEW shown AS SELECT * FROM open; CREATE VIEW hidden AS SELECT * FROM secret; CREATE VIEW over AS SELECT * FROM hidden;
      CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM secret;
      CREATE FUNCTION f() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM secret; END; COMMENT ON FUNCTION f() IS 'counts';
      CREATE FUNCTION g() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM secret';
      CREATE RULE also AS ON INSERT TO open DO ALSO INSERT INTO secret VALUES (new.id + 1000000);
      CREATE TABLE child (x int) INHERITS (secret);
      CREATE TABLE holder (s secret); CREATE TYPE pair AS (s secret, n int); CREATE TABLE pairs (p pair);
      CREATE TABLE two (a int, b int); CREATE STATISTICS both_of ON a, b FROM two;
      CREATE TABLE locked (n int); ALTER TABLE locked ENABLE ROW LEVEL SECURITY; CREATE POLICY seen ON open USING (id IN (SELECT id FROM secret));
      CREATE PUBLICATION everything FOR TABLE open, secret;
      GRANT SELECT ON open, orders, child, holder, pairs TO reader`);
    expect(backup.complete).toBe(false);
    expect(missingOf(backup)).toEqual(
      [
        'closed.t',
        'public.secret',
        'public.hidden',
        'public.over',
        'public.counted',
        'public.child',
        'public.holder',
        'public.pairs',
        'public.two',
        'public.locked',
        'orders_secret_fkey on public.orders',
        'public.f()',
        'also on public.open',
        'seen on public.open',
        'public.pair',
      ].sort(),
    );
    expect(backup.leftOut.find(({ name }) => name === 'secret')?.reason).toBe('the role may not read it');
    expect(backup.leftOut.find(({ name }) => name === 'over')?.reason).toBe(
      'it needs public.secret, which the role may not read',
    );
    expect(warnings[0]).toMatch(/is incomplete: it lacks .*public\.secret \(the role may not read it\)/);
    await expectOnly(await differences(), [
      /\bsecret\b|orders_secret_fkey/,
      /hidden|over\b/,
      /counted/,
      /public\.f\(\)|\bf\(\)/,
      /\balso\b/,
      /\bchild\b/,
      /\bholder\b/,
      /\bpairs?\b/,
      /\btwo\b|both_of/,
      /\blocked\b/,
      /\bseen\b/,
      /closed/,
    ]);
    expect(await psql(server, target, 'SELECT count(*), sum(n) FROM open; SELECT count(*) FROM orders')).toBe(
      '1000|500500\n10\n',
    );
    expect(await psql(server, target, "SELECT conname FROM pg_constraint WHERE contype = 'f'")).toBe(
      'orders_open_fkey\n',
    );
    await expectSameFromScripts(backup, target);
  });

  it('leaves out rows that row-level security hides, and foreign keys to them', async () => {
    const { backup, differences, target } = await roundTrip(`
      CREATE TABLE customers (id int PRIMARY KEY, mine bool, boss int REFERENCES customers);
      INSERT INTO customers SELECT i, i % 2 = 0 FROM generate_series(1, 10) AS i;
      ALTER TABLE customers ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON customers USING (mine);
      CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers); INSERT INTO orders SELECT i, i FROM generate_series(1, 10) AS i;
      GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader`);
    expect(missingOf(backup)).toEqual(['orders_customer_fkey on public.orders', 'public.customers']);
    await expectOnly(await differences(), [/rows of public\.customers/, /orders_customer_fkey/]);
    expect(await psql(server, target, 'SELECT count(*) FROM customers; SELECT count(*) FROM orders')).toBe(
      '0\n10\n',
    );
  });

  it('keeps the definition of a table that may be locked but not read, where the server lets it be locked', async () => {
    const { backup, target } = await roundTrip(
      'CREATE TABLE audit (id int PRIMARY KEY); INSERT INTO audit VALUES (1); GRANT INSERT ON audit TO reader',
    );
    const reason = version >= 16 ? 'the role may not read its rows' : 'the role may not read it';
    expect(backup.leftOut).toEqual([
      { schema: 'public', name: 'audit', kind: 'table', reason, missing: true },
    ]);
    expect(await psql(server, target, "SELECT to_regclass('public.audit') IS NOT NULL")).toBe(
      version >= 16 ? 't\n' : 'f\n',
    );
  });

  it('leaves out the values of sequences, and partitions apart from their table', async () => {
    const { backup, differences, target } = await roundTrip(`
      CREATE TABLE items (id serial PRIMARY KEY, other int GENERATED ALWAYS AS IDENTITY); INSERT INTO items SELECT FROM generate_series(1, 50);
      CREATE SEQUENCE alone START 7;
      CREATE TABLE gone (id serial, other int GENERATED ALWAYS AS IDENTITY); INSERT INTO gone SELECT FROM generate_series(1, 5);
      CREATE TABLE parted (n int) PARTITION BY RANGE (n); CREATE INDEX ON parted (n);
      CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
      CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20); INSERT INTO parted SELECT generate_series(0, 19);
      CREATE TYPE letter AS ENUM ('a', 'b', 'c');
      CREATE TABLE tree (l letter) PARTITION BY HASH (l);
      CREATE TABLE tree_1 PARTITION OF tree FOR VALUES WITH (MODULUS 2, REMAINDER 0);
      CREATE TABLE tree_2 PARTITION OF tree FOR VALUES WITH (MODULUS 2, REMAINDER 1); INSERT INTO tree VALUES ('a'), ('b'), ('c');
      GRANT SELECT ON items, parted, parted_1, tree_1, tree_2, gone_id_seq TO reader; GRANT SELECT ON items_id_seq TO reader`);
    expect(missingOf(backup)).toEqual([
      'public.alone',
      'public.gone',
      'public.gone_other_seq',
      'public.items_other_seq',
      'public.parted_2',
      'public.tree',
    ]);
    expect(backup.leftOut.find(({ name }) => name === 'alone')?.reason).toBe(
      'the role may not read its value: restored, it begins anew',
    );
    await expectOnly(await differences(), [
      /sequence public\.items_other_seq/,
      /gone/,
      /parted_2/,
      /\btree\b/,
      /attach|parted|tree_/i,
    ]);
    expect(
      await psql(
        server,
        target,
        "SELECT last_value FROM items_id_seq; SELECT last_value FROM items_other_seq; SELECT last_value FROM gone_id_seq; SELECT nextval('alone'); SELECT count(*) FROM parted; SELECT (SELECT count(*) FROM tree_1) + (SELECT count(*) FROM tree_2)",
      ),
    ).toBe('50\n1\n5\n7\n10\n3\n');
  });

  it('leaves out the configuration of extensions', async () => {
    await offerFixtureExtension(server);
    const { backup, target } = await roundTrip(`
      CREATE SCHEMA ext; CREATE EXTENSION pgkeep_fixture SCHEMA ext; GRANT USAGE ON SCHEMA ext TO reader;
      INSERT INTO ext.settings VALUES ('third', '3', false); GRANT SELECT ON ext.settings TO reader;
      INSERT INTO ext.entire (v) VALUES ('gone')`);
    expect(missingOf(backup)).toEqual(['ext.entire', 'ext.entire_id_seq']);
    expect(
      await psql(server, target, 'SELECT count(*) FROM ext.settings; SELECT count(*) FROM ext.entire'),
    ).toBe('3\n0\n');
  });

  it('leaves out only definitions when no rows are wanted', async () => {
    const { backup, target } = await roundTrip(
      `CREATE TABLE t (n int); GRANT SELECT ON t TO reader; ALTER TABLE t ENABLE ROW LEVEL SECURITY;
       CREATE SEQUENCE numbers; CREATE TABLE secret (n int); CREATE TABLE refers (t int); GRANT SELECT ON refers TO reader`,
      { schemaOnly: true },
    );
    expect(missingOf(backup)).toEqual(['public.secret']);
    expect(await psql(server, target, "SELECT to_regclass('t'), to_regclass('numbers')")).toBe('t|numbers\n');
  });

  it('leaves out large objects when one of them may not be read', async () => {
    const { backup, target } = await roundTrip(`
      SELECT lo_from_bytea(5, '\\x00'); SELECT lo_from_bytea(6, '\\x01'); GRANT SELECT ON LARGE OBJECT 5 TO reader;
      CREATE TABLE t AS SELECT 1 AS n; GRANT SELECT ON t TO reader`);
    expect(backup.leftOut).toEqual([
      {
        schema: '',
        name: '2 large objects',
        kind: 'large object',
        reason: 'the role may not read 1 of them (6), and pg_dump takes all or none',
        missing: true,
      },
    ]);
    expect(await psql(server, target, 'SELECT count(*) FROM pg_largeobject_metadata; SELECT n FROM t')).toBe(
      '0\n1\n',
    );
  });

  it('changes nothing where all can be read, and for what was not asked for', async () => {
    const sql = `CREATE TABLE t AS SELECT 1 AS n; CREATE TABLE secret AS SELECT 1 AS n; GRANT SELECT ON t TO reader`;
    const all = await roundTrip(sql, { database: server.url(`source_${databases + 1}`, 'watcher') });
    expect(all.backup).toMatchObject({ complete: true, leftOut: [] });
    expect(all.warnings).toEqual([]);
    expect(await all.differences()).toEqual([]);
    const chosen = await roundTrip(sql, { excludeTables: ['secret'] });
    expect(chosen.backup).toMatchObject({ complete: true, leftOut: [{ name: 'secret' }] });
    expect(missingOf(chosen.backup)).toEqual([]);
  });

  it('is seen in list and show, is never the latest, and is built upon by a complete backup', async () => {
    await using repository = makeTempFolder('repository');
    const source = await server.createDatabase('shop');
    await psql(
      server,
      source,
      `CREATE TABLE big AS SELECT i AS n, md5(i::text) AS m FROM generate_series(1, 20000) AS i; GRANT SELECT ON big TO reader;
       CREATE TABLE secret AS SELECT 1 AS n`,
    );
    const as = (user: string, options = {}) =>
      backUp(server, source, repository.path, { database: server.url(source, user), ...options });
    await expect(as('reader')).rejects.toMatchObject({ code: 'DATABASE_PRIVILEGE' });
    const partial = await as('reader', { skipUnreadable: true });
    const [listed] = await listBackups({ repository: repository.path });
    expect(listed).toMatchObject({
      complete: false,
      missingCount: 1,
      missing: ['public.secret'],
      tableCount: 1,
    });
    const latest = { repository: repository.path, encryptionKey: testKey, backup: 'latest' };
    await expect(showBackup(latest)).rejects.toMatchObject({
      code: 'BACKUP_NOT_FOUND',
      message: expect.stringContaining('no complete backup'),
    });
    expect((await showBackup({ ...latest, backup: partial.id })).leftOut).toMatchObject([{ missing: true }]);
    // What it holds is sound, which is another matter.
    const verified = await verifyBackups({
      ...latest,
      backup: partial.id,
      level: 'restore',
      scratch: server.url('postgres'),
      programs: server.binDir,
      environment: { PATH: process.env.PATH },
    });
    expect(verified.backups).toMatchObject([{ backupId: partial.id, valid: true, rowsCompared: 20_000 }]);
    expect(verified.warnings).toContain(`${partial.id} is incomplete: what it lacks is not verified`);
    const whole = await as('watcher');
    expect(whole.complete).toBe(true);
    expect(whole.reusedSegments).toBeGreaterThan(0);
    expect(whole.newBytes).toBeLessThan(partial.newBytes / 2);
    const quiet = await as('reader', { skipUnreadable: true, privateMetadata: true });
    const [newest] = await listBackups({ repository: repository.path });
    expect(newest).toMatchObject({ id: quiet.id, complete: false, missingCount: 1 });
    expect(newest?.missing).toBeUndefined();
    expect((await showBackup(latest)).metadata.id).toBe(whole.id);
    await restoreInto(server, 'shop_copy', repository.path, { create: true });
    const { differences } = await compareDatabases(server.url(source), server.url('shop_copy'), {
      binDir: server.binDir,
    });
    expect(differences).toEqual([]);
  });
});
