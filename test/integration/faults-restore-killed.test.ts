// A restore that is killed with kill -9, at every request to the storage and at every step between it and the server:
// the target then says that it is unfinished, and the same command goes on with --resume, or begins anew with
// --clean-target. Either way the end is the source.

import { readdirSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listBackups } from '../../src/operations/list-backups.ts';
import type { RestoreBackupOptions } from '../../src/operations/restore-backup.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import { dieAt } from '../support/dying-restore.ts';
import { ownSessions } from '../support/fault-database.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { waitFor } from '../support/processes.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { runUnderFaults } from '../support/run-under-faults.ts';
import { makeTempFolder } from '../support/temp-folder.ts';
import { isChosen } from '../support/thorough.ts';

const manyKills = 900_000;
let server: Server;
const folder = makeTempFolder('repository');
let targets = 0;

beforeAll(async () => {
  server = await startServer();
  await server.createDatabase('orders');
  // Small, with one of whatever pg_restore makes after the rows, and with what would notice the mark.
  await psql(
    server,
    'orders',
    `CREATE SCHEMA sales;
     CREATE TABLE sales.customers (id serial PRIMARY KEY, name text UNIQUE);
     INSERT INTO sales.customers (name) SELECT 'customer ' || i FROM generate_series(1, 50) AS i;
     CREATE TABLE sales.orders (id integer PRIMARY KEY, customer_id integer REFERENCES sales.customers, total numeric CHECK (total > 0));
     INSERT INTO sales.orders SELECT i, i % 50 + 1, i FROM generate_series(1, 300) AS i;
     CREATE INDEX "by total" ON sales.orders (total) WHERE total > 10;
     CREATE STATISTICS sales.orders_statistics ON customer_id, total FROM sales.orders;
     CREATE MATERIALIZED VIEW sales.totals AS SELECT customer_id, sum(total) AS total FROM sales.orders GROUP BY 1;
     CREATE UNIQUE INDEX ON sales.totals (customer_id);
     COMMENT ON INDEX sales."by total" IS 'of larger orders';
     CREATE UNLOGGED TABLE sales.cart AS SELECT i AS id FROM generate_series(1, 10) AS i;
     CREATE TABLE sales.parts (id integer, kind integer, PRIMARY KEY (id, kind)) PARTITION BY LIST (kind);
     CREATE TABLE sales.parts_1 PARTITION OF sales.parts FOR VALUES IN (1);
     CREATE TABLE sales.parts_2 PARTITION OF sales.parts FOR VALUES IN (2);
     INSERT INTO sales.parts SELECT i, i % 2 + 1 FROM generate_series(1, 20) AS i;
     CREATE TABLE sales.notes (id integer, kind integer, note text, FOREIGN KEY (id, kind) REFERENCES sales.parts) PARTITION BY LIST (kind);
     CREATE TABLE sales.notes_1 PARTITION OF sales.notes FOR VALUES IN (1);
     CREATE FUNCTION sales.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := 'touched'; RETURN NEW; END $$;
     CREATE TRIGGER touched BEFORE UPDATE ON sales.notes FOR EACH ROW EXECUTE FUNCTION sales.touch();
     ALTER TABLE sales.notes_1 DISABLE TRIGGER touched;
     ALTER TABLE sales.orders ENABLE ROW LEVEL SECURITY;
     CREATE POLICY everybody ON sales.orders USING (true);
     CREATE RULE keep AS ON DELETE TO sales.cart DO INSTEAD NOTHING;
     ALTER TABLE sales.orders ADD CONSTRAINT not_too_many CHECK (total > 10) NOT VALID;
     CREATE PUBLICATION all_tables FOR ALL TABLES;
     CREATE PUBLICATION some_tables FOR TABLE sales.orders, sales.customers;
     CREATE SUBSCRIPTION elsewhere CONNECTION 'host=127.0.0.1 port=1 dbname=none' PUBLICATION p WITH (connect = false, slot_name = 'kept');
     SELECT lo_from_bytea(4711, '\\xdeadbeef') \\g /dev/null
     CREATE TABLE sales.dropped (what text);
     CREATE FUNCTION sales.note_drop() RETURNS event_trigger LANGUAGE plpgsql AS
       $$ BEGIN INSERT INTO sales.dropped SELECT object_identity FROM pg_event_trigger_dropped_objects(); END $$;
     CREATE EVENT TRIGGER noting ON sql_drop EXECUTE FUNCTION sales.note_drop();`,
  );
  await backUp(server, 'orders', folder.path);
});
afterAll(async () => {
  // A subscription of a slot that is nowhere keeps its database from being dropped, but not its server.
  await server[Symbol.asyncDispose]();
  await folder.remove();
});

function optionsFor(database: string, further: Partial<RestoreBackupOptions> = {}): RestoreBackupOptions {
  return {
    repository: folder.path,
    encryptionKey: testKey,
    programs: server.binDir,
    backup: 'latest',
    to: server.url(database),
    ...further,
  };
}

async function newTarget(): Promise<string> {
  targets += 1;
  return server.createDatabase(`target_${targets}`);
}

async function expectOrders(database: string, at: string): Promise<void> {
  const { differences } = await compareDatabases(server.url('orders'), server.url(database), {
    binDir: server.binDir,
  });
  expect(differences, at).toEqual([]);
}

async function discard(...databases: string[]): Promise<void> {
  for (const database of databases) {
    await psql(
      server,
      database,
      `DROP EVENT TRIGGER IF EXISTS noting; ALTER SUBSCRIPTION elsewhere SET (slot_name = NONE); DROP SUBSCRIPTION elsewhere`,
    ).catch(() => undefined);
    await server.dropDatabase(database);
  }
}

async function holdsMark(database: string): Promise<boolean> {
  return (await psql(server, database, "SELECT to_regnamespace('pgkeep_restore')")).trim() !== '';
}

/** Restores into an existing database that a killed restore has left, in both ways. */
async function expectBothWaysOn(target: string, at: string): Promise<void> {
  // A backend that was writing is rid of its client only when it looks.
  const copy = await cloneWhenFree(target);
  if (await holdsMark(target)) {
    await expect(restoreInto(server, target, folder.path), at).rejects.toMatchObject({
      code: 'TARGET_UNFINISHED',
    });
  }
  for (const [database, how] of [
    [target, { resume: true }],
    [copy, { cleanTarget: true }],
  ] as const) {
    const isDone = await isWhole(database);
    // Killed once the last statement was on its way, it may have been the end.
    if (isDone)
      await expect(restoreInto(server, database, folder.path, how), at).rejects.toThrow(/is not empty/);
    else await restoreInto(server, database, folder.path, how);
    await expectOrders(database, `${at}, ${Object.keys(how)}`);
    expect(await holdsMark(database), at).toBe(false);
  }
  await discard(target, copy);
}

/** Whether everything is there, and no mark. */
async function isWhole(database: string): Promise<boolean> {
  if (await holdsMark(database)) return false;
  return (await psql(server, database, "SELECT to_regclass('sales.orders')")).trim() !== '';
}

async function cloneWhenFree(database: string): Promise<string> {
  for (let tries = 1; ; tries += 1) {
    await psql(
      server,
      'postgres',
      `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '${database}'`,
    );
    try {
      return await server.cloneDatabase(database);
    } catch (error) {
      if (tries === 20) throw error;
    }
  }
}

describe('a restore into an empty database', () => {
  let steps: string[];
  let first: number;

  beforeAll(async () => {
    const target = await newTarget();
    ({ steps } = await dieAt({ options: optionsFor(target) }));
    await expectOrders(target, 'not killed');
    await discard(target);
    first = steps.findIndex(step => step.startsWith('CREATE SCHEMA pgkeep_restore'));
    expect(first).toBeGreaterThan(0);
    expect(steps.filter(step => step === 'rows loaded').length).toBeGreaterThan(4);
  });

  it(
    'goes on, or begins anew, wherever it is killed before and after the rows',
    async () => {
      let analyzed = 0;
      for (const [index, step] of steps.entries()) {
        if (index < first || step === 'rows loaded') continue;
        // One table is like another.
        if (step.startsWith('ANALYZE') && ++analyzed > 2) continue;
        if (!isChosen(index)) continue;
        const target = await newTarget();
        expect(await dieAt({ options: optionsFor(target), step: index + 1 })).toEqual({
          isKilled: true,
          steps: [],
        });
        await expectBothWaysOn(target, `step ${index + 1}: ${step}`);
      }
    },
    manyKills,
  );

  it(
    'goes on, or begins anew, after however many tables it is killed, and loads no row twice',
    async () => {
      for (const [index, step] of steps.entries()) {
        if (step !== 'rows loaded' || !isChosen(index)) continue;
        const target = await newTarget();
        await dieAt({ options: optionsFor(target), step: index + 1 });
        await expectBothWaysOn(target, `step ${index + 1}: ${step}`);
      }
    },
    manyKills,
  );

  it(
    'goes on, or begins anew, at whichever request to the storage it is killed',
    async () => {
      const whole = await newTarget();
      const { requests } = await runUnderFaults('restoreBackup', optionsFor(whole));
      await discard(whole);
      expect(requests.length).toBeGreaterThan(5);
      for (const { number, call, name } of requests) {
        for (const when of ['before', 'after'] as const) {
          // After one request is before the next.
          if (when === 'after' && number < requests.length) continue;
          if (!isChosen(number)) continue;
          const target = await newTarget();
          const fault = { do: 'die', when, number } as const;
          expect((await runUnderFaults('restoreBackup', optionsFor(target), [fault])).isKilled).toBe(true);
          await expectBothWaysOn(target, `${when} request ${number}: ${call} ${name}`);
        }
      }
    },
    manyKills,
  );
});

describe('a restore that creates its database', () => {
  it(
    'goes on, or begins anew, wherever it is killed before the definitions and at the end',
    async () => {
      const { steps } = await dieAt({ options: optionsFor('made', { create: true }) });
      await discard('made');
      const created = steps.findIndex(step => step.startsWith('CREATE DATABASE'));
      const definitions = steps.indexOf('before --section=pre-data');
      const finish = steps.findIndex(step =>
        step.startsWith("UPDATE pgkeep_restore.restore SET phase = 'finish'"),
      );
      expect(created).toBeGreaterThan(0);
      expect(finish).toBeGreaterThan(definitions);
      for (const [index, step] of steps.entries()) {
        const isWanted =
          (index >= created && index <= definitions) || index >= finish || step.startsWith('UPDATE');
        if (!isWanted || step.startsWith('ANALYZE') || !isChosen(index)) continue;
        for (const how of [{ resume: true }, { cleanTarget: true }]) {
          const at = `step ${index + 1}: ${step}, ${Object.keys(how)}`;
          await dieAt({ options: optionsFor('made', { create: true }), step: index + 1 });
          const exists =
            (await psql(server, 'postgres', "SELECT 1 FROM pg_database WHERE datname = 'made'")) !== '';
          // Once the last statement was on its way, it may have been the end.
          if (exists && (await isWhole('made'))) {
            await expectOrders('made', at);
          } else {
            const again = restoreInto(server, 'made', folder.path, { create: true });
            if (exists) await expect(again, at).rejects.toMatchObject({ code: 'TARGET_UNFINISHED' });
            else await again;
            if (exists) await restoreInto(server, 'made', folder.path, { create: true, ...how });
            await expectOrders('made', at);
          }
          const limit = "SELECT datconnlimit FROM pg_database WHERE datname = 'made'";
          expect((await psql(server, 'postgres', limit)).trim(), at).toBe('-1');
          await discard('made');
        }
      }
    },
    manyKills,
  );
});

describe('a restore that is killed while pg_restore works', () => {
  it(
    'ends what that still does, and goes on with the indexes that are missing',
    async () => {
      await server.createDatabase('large');
      await psql(
        server,
        'large',
        `CREATE TABLE large AS SELECT i AS id, md5(i::text) AS v, i % 7 AS k FROM generate_series(1, 200000) AS i;
         ALTER TABLE large ADD PRIMARY KEY (id); CREATE INDEX large_v ON large (v); CREATE INDEX large_k ON large (k, v);
         CREATE TABLE smaller (id integer REFERENCES large); INSERT INTO smaller SELECT generate_series(1, 50000);
         CREATE INDEX "smaller id" ON smaller (id); CREATE MATERIALIZED VIEW counts AS SELECT k, count(*) FROM large GROUP BY k; CREATE INDEX counts_k ON counts (k)`,
      );
      await using repository = makeTempFolder('repository');
      const { id } = await backUp(server, 'large', repository.path);
      for (const section of ['pre-data', 'data', 'post-data']) {
        const moments = section === 'post-data' ? [0, 50, 150, 300, 500, 800, 1200] : [0, 20, 60];
        for (const ms of moments.filter((_, index) => isChosen(index))) {
          const target = await newTarget();
          await dieAt({
            options: optionsFor(target, { repository: repository.path, backup: id }),
            during: { section, ms },
          });
          if (await holdsMark(target)) {
            await restoreInto(server, target, repository.path, { resume: true }).catch(error => {
              // Killed once the last statement was on its way, it may have been the end.
              if (error.code !== 'TARGET_NOT_EMPTY') throw error;
            });
          }
          const { differences } = await compareDatabases(server.url('large'), server.url(target), {
            binDir: server.binDir,
          });
          expect(differences, `${section} after ${ms} ms`).toEqual([]);
          await server.dropDatabase(target);
        }
      }
    },
    manyKills,
  );
});

describe('an unfinished restore', () => {
  /** Kills a restore after some tables. */
  async function cutShort(further: Partial<RestoreBackupOptions> = {}): Promise<string> {
    const target = await newTarget();
    const { steps } = await dieAt({ options: optionsFor(target, further) });
    await discard(target);
    await server.createDatabase(target);
    const rows = steps.indexOf('rows loaded');
    expect(rows).toBeGreaterThan(0);
    expect((await dieAt({ options: optionsFor(target, further), step: rows + 4 })).isKilled).toBe(true);
    return target;
  }

  it('is told with backup, time and what to do, also to --data-only, and nothing is changed', async () => {
    const target = await cutShort();
    const [backup] = await listBackups({ repository: folder.path });
    const refused = restoreInto(server, target, folder.path);
    await expect(refused).rejects.toMatchObject({
      code: 'TARGET_UNFINISHED',
      message: expect.stringMatching(
        new RegExp(`^${target} at .* holds an unfinished restore of ${backup?.id}, begun at 20\\d\\d-.*Z$`),
      ),
      hint: expect.stringMatching(/--resume goes on.*--clean-target begins anew/),
    });
    await expect(restoreInto(server, target, folder.path, { dataOnly: true })).rejects.toMatchObject({
      code: 'TARGET_UNFINISHED',
    });
    const { plan } = await restoreInto(server, target, folder.path, { resume: true, dryRun: true });
    expect(plan).toEqual([expect.stringMatching(/^go on with the restore of backup-/)]);
    const anew = await restoreInto(server, target, folder.path, { cleanTarget: true, dryRun: true });
    expect(anew.plan[0]).toMatch(/^remove what the restore of backup-.* has left in/);
    const comment = await psql(server, target, "SELECT obj_description('pgkeep_restore'::regnamespace)");
    expect(comment).toMatch(/is restoring backup-.*--resume or --clean-target/);
    const { resumed, rows } = await restoreInto(server, target, folder.path, { resume: true });
    expect([resumed, rows]).toEqual([true, backup?.recordCount]);
    await expectOrders(target, 'resumed');
    await discard(target);
  });

  it('is resumed only as it was begun', async () => {
    const target = await cutShort();
    const resume = (further: Partial<RestoreBackupOptions>) =>
      restoreInto(server, target, folder.path, { resume: true, ...further });
    await expect(resume({ noOwner: true })).rejects.toThrow(
      'was begun with no options, and this command comes with --no-owner',
    );
    await expect(resume({ tables: ['sales.orders'] })).rejects.toThrow('--tables sales.orders');
    await expect(resume({ create: true })).rejects.toThrow('--create');
    await using other = makeTempFolder('repository');
    const { id } = await backUp(server, 'orders', other.path);
    await expect(restoreInto(server, target, other.path, { resume: true, backup: id })).rejects.toMatchObject(
      {
        code: 'TARGET_UNFINISHED',
      },
    );
    await expect(
      restoreInto(server, target, folder.path, { cleanTarget: true, create: true }),
    ).rejects.toThrow('was begun without --create');
    await discard(target);
  });

  it('of latest is resumed from its own backup when there is a newer one', async () => {
    await using repository = makeTempFolder('repository');
    const { id } = await backUp(server, 'orders', repository.path);
    const target = await cutShort({ repository: repository.path });
    await backUp(server, 'orders', repository.path);
    const { backup } = await restoreInto(server, target, repository.path, { resume: true });
    expect(backup).toBe(id);
    await expectOrders(target, 'resumed');
    await discard(target);
  });

  it('is not touched while somebody restores into it', async () => {
    const target = await cutShort();
    const holder = psql(
      server,
      target,
      'SELECT pg_advisory_lock((28775::bigint << 32) | 1801807216); SELECT pg_sleep(60)',
    ).catch((error: Error) => error.message);
    const holding = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 1801807216";
    let pid = '';
    while (pid === '') pid = (await psql(server, 'postgres', holding)).trim();
    for (const how of [{}, { resume: true }, { cleanTarget: true }]) {
      await expect(restoreInto(server, target, folder.path, how)).rejects.toMatchObject({
        code: 'TARGET_UNFIT',
        message: expect.stringMatching(
          new RegExp(`is being restored right now \\(server process ${pid}, since `),
        ),
      });
    }
    await psql(server, 'postgres', `SELECT pg_terminate_backend(${pid})`);
    await holder;
    await restoreInto(server, target, folder.path, { resume: true });
    await expectOrders(target, 'resumed');
    await discard(target);
  });

  it('stays as far as it is when going on fails, and can be gone on with again', async () => {
    const target = await cutShort();
    const fault = {
      do: 'fail',
      code: 'STORAGE_UNREACHABLE',
      call: 'get',
      name: 'segments/',
      nth: 3,
    } as const;
    const { error } = await runUnderFaults('restoreBackup', optionsFor(target, { resume: true }), [fault]);
    expect(error?.code).toBe('STORAGE_UNREACHABLE');
    expect(await holdsMark(target)).toBe(true);
    await restoreInto(server, target, folder.path, { resume: true });
    await expectOrders(target, 'resumed');
    await discard(target);
  });

  it('begins anew when the server has crashed meanwhile and emptied unlogged tables', async () => {
    const target = await cutShort();
    await server.stop('immediate');
    await server.start();
    // The source has lost the rows as well.
    await psql(server, 'orders', 'INSERT INTO sales.cart SELECT generate_series(1, 10)');
    const warnings: string[] = [];
    const { resumed } = await restoreInto(server, target, folder.path, {
      resume: true,
      onEvent: event => event.type === 'warning' && warnings.push(event.message),
    });
    expect(resumed).toBe(false);
    expect(warnings).toEqual([expect.stringContaining('has crashed meanwhile')]);
    await expectOrders(target, 'begun anew');
    await discard(target);
  });

  it('whose rows somebody has changed since is not taken for whole', async () => {
    const target = await cutShort();
    await psql(
      server,
      target,
      'TRUNCATE sales.customers, sales.orders, sales.cart, sales.parts, sales.notes',
    );
    await expect(restoreInto(server, target, folder.path, { resume: true })).rejects.toMatchObject({
      code: 'RESTORE_INCOMPLETE',
      message: expect.stringMatching(/holds 0 rows where the backup holds/),
    });
    await restoreInto(server, target, folder.path, { cleanTarget: true });
    await expectOrders(target, 'cleaned');
    await discard(target);
  });
});

it('--clean-target removes nothing from a database without an unfinished restore', async () => {
  const target = await newTarget();
  await psql(server, target, 'CREATE TABLE precious AS SELECT 1 AS n');
  await expect(restoreInto(server, target, folder.path, { cleanTarget: true })).rejects.toMatchObject({
    code: 'TARGET_NOT_EMPTY',
  });
  await expect(
    restoreInto(server, target, folder.path, { cleanTarget: true, create: true }),
  ).rejects.toMatchObject({ code: 'TARGET_EXISTS' });
  expect((await psql(server, target, 'SELECT n FROM precious')).trim()).toBe('1');
});

it('a role that may not create schemas restores without the mark, and is told', async () => {
  await using repository = makeTempFolder('repository');
  await server.createDatabase('simple');
  await psql(server, 'simple', 'CREATE TABLE public.t AS SELECT 1 AS n; CREATE ROLE plain LOGIN');
  await backUp(server, 'simple', repository.path);
  const target = await newTarget();
  await psql(server, target, 'GRANT CREATE ON SCHEMA public TO plain');
  const { warnings } = await restoreInto(server, target, repository.path, {
    to: server.url(target, 'plain'),
    noOwner: true,
    noPrivileges: true,
  });
  expect(warnings).toContainEqual(expect.stringContaining('cannot be marked as being restored'));
  expect((await psql(server, target, 'SELECT n FROM t')).trim()).toBe('1');
});

it('kill -9 leaves no file behind, whatever the restore was doing', async () => {
  await using temporary = makeTempFolder('tmp');
  for (const section of ['pre-data', 'post-data']) {
    const target = await newTarget();
    await dieAt({ options: optionsFor(target), during: { section, ms: 0 } }, { TMPDIR: temporary.path });
    expect(await holdsMark(target)).toBe(true);
    expect(readdirSync(temporary.path).filter(name => name !== 'node-compile-cache')).toEqual([]);
  }
  await waitFor('the sessions to end', async () => (await ownSessions(server)) === 0);
});
