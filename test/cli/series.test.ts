// Parts of a database and databases of the same name on two servers: none of them takes another's place, neither as the
// latest, nor where backups are deleted.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { generateKey } from '../../src/crypto/key.ts';
import { runCli } from '../support/cli-io.ts';
import { expectSame } from '../support/fault-database.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { psqlFile } from '../support/psql-file.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let server: Server;
let other: Server;
const key = generateKey();

beforeAll(async () => {
  server = await startServer();
  // With a system identifier of its own.
  other = await startServer({ initdb: [] });
  for (const one of [server, other]) {
    await one.createDatabase('shop');
    await psql(
      one,
      'shop',
      `CREATE TABLE item AS SELECT n AS id, '${one.port}' AS of FROM generate_series(1, 100) n; CREATE TABLE log AS SELECT 1 AS n`,
    );
  }
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await other[Symbol.asyncDispose]();
});

/** A repository of its own, and the command line in it. */
function newRepository() {
  const { path: cwd } = makeTempFolder('series');
  const run = async (argv: readonly string[], { from = server, exitCode = 0 } = {}) => {
    const result = await runCli(argv, {
      cwd,
      env: {
        BACKUP_ENCRYPTION_KEY: key,
        DATABASE_URL: from.url('shop'),
        RESTORE_DATABASE_URL: server.url('restored'),
      },
    });
    expect(result.exitCode, result.err).toBe(exitCode);
    return result;
  };
  const json = async (argv: readonly string[], from?: Server) =>
    JSON.parse((await run([...argv, '--json'], { from: from ?? server })).out);
  return {
    repository: join(cwd, 'backups'),
    run,
    json,
    create: async (args: readonly string[] = [], from?: Server): Promise<string> =>
      (await json(['create', ...args], from)).id,
    /** Restores, compares with a database, and returns what was said. */
    expectRestores: async (backup: string, source: string, from = server) => {
      const { err } = await run(['restore', backup, '--create']);
      if (from === server) await expectSame(server, source, 'restored');
      else expect(await rowsOf(server, 'restored')).toBe(await rowsOf(from, source));
      await server.dropDatabase('restored');
      return err;
    },
    /** The ids that a cleanup which keeps as little as it may leaves, sorted. */
    cleanUp: async (): Promise<string[]> => {
      await run(['cleanup', '--keep-days', '0', '--grace', '0']);
      return (await json(['list'])).map(({ id }: { id: string }) => id).sort();
    },
  };
}

const rowsOf = (of: Server, database: string) => psql(of, database, 'SELECT * FROM item ORDER BY id');

test('a part does not pass for the whole: latest restores the whole, and cleanup keeps both', async () => {
  const { repository, run, json, create, expectRestores, cleanUp } = newRepository();
  await create();
  const whole = await create();
  const copy = await server.cloneDatabase('shop');
  await psql(server, 'shop', 'INSERT INTO item VALUES (101)');
  await create(['--table', 'item']);
  const part = await create(['--table', 'item', '--table', 'item']);
  const schemaOnly = await create(['--schema-only']);

  const { out } = await run(['list']);
  expect(out).toMatch(new RegExp(`${part} .* part: --table item`));
  expect(out).toMatch(new RegExp(`${schemaOnly} .* part: --schema-only`));
  expect(out).not.toContain('SERVER');
  expect((await run(['show', part])).out).toContain('Part        made with --table item');
  const err = await expectRestores('latest', copy);
  expect(err).toMatch(
    new RegExp(`taken as the latest backup of shop is ${whole} .*there is also ${schemaOnly} .* ${part} `),
  );
  // The way out without pgkeep chooses the same.
  const script = join(repository, '..', 'latest.sql');
  const kit = join(repository, 'recovery/pgkeep-recover.mjs');
  const kitOptions = { env: { BACKUP_ENCRYPTION_KEY: key }, encoding: 'utf8' as const };
  execFileSync(process.execPath, [kit, '--output', script], { ...kitOptions, stdio: 'pipe' });
  await server.createDatabase('by_kit', { template: 'template0' });
  await psqlFile(server, 'by_kit', script);
  await expectSame(server, copy, 'by_kit');
  const kept = execFileSync(process.execPath, [kit, '--list'], kitOptions);
  expect(kept).toMatch(new RegExp(`${part} .* a part of the database \\({"tables":\\["item","item"\\]}\\)`));

  expect(await cleanUp()).toEqual([whole, part, schemaOnly].sort());
  await expectRestores('latest', copy);
  const { warnings } = await json(['restore', part, '--create']);
  expect(warnings).toEqual([
    expect.stringContaining(`${part} holds a part of its database: it was made with`),
  ]);
  expect(await rowsOf(server, 'restored')).toBe(await rowsOf(server, 'shop'));
  await server.dropDatabase('restored');

  const refused = await run(['delete', whole, '--yes'], { exitCode: 4 });
  expect(refused.err).toContain('last good backup of its series');
  await run(['delete', schemaOnly, '--yes']);
  expect(await cleanUp()).toEqual([whole, part].sort());
});

test('where every backup leaves something out, the latest is the newest, and says what is not there', async () => {
  const { run, create, cleanUp } = newRepository();
  const policy = ['--exclude-table-data', 'log'];
  await create(policy);
  await psql(server, 'shop', 'INSERT INTO item VALUES (102)');
  const newest = await create(policy);
  const { err } = await run(['restore', 'latest', '--create']);
  expect(err).toContain(`${newest} holds a part of its database: it was made with --exclude-table-data log`);
  expect(err).not.toContain('there is also');
  expect(await rowsOf(server, 'restored')).toBe(await rowsOf(server, 'shop'));
  expect(await psql(server, 'restored', 'SELECT count(*) FROM log')).toBe('0\n');
  await server.dropDatabase('restored');
  expect((await run(['doctor', '--json'])).out).toMatch(`the newest backup, a part, of shop is ${newest}`);
  expect(await cleanUp()).toEqual([newest]);
  await run(['delete', newest, '--yes'], { exitCode: 4 });
});

test('a part whose names are private is known again, and tells nothing', async () => {
  const { repository, run, create, cleanUp } = newRepository();
  await create(['--private-metadata', '--table', 'item']);
  const newest = await create(['--private-metadata', '--table', 'item']);
  const stranger = await create(['--private-metadata', '--exclude-table', 'log']);
  expect(readFileSync(join(repository, 'metadata', `${newest}.json`), 'utf8')).not.toContain('item');
  expect((await run(['list'])).out).toMatch(/ part: [0-9a-f]{16}\b/);
  expect(await cleanUp()).toEqual([newest, stranger].sort());
});

test('databases of one name on two servers keep their own backups, and latest says that there are two', async () => {
  const { run, json, create, expectRestores, cleanUp } = newRepository();
  await create();
  await create([], other);
  const mine = await create();
  const theirs = await create([], other);
  const [{ server: theirId }, { server: myId }] = await json(['list']);
  expect(myId).toMatch(/^\d{10,20}$/);
  expect(theirId).toMatch(/^\d{10,20}$/);
  expect(myId).not.toBe(theirId);
  expect((await run(['list'])).out).toMatch(new RegExp(`DATABASE +SERVER .*${mine}.* ${myId} `, 's'));
  const err = await expectRestores('latest', 'shop', other);
  expect(err).toContain(`${theirs} of `);
  expect(err).toMatch(new RegExp(`there is also ${mine} of .*server ${myId}`));
  expect(await expectRestores(mine, 'shop')).not.toContain('there is also');

  expect(await cleanUp()).toEqual([mine, theirs].sort());
  await run(['delete', mine, '--yes'], { exitCode: 4 });
  await run(['delete', theirs, '--yes'], { exitCode: 4 });
  const doctor = JSON.parse((await run(['doctor', '--json'])).out);
  expect(doctor.checks.find(({ name }: { name: string }) => name === 'newest-backup').message).toContain(
    `${mine}, `,
  );
});
