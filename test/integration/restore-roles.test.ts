// Owners, privileges, roles and the database's own properties, on the source's server and on others.
import { readdirSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { showBackup } from '../../src/operations/show-backup.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

const roles = `
  SET DateStyle = 'ISO';
  CREATE ROLE shop_owner LOGIN CREATEDB PASSWORD 'owner secret' CONNECTION LIMIT 7 VALID UNTIL '2031-02-03 04:05:06+00';
  CREATE ROLE "Shop Reader's" NOINHERIT;
  CREATE ROLE shop_group NOLOGIN; CREATE ROLE shop_policy; CREATE ROLE shop_mapped; CREATE ROLE shop_defaults; CREATE ROLE shop_default_reader; CREATE ROLE shop_unused;
  CREATE ROLE shop_database_owner;
  COMMENT ON ROLE shop_owner IS 'owns the shop''s things';
  ALTER ROLE shop_owner SET search_path = "$user", 'Odd Schema', public;
  ALTER ROLE shop_owner SET statement_timeout = '5s';
  ALTER ROLE shop_group SET search_path = '';
  GRANT shop_group TO shop_owner WITH ADMIN OPTION; GRANT shop_group TO "Shop Reader's"; GRANT shop_unused TO shop_owner;`;

const definitions = `
  SET ROLE NONE;
  CREATE TABLE public.orders (id integer, who name); INSERT INTO public.orders SELECT i, 'shop_policy' FROM generate_series(1, 10) AS i;
  ALTER TABLE public.orders OWNER TO shop_owner;
  GRANT SELECT ON public.orders TO "Shop Reader's" WITH GRANT OPTION;
  SET ROLE "Shop Reader's"; GRANT SELECT ON public.orders TO shop_group; RESET ROLE;
  ALTER TABLE public.orders ENABLE ROW LEVEL SECURITY;
  CREATE POLICY own_rows ON public.orders TO shop_policy USING (who = CURRENT_USER);
  CREATE FOREIGN DATA WRAPPER wrapper; CREATE SERVER server FOREIGN DATA WRAPPER wrapper; CREATE USER MAPPING FOR shop_mapped SERVER server;
  ALTER DEFAULT PRIVILEGES FOR ROLE shop_defaults GRANT SELECT ON TABLES TO shop_default_reader;
  CREATE FUNCTION public.f() RETURNS integer LANGUAGE sql AS 'SELECT 1'; REVOKE ALL ON FUNCTION public.f() FROM PUBLIC;
  COMMENT ON DATABASE shop IS 'the shop''s database';
  ALTER DATABASE shop OWNER TO shop_database_owner;
  ALTER DATABASE shop CONNECTION LIMIT 50;
  ALTER DATABASE shop SET search_path = ''; ALTER DATABASE shop SET work_mem = '9MB'; ALTER DATABASE shop SET "app.tenant" = 'it''s ours, \\ too';
  ALTER DATABASE shop SET DateStyle = 'German, DMY';
  ALTER ROLE shop_owner IN DATABASE shop SET search_path = 'Odd "Schema"', public;
  ALTER ROLE shop_owner IN DATABASE shop SET TimeZone = 'Asia/Kathmandu';
  REVOKE CONNECT ON DATABASE shop FROM PUBLIC; GRANT CONNECT ON DATABASE shop TO "Shop Reader's" WITH GRANT OPTION; GRANT CREATE ON DATABASE shop TO shop_owner;`;

const all = [
  "Shop Reader's",
  'shop_database_owner',
  'shop_default_reader',
  'shop_defaults',
  'shop_group',
  'shop_mapped',
  'shop_owner',
  'shop_policy',
];

let server: Server;
const folder = makeTempFolder('repository');
let backupId: string;

beforeAll(async () => {
  server = await startServer();
  await psql(server, 'postgres', roles);
  await server.createDatabase('shop');
  await psql(server, 'shop', definitions);
  backupId = (await backUp(server, 'shop', folder.path, { rolePasswords: true })).id;
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await folder.remove();
});

async function rolesOf(some: Server): Promise<string[]> {
  const names = await psql(
    some,
    'postgres',
    `SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_|^postgres$' ORDER BY rolname COLLATE "C"`,
  );
  return names.trim().split('\n').filter(Boolean);
}

/** Attributes, passwords, comments, memberships and settings of the roles, as text. */
function describeRoles(some: Server): Promise<string> {
  return psql(
    some,
    'postgres',
    `SET DateStyle = ISO; SET TimeZone = UTC;
     SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls, rolconnlimit, rolvaliduntil,
            rolpassword, shobj_description(oid, 'pg_authid') FROM pg_authid WHERE rolname ~ '^(S|s)hop' AND rolname <> 'shop_unused' ORDER BY 1;
     SELECT roleid::regrole, member::regrole, admin_option FROM pg_auth_members
     WHERE roleid::regrole::text ~ '^"?(S|s)hop' AND roleid::regrole::text <> 'shop_unused' ORDER BY roleid::regrole::text, member::regrole::text;
     SELECT setrole::regrole, setconfig FROM pg_db_role_setting WHERE setdatabase = 0 ORDER BY setrole::regrole::text;`,
  );
}

const compare = (from: string, to: string, ignore: RegExp[] = []) =>
  compareDatabases(from, to, { binDir: server.binDir, properties: true, ignore }).then(
    ({ differences }) => differences,
  );

describe('on the same server', () => {
  it('a new database has the owner, privileges, limits, settings and comment of the source', async () => {
    const { warnings } = await restoreInto(server, 'copy', folder.path, { backup: backupId, create: true });
    expect(warnings).toEqual([]);
    expect(await compare(server.url('shop'), server.url('copy'))).toEqual([]);
  });

  it('a database that was there keeps its own properties', async () => {
    await server.createDatabase('there', { owner: 'shop_policy' });
    await restoreInto(server, 'there', folder.path, { backup: backupId });
    expect(await compare(server.url('shop'), server.url('there'), [/^property/])).toEqual([]);
    const owner = await psql(
      server,
      'there',
      `SELECT datdba::regrole, shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'there'`,
    );
    expect(owner.trim()).toBe('shop_policy|');
  });

  it("without owners everything is the restoring role's", async () => {
    await restoreInto(server, 'ownerless', folder.path, { backup: backupId, create: true, noOwner: true });
    const found = await compare(server.url('shop'), server.url('ownerless'));
    expect(
      found.filter(line => !/^property (owner|privileges)|^definition of (orders|TABLE orders)/.test(line)),
    ).toEqual([]);
    const owner = await psql(
      server,
      'ownerless',
      `SELECT relowner::regrole, (SELECT datdba::regrole FROM pg_database WHERE datname = 'ownerless'), has_table_privilege('Shop Reader''s', oid, 'SELECT') FROM pg_class WHERE relname = 'orders'`,
    );
    expect(owner.trim()).toBe('postgres|postgres|t');
  });

  it('without privileges nothing is granted or revoked', async () => {
    await restoreInto(server, 'open', folder.path, { backup: backupId, create: true, noPrivileges: true });
    const facts = await psql(
      server,
      'open',
      `SELECT relowner::regrole, relacl, (SELECT proacl FROM pg_proc WHERE proname = 'f'), (SELECT count(*) FROM pg_default_acl),
              (SELECT datacl FROM pg_database WHERE datname = 'open') FROM pg_class WHERE relname = 'orders'`,
    );
    expect(facts.trim()).toBe('shop_owner|||0|');
  });
});

describe('on a server without the roles', () => {
  it('a restore is refused, naming every role, and changes nothing', async () => {
    await using other = await startServer();
    const into = (options: Parameters<typeof restoreInto>[3]) =>
      restoreInto(other, 'shop', folder.path, { backup: backupId, create: true, ...options });
    const cases = [
      { options: {}, missing: all },
      { options: { create: false }, missing: all.filter(name => name !== 'shop_database_owner') },
      { options: { noOwner: true }, missing: all.filter(name => name !== 'shop_database_owner') },
      {
        options: { noPrivileges: true },
        missing: ['shop_database_owner', 'shop_mapped', 'shop_owner', 'shop_policy'],
      },
      { options: { noOwner: true, noPrivileges: true }, missing: ['shop_mapped', 'shop_policy'] },
    ];
    await other.createDatabase('empty');
    for (const { options, missing } of cases) {
      const failure =
        options.create === false
          ? restoreInto(other, 'empty', folder.path, { backup: backupId })
          : into(options);
      await expect(failure).rejects.toMatchObject({ code: 'TARGET_UNFIT', context: { roles: missing } });
      await expect(failure).rejects.toThrow(missing.join(', '));
    }
    expect(await rolesOf(other)).toEqual([]);
    expect(await psql(other, 'empty', `SELECT 1 FROM pg_class WHERE relname = 'orders'`)).toBe('');
  });

  it('needs none of them without owners and privileges, where no policy names one', async () => {
    await server.cloneDatabase('shop', 'unnamed');
    await psql(
      server,
      'unnamed',
      'DROP POLICY own_rows ON public.orders; DROP USER MAPPING FOR shop_mapped SERVER server',
    );
    const backup = await backUp(server, 'unnamed', folder.path);
    await using other = await startServer();
    await restoreInto(other, 'shop', folder.path, {
      backup: backup.id,
      create: true,
      noOwner: true,
      noPrivileges: true,
    });
    expect(await rolesOf(other)).toEqual([]);
    expect((await psql(other, 'shop', 'SELECT count(*) FROM public.orders')).trim()).toBe('10');
  });

  it('they are created with attributes, password, comment, settings and memberships', async () => {
    await using other = await startServer();
    const { plan } = await restoreInto(other, 'shop', folder.path, {
      backup: backupId,
      create: true,
      createRoles: true,
      dryRun: true,
    });
    expect(plan[0]).toBe(`create the roles ${all.join(', ')}`);
    expect(await rolesOf(other)).toEqual([]);
    await restoreInto(other, 'shop', folder.path, { backup: backupId, create: true, createRoles: true });
    expect(await rolesOf(other)).toEqual(all);
    expect(await describeRoles(other)).toBe(await describeRoles(server));
    expect(await compare(server.url('shop'), other.url('shop'), [/shop_default/])).toEqual([]);
  });

  it('those that exist are not changed', async () => {
    await using other = await startServer();
    await psql(other, 'postgres', `CREATE ROLE shop_owner NOLOGIN; CREATE ROLE shop_policy`);
    await restoreInto(other, 'shop', folder.path, { backup: backupId, create: true, createRoles: true });
    const owner = await psql(
      other,
      'postgres',
      `SELECT rolcanlogin, rolconfig FROM pg_roles WHERE rolname = 'shop_owner'`,
    );
    expect(owner.trim()).toBe('f|');
    expect(await rolesOf(other)).toEqual(all);
  });

  it('those that were created are dropped again when the restore fails', async () => {
    await server.cloneDatabase('shop', 'broken');
    await psql(
      server,
      'broken',
      'ALTER TABLE public.orders ADD CONSTRAINT sleeping CHECK (id < 5) NOT VALID',
    );
    // A row that the function of an index refuses: the restore fails at its end.
    await psql(
      server,
      'broken',
      `CREATE FUNCTION public.picky(integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN IF $1 > 5 THEN RAISE 'no such luck'; END IF; RETURN $1; END $$;
       CREATE INDEX picky ON public.orders (public.picky(id)) WHERE id < 3`,
    );
    await psql(
      server,
      'broken',
      `UPDATE pg_index SET indpred = NULL WHERE indexrelid = 'public.picky'::regclass`,
    );
    const backup = await backUp(server, 'broken', folder.path);
    await using other = await startServer();
    const events: string[] = [];
    const onEvent = (event: { type: string; message?: string }) =>
      void (event.type === 'warning' && events.push(event.message ?? ''));
    const failure = restoreInto(other, 'shop', folder.path, {
      backup: backup.id,
      create: true,
      createRoles: true,
      onEvent,
    });
    await expect(failure).rejects.toThrow(/no such luck/);
    expect(await rolesOf(other)).toEqual([]);
    expect(await psql(other, 'postgres', `SELECT 1 FROM pg_database WHERE datname = 'shop'`)).toBe('');
    expect(events.join('\n')).toMatch(
      /database shop.*dropped again[\s\S]*roles.*dropped again: Shop Reader's, shop_default_reader/,
    );
  });

  it('a role that may not create roles is told so', async () => {
    await using other = await startServer();
    await psql(other, 'postgres', 'CREATE ROLE plain LOGIN CREATEDB');
    const failure = restoreInto(other, 'shop', folder.path, {
      backup: backupId,
      create: true,
      createRoles: true,
      to: other.url('shop', 'plain'),
    });
    await expect(failure).rejects.toMatchObject({
      code: 'DATABASE_PRIVILEGE',
      message: expect.stringContaining('CREATEROLE'),
    });
  });
});

describe('roles in a backup', () => {
  it('come without passwords unless asked for', async () => {
    const backup = await backUp(server, 'shop', folder.path);
    await using other = await startServer();
    await restoreInto(other, 'shop', folder.path, { backup: backup.id, create: true, createRoles: true });
    expect((await psql(other, 'postgres', `SELECT count(rolpassword) FROM pg_authid`)).trim()).toBe('0');
    expect(
      (await showBackup({ repository: folder.path, encryptionKey: testKey, backup: backup.id })).roles,
    ).toEqual({ included: true });
  });

  it('with passwords are refused to a role that may not read these, before anything is written', async () => {
    await psql(
      server,
      'shop',
      'CREATE ROLE reader LOGIN BYPASSRLS; GRANT SELECT ON public.orders TO reader; GRANT CONNECT ON DATABASE shop TO reader',
    );
    await using empty = makeTempFolder('repository');
    const failure = backUp(server, 'shop', empty.path, {
      rolePasswords: true,
      database: server.url('shop', 'reader'),
    });
    await expect(failure).rejects.toMatchObject({ code: 'DATABASE_PRIVILEGE' });
    expect(readdirSync(empty.path)).toEqual([]);
    const backup = await backUp(server, 'shop', empty.path, { database: server.url('shop', 'reader') });
    expect(backup.globals).toEqual({ included: true });
    expect(backup.rows).toBe(10);
  });
});
