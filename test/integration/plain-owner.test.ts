// Where nobody is superuser, as at a provider of managed databases: a plain role owns its database, the extensions in
// it belong to somebody else, and a backup and a restore are its to make.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { showBackup } from '../../src/operations/show-backup.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

const byProvider =
  "CREATE EXTENSION file_fdw; CREATE EXTENSION hstore; COMMENT ON EXTENSION hstore IS 'changed'";
const byTenant = `
  CREATE SCHEMA app;
  CREATE TYPE app.state AS ENUM ('on', 'off');
  CREATE TABLE app.items (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state app.state DEFAULT 'on', tags hstore);
  INSERT INTO app.items (tags) SELECT hstore('n', i::text) FROM generate_series(1, 500) AS i;
  CREATE INDEX items_tags ON app.items USING gin (tags);
  CREATE TABLE app.parts (item integer REFERENCES app.items, n integer) PARTITION BY RANGE (n);
  CREATE TABLE app.parts_1 PARTITION OF app.parts DEFAULT;
  INSERT INTO app.parts SELECT i, i FROM generate_series(1, 100) AS i;
  CREATE MATERIALIZED VIEW app.counted AS SELECT count(*) FROM app.items;
  CREATE TABLE app.hidden (id integer); INSERT INTO app.hidden VALUES (1), (2);
  ALTER TABLE app.hidden ENABLE ROW LEVEL SECURITY; CREATE POLICY none ON app.hidden USING (false);
  CREATE FUNCTION app.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
  CREATE TRIGGER t BEFORE UPDATE ON app.items FOR EACH ROW EXECUTE FUNCTION app.f();
  GRANT USAGE ON SCHEMA app TO colleague; GRANT SELECT ON app.items TO colleague;
  CREATE PUBLICATION tenants FOR TABLE app.items;
  SELECT lo_from_bytea(4711, '\\xdeadbeef') \\g /dev/null
  COMMENT ON SCHEMA app IS 'the application';
  CREATE TABLE public.plain (id integer); INSERT INTO public.plain VALUES (1);`;

describe.each([15, 18])('on PostgreSQL %i a plain owner', version => {
  let server: Server;
  const folder = makeTempFolder('repository');
  let backupId: string;

  beforeAll(async () => {
    server = await startServer({ version });
    await psql(
      server,
      'postgres',
      'CREATE ROLE tenant LOGIN CREATEDB; CREATE ROLE colleague; CREATE ROLE other LOGIN; CREATE ROLE provider SUPERUSER LOGIN',
    );
    await server.createDatabase('app', { owner: 'tenant' });
    await psql(server, 'app', byProvider, { user: 'provider' });
    await psql(server, 'app', byTenant, { user: 'tenant' });
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    await folder.remove();
  });

  const asTenant = (database: string, options = {}) =>
    restoreInto(server, database, folder.path, {
      backup: backupId,
      to: server.url(database, 'tenant'),
      ...options,
    });
  const differences = async (database: string) =>
    (await compareDatabases(server.url('app'), server.url(database), { binDir: server.binDir })).differences;

  it('backs up its database', async () => {
    const backup = await backUp(server, 'app', folder.path, { database: server.url('app', 'tenant') });
    backupId = backup.id;
    expect(backup.warnings).toEqual([]);
    expect(backup.globals).toEqual({ included: true });
    expect(backup.rows).toBe(500 + 100 + 2 + 1);
    const shown = await showBackup({ repository: folder.path, encryptionKey: testKey, backup: backupId });
    expect(shown.extensions.map(({ name }) => name)).toEqual(['file_fdw', 'hstore', 'plpgsql']);
  });

  it('restores it where the provider has made the extensions', async () => {
    await server.createDatabase('prepared', { owner: 'tenant' });
    await psql(server, 'prepared', byProvider, { user: 'provider' });
    const { warnings } = await asTenant('prepared');
    expect(warnings).toEqual([]);
    expect(await differences('prepared')).toEqual([]);
  });

  it('cannot make the extensions that need a superuser, and leaves the database empty', async () => {
    await server.createDatabase('bare', { owner: 'tenant' });
    const failure = asTenant('bare');
    await expect(failure).rejects.toThrow(/file_fdw/);
    await server.createDatabase('empty_too', { owner: 'tenant' });
    const { differences: found } = await compareDatabases(server.url('empty_too'), server.url('bare'), {
      binDir: server.binDir,
    });
    expect(found).toEqual([]);
  });

  it('restores into a new database of its own, when its extensions may be made by it', async () => {
    await server.createDatabase('trusted', { owner: 'tenant' });
    await psql(server, 'trusted', `CREATE EXTENSION hstore; ${byTenant}`, { user: 'tenant' });
    await psql(
      server,
      'trusted',
      `ALTER DATABASE trusted SET work_mem = '9MB'; ALTER DATABASE trusted SET log_min_messages = 'error'; COMMENT ON DATABASE trusted IS 'ours'; ALTER ROLE colleague IN DATABASE trusted SET work_mem = '8MB'`,
    );
    const backup = await backUp(server, 'trusted', folder.path, {
      database: server.url('trusted', 'tenant'),
    });
    const { warnings } = await asTenant('trusted_copy', { backup: backup.id, create: true });
    expect(warnings).toEqual(Array(2).fill(expect.stringContaining('a setting was left out')));
    const { differences: found } = await compareDatabases(server.url('trusted'), server.url('trusted_copy'), {
      binDir: server.binDir,
      properties: true,
    });
    expect(found).toEqual([expect.stringMatching(/^property settings/)]);
  });

  it('may not read a table of somebody else, and says which', async () => {
    await server.cloneDatabase('app', 'shared');
    await psql(
      server,
      'shared',
      'CREATE TABLE app.theirs (id integer); ALTER TABLE app.theirs OWNER TO other; CREATE SEQUENCE app.theirs_too OWNED BY NONE; ALTER SEQUENCE app.theirs_too OWNER TO other',
    );
    await psql(server, 'shared', 'ALTER DATABASE shared OWNER TO tenant');
    const to = { database: server.url('shared', 'tenant') };
    await expect(backUp(server, 'shared', folder.path, to)).rejects.toMatchObject({
      code: 'DATABASE_PRIVILEGE',
      message: expect.stringMatching(/app\.theirs, app\.theirs_too/),
    });
    await psql(server, 'shared', 'GRANT SELECT ON app.theirs, app.theirs_too TO tenant');
    const backup = await backUp(server, 'shared', folder.path, to);
    await server.createDatabase('not_a_member', { owner: 'tenant' });
    await psql(server, 'not_a_member', byProvider, { user: 'provider' });
    await expect(asTenant('not_a_member', { backup: backup.id })).rejects.toMatchObject({
      code: 'TARGET_UNFIT',
      message: expect.stringContaining('other'),
    });
    await asTenant('not_a_member', { backup: backup.id, noOwner: true });
    expect(
      (
        await psql(server, 'not_a_member', `SELECT relowner::regrole FROM pg_class WHERE relname = 'theirs'`)
      ).trim(),
    ).toBe('tenant');
  });

  it('may restore rows alone', async () => {
    await server.createDatabase('rows', { owner: 'tenant' });
    await psql(server, 'rows', byProvider, { user: 'provider' });
    await asTenant('rows', { schemaOnly: true });
    await asTenant('rows', { dataOnly: true });
    expect((await differences('rows')).filter(line => !line.includes('app.counted'))).toEqual([]);
  });
});
