// PostgreSQL's client programs: too old, missing, several versions, and pg_dump that fails in every way it can.

import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PgkeepError } from '../../src/base/errors.ts';
import { listBackups } from '../../src/operations/list-backups.ts';
import { findPgDump, findPgRestore } from '../../src/postgres/programs.ts';
import { expectSame, makeFaultDatabase } from '../support/fault-database.ts';
import { findServerPrograms } from '../support/postgres-programs.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { isRunning, waitFor } from '../support/processes.ts';
import { backUp, restoreInto } from '../support/round-trip.ts';
import { makeTempFolder, type TempFolder } from '../support/temp-folder.ts';

let server: Server;

beforeAll(async () => {
  server = await startServer({ version: 17 });
  await makeFaultDatabase(server, 'shop', 2000);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

function binDirOf(version: number): string {
  const found = findServerPrograms().find(programs => programs.majorVersion === version);
  if (found === undefined) throw new Error(`PostgreSQL ${version} is not installed`);
  return found.binDir;
}

/** A folder whose programs are scripts; `$real` stands for the real one, which is of the server's version. */
function scripts(texts: Readonly<Record<string, string>>): TempFolder {
  const folder = makeTempFolder('programs');
  for (const [name, text] of Object.entries(texts)) {
    const file = join(folder.path, name);
    writeFileSync(file, `#!/bin/bash\nreal='${join(server.binDir, name)}'\n${text}\n`);
    chmodSync(file, 0o755);
  }
  return folder;
}

const asItIs = 'exec "$real" "$@"';
/** What the script does when it is asked to dump; asked for its version it tells the truth. */
const whenDumping = (text: string) => `case "$*" in *--version*) ${asItIs};; esac\n${text}`;

describe('pg_dump of the right version', () => {
  it('is asked for when only an older one is there, and nothing is written', async () => {
    await using folder = makeTempFolder('repository');
    const repository = join(folder.path, 'new');
    const failure: PgkeepError = await backUp(server, 'shop', repository, { programs: binDirOf(15) }).then(
      () => expect.unreachable('the backup has not failed'),
      error => error,
    );
    expect(failure.code).toBe('PROGRAM_TOO_OLD');
    expect(failure.exitCode).toBe(7);
    expect(failure.message).toMatch(
      /^no pg_dump found is of version 17 or newer, and the server is 17: found 15\.\d+ \(.*\/pg_dump\)$/,
    );
    expect(failure.hint).toContain('apt-get install postgresql-client-17');
    expect(existsSync(repository)).toBe(false);
  });

  it('is looked for on PATH and in the usual places; the refusal names every one found', async () => {
    const environment = { PATH: binDirOf(15) };
    await expect(findPgDump(990000, undefined, environment)).rejects.toMatchObject({
      code: 'PROGRAM_TOO_OLD',
      message: expect.stringMatching(
        /^no pg_dump found is of version 99 or newer, and the server is 99: found .*15\.\d+ \(/,
      ),
      hint: expect.stringContaining('postgresql-client-99'),
    });
  });

  it('is the newest of several; pg_restore is the oldest that reads what it wrote', async () => {
    const PATH = [17, 15, 18].map(binDirOf).join(':');
    const newest = await findPgDump(170011, undefined, { PATH });
    expect(newest.major).toBeGreaterThanOrEqual(18);
    for (const version of [15, 17, 18]) {
      expect((await findPgRestore(`${version}.1`, undefined, { PATH })).major).toBe(version);
    }
  });

  it('found on PATH among others takes the backup', async () => {
    await using repository = makeTempFolder('repository');
    await backUp(server, 'shop', repository.path, {
      programs: undefined,
      environment: { PATH: [binDirOf(15), binDirOf(17), binDirOf(18), process.env.PATH].join(':') },
    });
    // Written by 18, so read by 18.
    await restoreInto(server, 'restored', repository.path, { create: true, programs: binDirOf(18) });
    await expectSame(server, 'shop', 'restored');
    await server.dropDatabase('restored');
  });

  it.each([
    { title: 'no programs at all', texts: {}, message: /^pg_dump was not found in / },
    { title: 'no pg_restore', texts: { pg_dump: asItIs }, message: /^pg_restore was not found in / },
    {
      title: 'a pg_dump that does not run',
      texts: { pg_dump: 'exit 127' },
      message: /^pg_dump was not found in /,
    },
  ])('is asked for when there is $title', async ({ texts, message }) => {
    await using folder = makeTempFolder('repository');
    await using programs = scripts(texts);
    const repository = join(folder.path, 'new');
    await expect(backUp(server, 'shop', repository, { programs: programs.path })).rejects.toMatchObject({
      code: 'PROGRAM_MISSING',
      exitCode: 7,
      message: expect.stringMatching(message),
      hint: expect.stringContaining('apt-get install postgresql-client-17'),
    });
    expect(existsSync(repository)).toBe(false);
  });
});

describe('a pg_dump that goes wrong', () => {
  // The whole archive is taken first, so that "half" means half of a real one.
  const whole =
    'dump=$(mktemp); trap \'rm -f "$dump"\' EXIT; "$real" "$@" | cat > "$dump"; size=$(stat -c %s "$dump")';
  const half = `${whole}; head -c $((size / 2)) "$dump"`;
  it.each([
    {
      title: 'failing before a word',
      text: 'echo broken >&2; exit 3',
      message: /^pg_dump failed while dumping the schema \(exit status 3\):\n {2}broken$/,
    },
    {
      title: 'failing after half of its output',
      text: `${half}; echo broken >&2; exit 1`,
      message: /\(exit status 1\):\n {2}broken$/,
    },
    {
      title: 'failing after all of its output',
      text: `${whole}; cat "$dump"; exit 1`,
      message: /\(exit status 1\)$/,
    },
    {
      title: 'killed after half of its output',
      text: `${half}; rm -f "$dump"; kill -KILL $$`,
      message: /\(signal SIGKILL\)$/,
    },
    { title: 'ending well after no output', text: 'exit 0', message: /^pg_restore failed while reading/ },
    {
      title: 'ending well within the table of contents',
      text: `${whole}; head -c 1500 "$dump"`,
      message: /^pg_restore failed while reading/,
    },
    {
      title: 'ending well after half of its output',
      text: half,
      message: /^pg_restore failed while reading/,
    },
    {
      title: 'ending well one byte short',
      text: `${whole}; head -c $((size - 1)) "$dump"`,
      message: /^pg_restore failed while reading/,
    },
    {
      title: 'writing something else',
      text: 'echo "-- PostgreSQL database dump"',
      message: /^pg_restore failed while reading/,
    },
  ])('$title fails the backup', async ({ text, message }) => {
    await using repository = makeTempFolder('repository');
    await using programs = scripts({ pg_dump: whenDumping(text), pg_restore: asItIs });
    const failure: PgkeepError = await backUp(server, 'shop', repository.path, {
      programs: programs.path,
    }).then(
      () => expect.unreachable('the backup has not failed'),
      error => error,
    );
    expect(failure.message).toMatch(message);
    expect(failure.code).toBe('PROGRAM_FAILED');
    expect(failure.exitCode).toBe(7);
    expect(await listBackups({ repository: repository.path })).toEqual([]);
  });

  it('failing within the contents of large objects that others read has written all that was wanted', async () => {
    await server.createDatabase('pictures');
    await psql(
      server,
      'pictures',
      `SELECT lo_from_bytea((20000 + i)::oid, convert_to(repeat(i::text, 100), 'UTF8')) FROM generate_series(1, 500) AS i`,
    );
    await using repository = makeTempFolder('repository');
    const text = `${whole}; head -c $((size - 9)) "$dump"; echo broken >&2; exit 1`;
    await using programs = scripts({ pg_dump: whenDumping(text), pg_restore: asItIs });
    await backUp(server, 'pictures', repository.path, { programs: programs.path });
    await restoreInto(server, 'pictures_again', repository.path, { create: true });
    await expectSame(server, 'pictures', 'pictures_again');
  });

  it('leaving a table out fails the backup by the name of the table', async () => {
    await using repository = makeTempFolder('repository');
    await using programs = scripts({
      pg_dump: whenDumping('exec "$real" "$@" --exclude-table=small'),
      pg_restore: asItIs,
    });
    await expect(backUp(server, 'shop', repository.path, { programs: programs.path })).rejects.toMatchObject({
      code: 'BACKUP_INCOMPLETE',
      exitCode: 6,
      message: expect.stringContaining('table public.small is not in the archive'),
    });
    expect(await listBackups({ repository: repository.path })).toEqual([]);
  });

  const pidIn = (file: string) => (existsSync(file) ? Number(readFileSync(file, 'utf8')) : undefined);

  /** Holds up the reading of the catalog once tables are locked. @returns what lets it go on. */
  async function holdCatalog(database: string): Promise<() => Promise<void>> {
    const session = new pg.Client({ connectionString: server.url(database) });
    await session.connect();
    await session.query('BEGIN; LOCK TABLE pg_catalog.pg_inherits IN ACCESS EXCLUSIVE MODE');
    return () => session.end();
  }

  it('because the catalog cannot be read fails the backup by what cannot be read', async () => {
    await server.createDatabase('odd_names', { encoding: 'SQL_ASCII' });
    await psql(
      server,
      'odd_names',
      `SET client_encoding = 'SQL_ASCII'; DO $$ BEGIN EXECUTE E'CREATE TABLE t ("\\xff" integer)'; END $$`,
    );
    await using repository = makeTempFolder('repository');
    const pidFile = join(repository.path, 'pid');
    await using programs = scripts({
      pg_dump: whenDumping(`echo $$ > '${pidFile}.new'; mv '${pidFile}.new' '${pidFile}'; exit 1`),
      pg_restore: asItIs,
    });
    const goOn = await holdCatalog('odd_names');
    const backup = backUp(server, 'odd_names', join(repository.path, 'r'), { programs: programs.path });
    backup.catch(() => undefined);
    const pid = await waitFor('pg_dump', () => pidIn(pidFile));
    await waitFor('the end of pg_dump to be known', () => !existsSync(`/proc/${pid}`));
    await goOn();
    await expect(backup).rejects.toMatchObject({
      code: 'DATABASE_QUERY',
      message: expect.stringMatching(/public\.t,.*not UTF-8/),
    });
  });

  it('hanging while the catalog is read ends when the run is aborted', async () => {
    await using repository = makeTempFolder('repository');
    const pidFile = join(repository.path, 'pid');
    await using programs = scripts({
      pg_dump: whenDumping(
        `echo $$ > '${pidFile}.new'; mv '${pidFile}.new' '${pidFile}'; head -c 60000 /dev/zero; exec sleep 600`,
      ),
      pg_restore: asItIs,
    });
    const controller = new AbortController();
    const goOn = await holdCatalog('shop');
    const backup = backUp(server, 'shop', join(repository.path, 'r'), {
      programs: programs.path,
      signal: controller.signal,
    });
    backup.catch(() => undefined);
    const pid = await waitFor('pg_dump', () => pidIn(pidFile));
    controller.abort();
    await expect(backup).rejects.toMatchObject({ code: 'INTERRUPTED', exitCode: 130 });
    expect(isRunning(pid)).toBe(false);
    await goOn();
  });

  it('hanging ends when the run is aborted', async () => {
    await using repository = makeTempFolder('repository');
    const begun = join(repository.path, 'begun');
    mkdirSync(repository.path, { recursive: true });
    await using programs = scripts({
      pg_dump: whenDumping(`: > '${begun}'; exec sleep 600`),
      pg_restore: asItIs,
    });
    const controller = new AbortController();
    const backup = backUp(server, 'shop', join(repository.path, 'r'), {
      programs: programs.path,
      signal: controller.signal,
    });
    backup.catch(() => undefined);
    await waitFor('pg_dump', () => existsSync(begun));
    controller.abort();
    // Long before pg_dump would have ended by itself, and the test with it.
    await expect(backup).rejects.toMatchObject({ code: 'INTERRUPTED', exitCode: 130 });
    expect(await listBackups({ repository: join(repository.path, 'r') })).toEqual([]);
  });
});
