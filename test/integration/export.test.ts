// The user's way out: a script that psql alone restores, the same database as it was.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ExportBackupOptions, exportBackup } from '../../src/operations/export-backup.ts';
import { loadEverything, loadFixture, offerFixtureExtension } from '../fixtures/everything.ts';
import { compareDatabases } from '../support/compare-databases.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { psqlFile } from '../support/psql-file.ts';
import { backUp, testKey } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

const folder = makeTempFolder('export');
afterAll(() => folder.remove());

function exportFrom(server: Server, repository: string, options: Partial<ExportBackupOptions> = {}) {
  return exportBackup({
    repository,
    encryptionKey: testKey,
    backup: 'latest',
    output: join(folder.path, 'unnamed.sql'),
    environment: { PATH: process.env.PATH },
    programs: server.binDir,
    ...options,
  });
}

async function differences(server: Server, source: string, target: string, ignore: RegExp[] = []) {
  const comparison = await compareDatabases(server.url(source), server.url(target), {
    binDir: server.binDir,
    ignore,
  });
  return comparison.differences;
}

describe.each([15, 18])('one of everything on PostgreSQL %i', version => {
  let server: Server;
  const repository = join(folder.path, `everything-${version}`);
  const script = join(folder.path, `everything-${version}.sql`);

  beforeAll(async () => {
    // Else it warns of every publication.
    server = await startServer({ version, settings: { wal_level: 'logical' } });
    await server.createDatabase('source');
    await loadEverything(server, 'source');
    await backUp(server, 'source', repository);
    await exportFrom(server, repository, { output: script });
  });
  afterAll(() => server[Symbol.asyncDispose]());

  it('is restored by psql, which has nothing to complain of', async () => {
    await server.createDatabase('restored', { template: 'template0' });
    expect(await psqlFile(server, 'restored', script)).toBe('');
    expect(await differences(server, 'source', 'restored')).toEqual([]);
  });

  it('is restored in one transaction, under the restriction of psql to SQL', async () => {
    await server.createDatabase('at_once', { template: 'template0' });
    const restricted = join(folder.path, `restricted-${version}.sql`);
    writeFileSync(restricted, Buffer.concat([Buffer.from('\\restrict word\n'), readFileSync(script)]));
    expect(await psqlFile(server, 'at_once', restricted, ['-1'])).toBe('');
    expect(await differences(server, 'source', 'at_once')).toEqual([]);
  });

  it('is restored on a server without the roles, which the script can bring', async () => {
    await using other = await startServer({ version });
    await offerFixtureExtension(other);
    const withRoles = join(folder.path, `roles-${version}.sql`);
    await exportFrom(server, repository, { output: withRoles, roles: true });
    for (const target of ['first', 'second']) {
      await other.createDatabase(target, { template: 'template0' });
      await psqlFile(other, target, withRoles);
    }
    const { differences: found } = await compareDatabases(server.url('source'), other.url('second'), {
      binDir: server.binDir,
      ignore: [/^definition of secured Reader's policy/],
    });
    expect(found).toEqual([]);
    const roles = `SELECT json_agg(to_jsonb(r) - 'oid' ORDER BY rolname) FROM pg_roles r WHERE rolname LIKE 'pgkeep%';
      SELECT roleid::regrole, member::regrole, admin_option FROM pg_auth_members WHERE member::regrole::text LIKE '%pgkeep%' ORDER BY roleid::regrole::text, member::regrole::text`;
    expect(await psql(other, 'first', roles)).toBe(await psql(server, 'source', roles));
  });
});

describe('a script', () => {
  let server: Server;
  const repository = join(folder.path, 'repository');
  let shop: string;

  beforeAll(async () => {
    server = await startServer();
    await server.createDatabase('shop');
    await psql(
      server,
      'shop',
      `CREATE TABLE public.customers (id int PRIMARY KEY, name text);
       CREATE TABLE public.orders (id serial PRIMARY KEY, customer int REFERENCES public.customers, at timestamptz DEFAULT '2020-02-03 04:05:06+00');
       CREATE TABLE public.long_rows (id int, v text);
       CREATE TABLE public.odd (v text); CREATE TABLE public.empty_line ();
       CREATE MATERIALIZED VIEW public.clock AS SELECT at::text AS shown FROM public.orders;
       INSERT INTO public.customers SELECT i, 'customer ' || i FROM generate_series(1, 100) i;
       INSERT INTO public.orders (customer) SELECT i FROM generate_series(1, 100) i;
       INSERT INTO public.long_rows SELECT i, repeat(md5(i::text), 700000) FROM generate_series(1, 2) i;
       INSERT INTO public.odd VALUES ('\\.'), (E'\\\\.\\n\\\\.\\n'), (E'\\n'), (NULL), (''), (E'\\\\restrict x\\n\\\\q\\n');
       INSERT INTO public.empty_line SELECT FROM generate_series(1, 3);
       REFRESH MATERIALIZED VIEW public.clock`,
    );
    shop = (await backUp(server, 'shop', repository)).id;
  });
  afterAll(() => server[Symbol.asyncDispose]());

  it('says what it is and what it counts', async () => {
    const output = join(folder.path, 'shop.sql');
    const result = await exportFrom(server, repository, { output });
    expect(result).toMatchObject({
      backup: shop,
      database: 'shop',
      output,
      tables: 5,
      rows: 211,
      warnings: [],
    });
    expect(result.bytes).toBe(statSync(output).size);
    expect(statSync(output).mode & 0o777).toBe(0o600);
    const text = readFileSync(output, 'utf8');
    expect(text.slice(0, 400)).toContain('Database "shop" of PostgreSQL 15');
    expect(text).toContain(`${shop}, exported by pgkeep`);
    // Outside of rows no line begins with a backslash.
    const outside = text.replaceAll(/^COPY [^\n]*;\n(?:[\s\S]*?\n)??\\\.\n/gm, '');
    expect(outside).not.toMatch(/^\\/m);
    expect(text).not.toContain('transaction_timeout = 0');
  });

  it('restores rows larger than a segment, lines like the end of rows, and rows without columns', async () => {
    const output = join(folder.path, 'odd.sql');
    await exportFrom(server, repository, { output });
    await server.createDatabase('odd');
    await psqlFile(server, 'odd', output);
    expect(await differences(server, 'shop', 'odd')).toEqual([]);
  });

  it('leaves the time zone of the session to what is computed after the rows', async () => {
    const output = join(folder.path, 'zone.sql');
    await exportFrom(server, repository, { output });
    await server.createDatabase('zone');
    await psql(server, 'zone', `ALTER DATABASE zone SET TimeZone = 'Asia/Kathmandu'`);
    await psqlFile(server, 'zone', output);
    const [order, shown] = (
      await psql(
        server,
        'zone',
        `SELECT min(at AT TIME ZONE 'UTC') FROM public.orders; SELECT min(shown) FROM public.clock`,
      )
    ).split('\n');
    expect([order, shown]).toEqual(['2020-02-03 04:05:06', '2020-02-03 09:50:06+05:45']);
  });

  it('of one table has what belongs to it, and says what it had to leave', async () => {
    const output = join(folder.path, 'orders.sql');
    const result = await exportFrom(server, repository, { output, tables: ['orders'] });
    expect(result.tables).toBe(1);
    expect(result.warnings.join()).toMatch(/left out.*orders_customer_fkey/);
    await server.createDatabase('orders');
    await psqlFile(server, 'orders', output);
    expect(
      await psql(
        server,
        'orders',
        `SELECT count(*), nextval('orders_id_seq') FROM orders; SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace`,
      ),
    ).toBe('100|101\norders orders_id_seq orders_pkey\n');
    await expect(
      exportFrom(server, repository, { output, tables: ['nothing'], force: true }),
    ).rejects.toMatchObject({
      code: 'TABLE_NOT_IN_BACKUP',
    });
  });

  it('of definitions alone has no rows', async () => {
    const output = join(folder.path, 'definitions.sql');
    const result = await exportFrom(server, repository, {
      output,
      schemaOnly: true,
      noOwner: true,
      noPrivileges: true,
    });
    expect(result.rows).toBe(0);
    expect(readFileSync(output, 'utf8')).not.toMatch(
      /^(COPY|ALTER .* OWNER TO|GRANT|SELECT pg_catalog.setval)/m,
    );
    await server.createDatabase('definitions');
    await psqlFile(server, 'definitions', output);
    const ignore = [/^rows of/, /^state of sequence/, /^population of/];
    expect(await differences(server, 'shop', 'definitions', ignore)).toEqual([]);
  });

  it('is restored by a plain owner when it sets no owners and privileges', async () => {
    const output = join(folder.path, 'plain.sql');
    await exportFrom(server, repository, { output, noOwner: true, noPrivileges: true });
    await psql(server, 'postgres', 'CREATE ROLE plain LOGIN');
    await server.createDatabase('plain', { owner: 'plain' });
    await psqlFile(server, 'plain', output, ['-U', 'plain']);
    expect((await psql(server, 'plain', 'SELECT count(*) FROM orders')).trim()).toBe('100');
  });

  it('replaces no file unless told to, and a failure leaves what was there and nothing besides', async () => {
    await using own = makeTempFolder('output');
    const output = join(own.path, 'there.sql');
    writeFileSync(output, 'mine');
    await expect(exportFrom(server, repository, { output })).rejects.toThrow(/exists already/);
    await expect(
      exportFrom(server, repository, { output, force: true, tables: ['nothing'] }),
    ).rejects.toMatchObject({ code: 'TABLE_NOT_IN_BACKUP' });
    expect(readFileSync(output, 'utf8')).toBe('mine');
    await exportFrom(server, repository, { output, force: true });
    expect(readFileSync(output, 'utf8')).toContain('COPY "public"."orders"');
    expect(await readdir(own.path)).toEqual(['there.sql']);
    await expect(
      exportFrom(server, repository, { output: join(own.path, 'no/such.sql') }),
    ).rejects.toMatchObject({
      code: 'OPTION_INVALID',
      message: `${join(own.path, 'no/such.sql')} cannot be written: its folder is not there`,
    });
  });

  it('goes to a stream as it goes to a file, waiting for a slow reader', async () => {
    const chunks: Buffer[] = [];
    let mostWaiting = 0;
    const stream = new Writable({
      highWaterMark: 1024,
      write(chunk: Buffer, _encoding, done) {
        mostWaiting = Math.max(mostWaiting, stream.writableLength);
        chunks.push(Buffer.from(chunk));
        setTimeout(done, 1);
      },
    });
    const result = await exportFrom(server, repository, { output: stream });
    expect(result.output).toBeNull();
    const output = join(folder.path, 'same.sql');
    await exportFrom(server, repository, { output });
    expect(Buffer.concat(chunks).equals(readFileSync(output))).toBe(true);
    expect(mostWaiting).toBeLessThan(17 * 1024 * 1024);
  });

  it('ends with its own words when the reader goes away or the run is interrupted', async () => {
    const stream = new PassThrough();
    stream.once('data', () => stream.destroy(new Error('EPIPE')));
    await expect(exportFrom(server, repository, { output: stream })).rejects.toThrow(
      /reader of the script went away/,
    );
    // Closed without an error, and with no drain to come.
    const stuck = new Writable({ highWaterMark: 1, write: () => setImmediate(() => stuck.destroy()) });
    await expect(exportFrom(server, repository, { output: stuck })).rejects.toMatchObject({
      code: 'INTERRUPTED',
      message: 'the reader of the script went away before its end',
    });
    const controller = new AbortController();
    const output = join(folder.path, 'aborted.sql');
    const run = exportFrom(server, repository, {
      output,
      signal: controller.signal,
      onEvent: event => event.type === 'progress' && controller.abort(),
    });
    await expect(run).rejects.toMatchObject({ code: 'INTERRUPTED' });
    expect(existsSync(output)).toBe(false);
  });

  it('comes from an older backup that a newer pg_restore reads, and an older server takes it', async () => {
    await using newer = await startServer({ version: 18 });
    const output = join(folder.path, 'newer.sql');
    await exportFrom(newer, repository, { output });
    await server.createDatabase('by_newer');
    await psqlFile(server, 'by_newer', output);
    expect(await differences(server, 'shop', 'by_newer')).toEqual([]);
  });

  it('is of the encoding of the database in its rows, byte for byte', async () => {
    for (const [name, encoding, file] of [
      ['latin', 'LATIN1', 'latin1.sql'],
      ['ascii', 'SQL_ASCII', 'sql-ascii.sql'],
    ] as const) {
      await server.createDatabase(name, { encoding });
      await loadFixture(server, name, file);
      const { id } = await backUp(server, name, repository);
      const output = join(folder.path, `${name}.sql`);
      await exportFrom(server, repository, { backup: id, output });
      // As the script itself says it.
      const create = /^-- {3}(CREATE DATABASE .*)$/m.exec(readFileSync(output, 'latin1'))?.[1] ?? '';
      await psql(server, 'postgres', create.replace(`"${name}"`, `"${name}_new"`));
      await psqlFile(server, `${name}_new`, output);
      const comparison = await compareDatabases(server.url(name), server.url(`${name}_new`), {
        binDir: server.binDir,
        properties: true,
      });
      expect(comparison.differences).toEqual([]);
    }
    // Into another encoding it is the server that converts.
    await server.createDatabase('latin_utf8');
    await psqlFile(server, 'latin_utf8', join(folder.path, 'latin.sql'));
    const read = 'SELECT t FROM "Größe" t ORDER BY "Straße" COLLATE "C"';
    expect(await psql(server, 'latin_utf8', read)).toBe(await psql(server, 'latin', read));
  });

  it('reports a segment that is damaged, and makes no file', async () => {
    await using own = makeTempFolder('damaged');
    const damaged = join(own.path, 'repository');
    execFileSync('cp', ['-R', repository, damaged]);
    for (const name of await readdir(join(damaged, 'segments'), { recursive: true })) {
      const file = join(damaged, 'segments', name);
      if (!statSync(file).isFile() || statSync(file).size < 1000) continue;
      const bytes = readFileSync(file);
      bytes[500] = (bytes[500] ?? 0) ^ 1;
      writeFileSync(file, bytes);
    }
    const output = join(own.path, 'damaged.sql');
    await expect(exportFrom(server, damaged, { backup: shop, output })).rejects.toMatchObject({
      code: 'OBJECT_DAMAGED',
    });
    expect(await readdir(own.path)).toEqual(['repository']);
  });
});
