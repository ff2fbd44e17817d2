// A storage that fills up, loses or changes objects, or is used by two runs at once.

import {
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listBackups } from '../../src/operations/list-backups.ts';
import { expectSame, makeFaultDatabase } from '../support/fault-database.ts';
import { runPgkeep } from '../support/pgkeep-process.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { mountSmallDisk } from '../support/small-disk.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let server: Server;

beforeAll(async () => {
  server = await startServer();
  await makeFaultDatabase(server, 'shop');
  await makeFaultDatabase(server, 'smaller', 30_000);
  await makeFaultDatabase(server, 'other', 1000);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

it('a disk that fills up fails the backup, keeps the earlier ones, and the next run uses what was stored', async () => {
  const mebibyte = 1024 * 1024;
  await using disk = await mountSmallDisk(12 * mebibyte);
  const repository = join(disk.path, 'backups');
  const ballast = join(disk.path, 'ballast');
  const { id } = await backUp(server, 'other', repository);
  // Room for one segment of the big table, of three.
  writeFileSync(ballast, Buffer.alloc(7 * mebibyte));
  const words = ['create', '--repository', repository, '--programs', server.binDir, '--jobs', '1'];
  const { exitCode, out, err } = await runPgkeep([...words, '--json'], {
    env: { DATABASE_URL: server.url('shop'), BACKUP_ENCRYPTION_KEY: testKey },
  });
  expect(JSON.parse(out).error).toMatchObject({
    code: 'STORAGE_FULL',
    message: expect.stringMatching(/^no space left to write .*\/backups\//),
    hint: expect.stringContaining('free space'),
  });
  expect(exitCode).toBe(4);
  expect(err).toContain('[STORAGE_FULL]');
  expect((await listBackups({ repository })).map(backup => backup.id)).toEqual([id]);
  expect(filesOf(repository).filter(name => name.includes('.tmp'))).toEqual([]);
  await restoreInto(server, 'restored', repository, { create: true });
  await expectSame(server, 'other', 'restored');
  await server.dropDatabase('restored');

  rmSync(ballast);
  const next = await backUp(server, 'shop', repository);
  expect(next.reusedSegments).toBeGreaterThan(0);
  await restoreInto(server, 'restored', repository, { create: true });
  await expectSame(server, 'shop', 'restored');
  await server.dropDatabase('restored');
});

it('a first backup that is likely not to fit is warned of; cut short by a full disk, it goes on once there is space', async () => {
  const mebibyte = 1024 * 1024;
  await using disk = await mountSmallDisk(8 * mebibyte);
  const repository = join(disk.path, 'backups');
  // The tables have 22 MB.
  const leaveFree = ballastOn(disk.path);
  leaveFree(3 * mebibyte);
  const warnings: string[] = [];
  const onEvent = (event: { type: string; message?: string }) => {
    if (event.type === 'warning') warnings.push(event.message ?? '');
  };
  await expect(backUp(server, 'shop', repository, { onEvent, jobs: 1 })).rejects.toMatchObject({
    code: 'STORAGE_FULL',
    message: expect.stringMatching(/^no space left to write /),
  });
  expect(warnings).toEqual([
    expect.stringMatching(/are free at .*\/backups, and the tables of shop have [\d.]+ MiB/),
  ]);
  // Far less than a hundredth of the tables, and enough: what is missing is small.
  const second = await backUp(server, 'other', repository);
  expect(second.warnings).toEqual([]);
});

it('a later backup is warned of where less is free than each of those before it added, and succeeds as it adds less', async () => {
  const mebibyte = 1024 * 1024;
  await using disk = await mountSmallDisk(24 * mebibyte);
  const repository = join(disk.path, 'backups');
  const leaveFree = ballastOn(disk.path);
  const change = () => psql(server, 'smaller', 'UPDATE big SET payload = md5(payload) || md5(more)');
  await backUp(server, 'smaller', repository);
  for (let n = 0; n < 5; n++) {
    await change();
    expect((await backUp(server, 'smaller', repository)).newBytes).toBeGreaterThan(mebibyte);
  }
  leaveFree(mebibyte / 2);
  // The load has ended.
  const { warnings } = await backUp(server, 'smaller', repository);
  expect(warnings).toEqual([
    expect.stringMatching(/ are free at .* each of the last 5 backups of smaller added [\d.]+ MiB or more/),
  ]);
  await restoreInto(server, 'restored', repository, { create: true, sourceDatabase: 'smaller' });
  await expectSame(server, 'smaller', 'restored');
  await server.dropDatabase('restored');
});

it('a disk that is full from the start leaves no repository, and of a later run nothing at all', async () => {
  await using disk = await mountSmallDisk(2 * 1024 * 1024);
  const leaveFree = ballastOn(disk.path);
  leaveFree(8192);
  const repository = join(disk.path, 'backups');
  const refusal = {
    code: 'STORAGE_FULL',
    exitCode: 4,
    message: expect.stringMatching(
      /^only 8.00 KiB are free at .*\/backups, which is too little for any backup$/,
    ),
    hint: expect.stringContaining('pgkeep cleanup'),
  };
  await expect(backUp(server, 'other', repository)).rejects.toMatchObject(refusal);
  expect(existsSync(repository)).toBe(false);
  leaveFree(1024 * 1024);
  await backUp(server, 'other', repository);
  const stored = filesOf(repository);
  leaveFree(8192);
  await expect(backUp(server, 'other', repository)).rejects.toMatchObject(refusal);
  expect(filesOf(repository)).toEqual(stored);
});

describe('damage', () => {
  const cut = (file: string) => truncateSync(file, readFileSync(file).length - 20);
  /** The files below a folder of the repository, the largest first: those of the big table. */
  const files = (repository: string, folder: string) =>
    filesOf(join(repository, folder))
      .map(name => join(repository, folder, name))
      .sort((a, b) => readFileSync(b).length - readFileSync(a).length);

  const whole = makeTempFolder('repository');

  beforeAll(async () => {
    await backUp(server, 'smaller', whole.path);
  });

  it('damaged metadata of one backup does not keep the next from being taken, or others from being restored by name', async () => {
    await using copy = makeTempFolder('repository');
    cpSync(whole.path, copy.path, { recursive: true });
    const [undamaged] = await listBackups({ repository: copy.path });
    const second = await backUp(server, 'other', copy.path);
    cut(join(copy.path, 'metadata', `${second.id}.json`));
    const third = await backUp(server, 'smaller', copy.path);
    expect(third.warnings).toEqual([expect.stringContaining(`metadata/${second.id}.json is damaged`)]);
    expect(third.reusedSegments).toBeGreaterThan(0);
    for (const backup of [undamaged?.id ?? '', third.id]) {
      await restoreInto(server, 'restored', copy.path, { create: true, backup });
      await expectSame(server, 'smaller', 'restored');
      await server.dropDatabase('restored');
    }
  });

  it('a damaged or missing segment of an earlier backup is stored anew when its rows come again', async () => {
    await using copy = makeTempFolder('repository');
    cpSync(whole.path, copy.path, { recursive: true });
    const [a, b, c] = files(copy.path, 'segments');
    if (a === undefined || b === undefined || c === undefined) throw new Error('there are fewer segments');
    rmSync(a);
    cut(b);
    await backUp(server, 'smaller', copy.path);
    await restoreInto(server, 'restored', copy.path, { create: true });
    await expectSame(server, 'smaller', 'restored');
    await server.dropDatabase('restored');
  });
});

describe('two backups at the same moment into one new repository', () => {
  it.each([
    { title: 'of the same database', databases: ['smaller', 'smaller'] },
    { title: 'of different databases', databases: ['smaller', 'other'] },
  ])('$title are both whole', async ({ databases }) => {
    await using repository = makeTempFolder('repository');
    const target = join(repository.path, 'new');
    const made = await Promise.all(databases.map(database => backUp(server, database, target)));
    expect((await listBackups({ repository: target })).map(backup => backup.id).sort()).toEqual(
      made.map(backup => backup.id).sort(),
    );
    for (const { id, database } of made) {
      await restoreInto(server, 'restored', target, { create: true, backup: id });
      await expectSame(server, database, 'restored');
      await server.dropDatabase('restored');
    }
  });
});

/** Fills a disk up to what shall be free. */
function ballastOn(disk: string): (freeBytes: number) => void {
  const ballast = join(disk, 'ballast');
  return freeBytes => {
    rmSync(ballast, { force: true });
    const { bavail, bsize } = statfsSync(disk);
    writeFileSync(ballast, Buffer.alloc(bavail * bsize - freeBytes, 1));
  };
}

function filesOf(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath.slice(folder.length), entry.name));
}
