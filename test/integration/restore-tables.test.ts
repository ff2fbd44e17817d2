// A restore of chosen tables brings each with all that belongs to it, and nothing else.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadEverything, loadFixture } from '../fixtures/everything.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let server: Server;
const folder = makeTempFolder('repository');
let backupId: string;
let runs = 0;

beforeAll(async () => {
  server = await startServer();
  await server.createDatabase('orders');
  await loadFixture(server, 'orders', 'orders.sql');
  backupId = (await backUp(server, 'orders', folder.path)).id;
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await folder.remove();
});

/** What is in the source and not in a restore of these tables, as names of facts; everything else must be equal. */
async function restoreTables(tables: string[]) {
  runs += 1;
  const database = `tables_${runs}`;
  const result = await restoreInto(server, database, folder.path, { backup: backupId, tables, create: true });
  const { differences } = await compareDatabases(server.url('orders'), server.url(database), {
    binDir: server.binDir,
  });
  const missing = differences.filter(line => line.endsWith(': only in the source'));
  return {
    ...result,
    database,
    missing: missing.map(line => line.replace(': only in the source', '')),
    unequal: differences.filter(line => !missing.includes(line)),
    names: await relations(database),
  };
}

async function relations(database: string): Promise<string[]> {
  const names = await psql(
    server,
    database,
    `SELECT oid::regclass FROM pg_class
     WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND relnamespace::regnamespace::text !~ '^pg_|^information' ORDER BY oid::regclass::text`,
  );
  return names.trim().split('\n');
}

describe('a table alone', () => {
  it('brings its enum, domain, trigger function, sequence, index, statistics and comments', async () => {
    const { unequal, missing, names, rows, tables, warnings } = await restoreTables(['sales.orders']);
    expect(unequal).toEqual([]);
    expect(names).toEqual(['sales.orders', 'sales.orders_id_seq']);
    expect([tables, rows]).toEqual([1, 300]);
    const belonging = missing.filter(name => /orders|touch|status;|amount/.test(name));
    // Its foreign key to a table that is not restored, and views of it.
    expect(belonging.sort()).toEqual([
      'definition of CONSTRAINT of_customer ON orders; Type: COMMENT; Schema: sales',
      'definition of open_orders; Type: VIEW; Schema: sales',
      'definition of orders of_customer; Type: FK CONSTRAINT; Schema: sales',
    ]);
    expect(warnings).toEqual([expect.stringContaining('FK CONSTRAINT sales orders of_customer')]);
    expect(missing).toContain('definition of unrelated(integer); Type: FUNCTION; Schema: sales');
    expect(missing).toContain('large object 4711');
  });

  it('works as before: default, generated column, trigger, sequence', async () => {
    const { database } = await restoreTables(['sales.orders']);
    const row = await psql(
      server,
      database,
      'INSERT INTO sales.orders (customer_id, total) VALUES (1, 100) RETURNING id, status, gross, touched',
    );
    expect(row.trim()).toBe('301|new|119.0000|by trigger');
  });

  it('is found by an unqualified and a quoted name', async () => {
    expect((await restoreTables(['"Users"', 'settings'])).names).toEqual([
      '"Users"',
      '"Users_id_seq"',
      'settings',
    ]);
    expect((await restoreTables(['"Odd ""Schema"""."dot.ted*"'])).names).toEqual([
      '"Odd ""Schema"""."dot.ted*"',
    ]);
  });
});

describe('several tables', () => {
  it('keep the foreign keys among them', async () => {
    const { unequal, missing, rows, warnings } = await restoreTables([
      'sales.orders',
      'sales.cust*',
      'sales.countries',
      'sales.order_lines',
    ]);
    expect(unequal).toEqual([]);
    expect(warnings).toEqual([]);
    expect(rows).toBe(300 + 50 + 3 + 900);
    expect(missing.filter(name => name.includes('FK CONSTRAINT'))).toEqual([
      expect.stringContaining('mixed case'),
      expect.stringContaining('Users'),
    ]);
  });

  it('are taken by wildcards', async () => {
    const { names } = await restoreTables(['sales.order?*', 'audit.ev*']);
    expect(names).toEqual([
      'audit.events',
      'sales.order_archive',
      'sales.order_lines',
      'sales.orders',
      'sales.orders_id_seq',
    ]);
  });
});

describe('partitions and children', () => {
  it('come with the partitioned table, at every level', async () => {
    const { unequal, missing, names, rows } = await restoreTables(['audit.log']);
    expect(unequal).toEqual([]);
    expect(names).toEqual([
      'audit.log',
      'audit.log_2023',
      'audit.log_2024',
      'audit.log_2024_even',
      'audit.log_2024_odd',
      'audit.log_id_seq',
    ]);
    expect(rows).toBe(700);
    expect(missing.filter(name => /log_|log;/.test(name))).toEqual([]);
  });

  it('are restored without the partitioned table when they are asked for alone', async () => {
    const { database, rows } = await restoreTables(['audit.log_2023']);
    expect(rows).toBe(364);
    const count = await psql(server, database, `SELECT count(*), min(entry ->> 'n') FROM audit.log_2023`);
    expect(count.trim()).toBe('364|1');
  });

  it('bring the table they inherit from, empty', async () => {
    const { database, names, rows } = await restoreTables(['audit.logins']);
    expect(names).toEqual(['audit.events', 'audit.logins']);
    expect(rows).toBe(2);
    expect((await psql(server, database, 'SELECT count(*) FROM ONLY audit.events')).trim()).toBe('0');
    expect((await psql(server, database, 'SELECT account FROM audit.logins ORDER BY 1')).trim()).toBe(
      'me\nyou',
    );
  });

  it('of a parent stay behind when the parent is asked for', async () => {
    const { names } = await restoreTables(['audit.events']);
    expect(names).toEqual(['audit.events']);
  });
});

describe('chosen tables', () => {
  it.each(['sales.nothing', 'nowhere.*', 'SALES."Orders"', 'sales.open_orders'])(
    'that the backup does not have are an error: %s',
    async pattern => {
      await expect(
        restoreInto(server, 'unused', folder.path, {
          backup: backupId,
          tables: ['sales.orders', pattern],
          create: true,
        }),
      ).rejects.toMatchObject({ code: 'TABLE_NOT_IN_BACKUP', message: expect.stringContaining(pattern) });
    },
  );

  it.each(['a.b.c', 'sales.(orders'])('of a pattern that cannot be read are an error: %s', async pattern => {
    await expect(
      restoreInto(server, 'unused', folder.path, { backup: backupId, tables: [pattern], create: true }),
    ).rejects.toMatchObject({ code: 'OPTION_INVALID', message: expect.stringContaining(pattern) });
  });

  it('are restored as definitions alone', async () => {
    await restoreInto(server, 'orders_definition', folder.path, {
      backup: backupId,
      tables: ['sales.orders'],
      create: true,
      schemaOnly: true,
    });
    const counts = await psql(
      server,
      'orders_definition',
      'SELECT count(*), (SELECT last_value FROM sales.orders_id_seq) FROM sales.orders',
    );
    expect(counts.trim()).toBe('0|1');
  });
});

describe('tables of one of everything', () => {
  const repository = makeTempFolder('everything');

  beforeAll(async () => {
    await server.createDatabase('everything');
    await loadEverything(server, 'everything');
    await backUp(server, 'everything', repository.path);
  });
  afterAll(() => repository.remove());

  it.each([
    [['tables.*', 'sequences.*', 'privileges.*', '"select".*']],
    [['parts.*']],
    [['constraints.*', 'triggers.*']],
    // The second is a table whose rows the first uses as values.
    [['types.user_types', 'types.anchor']],
  ])('are restored as they were: %j', async tables => {
    await server.dropDatabase('some');
    const { rows } = await restoreInto(server, 'some', repository.path, { create: true, tables });
    expect(rows).toBeGreaterThan(0);
    const { differences } = await compareDatabases(server.url('everything'), server.url('some'), {
      binDir: server.binDir,
    });
    expect(differences.filter(line => !line.endsWith(': only in the source'))).toEqual([]);
  });
});
