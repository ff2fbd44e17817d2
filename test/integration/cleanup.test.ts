// Cleanups and deletions of real backups: what stays restores row for row, and nothing else is left.

import { cpSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run as runCommandLine } from '../../src/cli/main.ts';
import { cleanupRepository } from '../../src/operations/cleanup-repository.ts';
import { deleteBackup } from '../../src/operations/delete-backup.ts';
import { listBackups } from '../../src/operations/list-backups.ts';
import { verifyBackups } from '../../src/operations/verify-backups.ts';
import { writeGarbageList } from '../../src/repository/garbage.ts';
import { LocalStorage } from '../../src/storage/local/local-storage.ts';
import { runCli, testIo } from '../support/cli-io.ts';
import type { DyingCreate } from '../support/dying-create.ts';
import { expectSame } from '../support/fault-database.ts';
import { withFaults } from '../support/faulty-storage.ts';
import { expectNamedOnly } from '../support/named-only.ts';
import { startModule } from '../support/pgkeep-process.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { runUnderFaults } from '../support/run-under-faults.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let server: Server;
const yearSeconds = 365 * 86_400;

beforeAll(async () => {
  server = await startServer();
  await server.createDatabase('shop');
  await psql(
    server,
    'shop',
    `CREATE TABLE item (id integer PRIMARY KEY, name text);
     INSERT INTO item SELECT n, md5(n::text) FROM generate_series(1, 5000) n;
     CREATE TABLE visit (n integer);`,
  );
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const cleanup = (repository: string, options: Partial<Parameters<typeof cleanupRepository>[0]> = {}) =>
  cleanupRepository({ repository, encryptionKey: testKey, keepDays: 0, graceMs: 0, ...options });

const newFolder = () => makeTempFolder('cleanup').path;
const listed = async (repository: string) => (await listBackups({ repository })).map(backup => backup.id);
const filesIn = (folder: string) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();

/** Backups of a database that changes in between, and a copy of the database as each of them has it. */
async function makeHistory(repository: string, count: number): Promise<{ id: string; copy: string }[]> {
  const history: { id: string; copy: string }[] = [];
  for (let n = 0; n < count; n++) {
    await psql(
      server,
      'shop',
      `INSERT INTO visit SELECT ${n} FROM generate_series(1, 100); UPDATE item SET name = 'v${n}' WHERE id % 50 = ${n}`,
    );
    // In full, so that each leaves something that the next one does not need.
    const { id } = await backUp(server, 'shop', repository, { full: true });
    history.push({ id, copy: await server.cloneDatabase('shop') });
  }
  return history;
}

async function expectRestores(repository: string, { id, copy }: { id: string; copy: string }): Promise<void> {
  await restoreInto(server, 'restored', repository, { backup: id, create: true });
  await expectSame(server, copy, 'restored');
  await server.dropDatabase('restored');
}

async function expectAllVerify(repository: string): Promise<void> {
  const { backups } = await verifyBackups({ repository, encryptionKey: testKey, all: true });
  expect(backups.filter(backup => !backup.valid)).toEqual([]);
}

/** The file of a segment that the first backup, but not the last, brought. */
function largestSegment(repository: string): string {
  const segments = filesIn(repository).filter(name => name.startsWith('segments/'));
  const sizes = segments.map(name => ({ name, size: readFileSync(join(repository, name)).length }));
  return sizes.sort((a, b) => b.size - a.size)[0]?.name ?? '';
}

describe('a cleanup', () => {
  it('deletes what no rule keeps, and what nothing needs; the survivors restore row for row', async () => {
    const repository = newFolder();
    const history = await makeHistory(repository, 5);
    const before = filesIn(repository).length;
    const first = await cleanup(repository, { keepLast: 2, graceMs: 3_600_000 });
    expect(first.backups.map(({ id, stays }) => ({ id, stays }))).toEqual(
      history.map(({ id }, n) => ({ id, stays: n >= 3 })).reverse(),
    );
    expect(await listed(repository)).toEqual(
      history
        .slice(3)
        .map(({ id }) => id)
        .reverse(),
    );
    expect(first.deleted).toMatchObject({ segments: 0, keys: 0, bytes: 0 });
    expect(first.candidates.segments).toBeGreaterThanOrEqual(3);
    // Three manifests and their metadata went, one list came.
    expect(filesIn(repository)).toHaveLength(before - 6 + 1);
    const early = await cleanup(repository, { keepLast: 2, graceMs: 3_600_000 });
    expect(early).toMatchObject({ deleted: first.deleted, candidates: first.candidates });
    const second = await cleanup(repository, { keepLast: 2 });
    expect(second.deleted).toEqual(first.candidates);
    expect(second.candidates).toMatchObject({ segments: 0, keys: 0, bytes: 0 });
    await expectNamedOnly(repository);
    for (const survivor of history.slice(3)) await expectRestores(repository, survivor);
  });

  it('collects what a killed run left: its segments, its key, its manifest', async () => {
    const repository = newFolder();
    const [kept] = await makeHistory(repository, 1);
    await psql(server, 'shop', "UPDATE item SET name = 'changed'");
    const script = resolve(import.meta.dirname, '../support/dying-create.ts');
    for (const where of [
      { name: 'segments/', when: 'after' },
      { name: 'metadata/', when: 'before' },
    ] as const) {
      const options: DyingCreate['options'] = {
        database: server.url('shop'),
        repository,
        encryptionKey: testKey,
        programs: server.binDir,
      };
      expect((await startModule(script, { options, nth: 1, ...where }).ended).signal).toBe('SIGKILL');
    }
    expect(filesIn(repository).filter(name => name.startsWith('backups/'))).toHaveLength(2);
    const collected = [];
    for (let round = 0; round < 2; round++) collected.push((await cleanup(repository)).deleted);
    expect(collected).toMatchObject([{ manifests: 0 }, { manifests: 1 }]);
    await expectNamedOnly(repository);
    if (kept) await expectRestores(repository, kept);
  });

  it('that only prints changes nothing, and says what the next one does', async () => {
    const repository = newFolder();
    await makeHistory(repository, 3);
    const before = filesIn(repository);
    const planned = await cleanup(repository, { dryRun: true });
    expect(filesIn(repository)).toEqual(before);
    const done = await cleanup(repository);
    const { durationMs: _, ...rest } = planned;
    expect(done).toMatchObject({ ...rest, dryRun: false });
    const nextPlanned = await cleanup(repository, { dryRun: true });
    expect(nextPlanned.deleted).toEqual(done.candidates);
  });

  it('with a wrong key, or none, changes nothing', async () => {
    const repository = newFolder();
    await makeHistory(repository, 2);
    const before = filesIn(repository);
    const wrong = cleanup(repository, { encryptionKey: testKey.replace('0', '1') });
    await expect(wrong).rejects.toMatchObject({ code: 'KEY_WRONG' });
    await expect(cleanup(repository, { encryptionKey: undefined })).rejects.toMatchObject({
      code: 'KEY_MISSING',
    });
    expect(filesIn(repository)).toEqual(before);
  });
});

describe('when something is damaged', () => {
  it.each(['damaged', 'missing'])(
    'a manifest that is %s keeps all data, and the exit status says so',
    async how => {
      const repository = newFolder();
      const history = await makeHistory(repository, 3);
      await cleanup(repository, { keepDays: 9, keepLast: 9 });
      await deleteBackup({ repository, backup: history[0]?.id ?? '' });
      await cleanup(repository, { keepDays: 9 });
      const manifest = join(repository, 'backups', `${history[1]?.id}.backup`);
      if (how === 'missing') rmSync(manifest);
      else writeFileSync(manifest, readFileSync(manifest).fill(7, 100, 120));
      const data = () => filesIn(repository).filter(name => /^(segments|keys)\//.test(name));
      const before = data();
      const { exitCode, err, out } = await runCli(
        ['cleanup', '--repository', repository, '--grace', '0', '--keep-days', '9', '--json'],
        { env: { BACKUP_ENCRYPTION_KEY: testKey } },
      );
      expect(exitCode).toBe(4);
      expect(err).toContain(how === 'missing' ? '[OBJECT_MISSING]' : '[OBJECT_DAMAGED]');
      expect(JSON.parse(out).problems).toHaveLength(1);
      expect(data()).toEqual(before);
      await deleteBackup({ repository, backup: history[1]?.id ?? '' });
      for (let round = 0; round < 2; round++) expect((await cleanup(repository)).problems).toEqual([]);
      await expectNamedOnly(repository);
      if (history[2]) await expectRestores(repository, history[2]);
    },
  );

  it('a backup whose metadata is damaged counts as one that exists', async () => {
    const repository = newFolder();
    const history = await makeHistory(repository, 2);
    const [old] = history;
    const metadata = join(repository, 'metadata', `${old?.id}.json`);
    const bytes = readFileSync(metadata);
    writeFileSync(metadata, 'nothing');
    for (let round = 0; round < 3; round++) {
      const { problems, backups } = await cleanup(repository);
      expect(problems).toMatchObject([{ code: 'OBJECT_DAMAGED' }]);
      expect(backups).toContainEqual(expect.objectContaining({ id: old?.id, stays: true, database: null }));
    }
    writeFileSync(metadata, bytes);
    for (const backup of history) await expectRestores(repository, backup);
  });

  it('a garbage list that is damaged lists nothing, and goes', async () => {
    const repository = newFolder();
    const [, kept] = await makeHistory(repository, 2);
    await cleanup(repository);
    const [list = ''] = filesIn(repository).filter(name => name.startsWith('garbage/'));
    writeFileSync(join(repository, list), '{"format":1');
    expect((await cleanup(repository)).deleted.segments).toBe(0);
    expect(filesIn(repository)).not.toContain(list);
    await cleanup(repository);
    await expectNamedOnly(repository);
    if (kept) await expectRestores(repository, kept);
  });

  it('the key of a backup that healed an older one stays when that backup goes', async () => {
    const repository = newFolder();
    const [old] = await makeHistory(repository, 1);
    const segment = largestSegment(repository);
    const bytes = readFileSync(join(repository, segment));
    writeFileSync(join(repository, segment), bytes.fill(1, 200, 210));
    await verifyBackups({ repository, encryptionKey: testKey, all: true, repair: true });
    expect(filesIn(repository)).not.toContain(segment);
    const healing = await backUp(server, 'shop', repository);
    expect(filesIn(repository)).toContain(segment);
    if (old) await expectRestores(repository, old);
    // The older one counts as damaged until it has been verified again.
    const deletion = { repository, backup: healing.id };
    await expect(deleteBackup(deletion)).rejects.toMatchObject({
      code: 'LAST_GOOD_BACKUP',
      hint: expect.stringContaining('verify the others again'),
    });
    await expectAllVerify(repository);
    await deleteBackup(deletion);
    for (let round = 0; round < 3; round++) await cleanup(repository);
    await expectNamedOnly(repository);
    expect(filesIn(repository).filter(name => name.startsWith('keys/'))).toHaveLength(2);
    if (old) await expectRestores(repository, old);
  });
});

describe('a clock that jumps', () => {
  it('a year ahead makes no list due that is dated later, and one that is marked stays', async () => {
    const repository = newFolder();
    const [, kept] = await makeHistory(repository, 2);
    await cleanup(repository);
    const [list = ''] = filesIn(repository).filter(name => name.startsWith('garbage/'));
    const ahead = Date.now() / 1000 + yearSeconds;
    utimesSync(join(repository, list), ahead, ahead);
    expect((await cleanup(repository)).deleted).toMatchObject({ segments: 0, keys: 0 });
    expect(filesIn(repository)).not.toContain(list);
    expect((await cleanup(repository)).deleted.segments).toBeGreaterThan(0);
    await expectNamedOnly(repository);
    if (kept) await expectRestores(repository, kept);
  });

  it('a year in either direction, for all objects, loses nothing that is named', async () => {
    for (const years of [-1, 1]) {
      const repository = newFolder();
      const history = await makeHistory(repository, 2);
      await cleanup(repository, { keepLast: 2 });
      for (const name of filesIn(repository)) {
        const at = Date.now() / 1000 + years * yearSeconds;
        utimesSync(join(repository, name), at, at);
      }
      for (let round = 0; round < 3; round++) await cleanup(repository, { keepLast: 2, graceMs: 60_000 });
      for (const backup of history) await expectRestores(repository, backup);
    }
  });
});

describe('a cleanup that is killed', () => {
  it('after any request leaves whole backups, and the next ones finish its work', async () => {
    const repository = newFolder();
    const history = await makeHistory(repository, 3);
    await deleteBackup({ repository, backup: history[0]?.id ?? '' });
    // A list that is due, and a backup that goes.
    await cleanup(repository, { keepDays: 9, keepLast: 2 });
    const copyOf = () => {
      const copy = join(newFolder(), 'repository');
      cpSync(repository, copy, { recursive: true, preserveTimestamps: true });
      return copy;
    };
    const options = { encryptionKey: testKey, keepDays: 0, graceMs: 0 };
    const whole = copyOf();
    // Between two requests that change something, all kills leave the same.
    const changing: number[] = [];
    {
      using storage = withFaults(whole);
      await cleanupRepository({ ...options, repository: whole });
      const { requests } = storage;
      changing.push(
        ...requests.filter(({ call }) => ['put', 'remove'].includes(call)).map(one => one.number),
      );
    }
    expect(changing.length).toBeGreaterThan(8);
    for (const number of changing) {
      const copy = copyOf();
      const { isKilled } = await runUnderFaults('cleanupRepository', { ...options, repository: copy }, [
        { number, do: 'die', when: 'after' },
      ]);
      expect(isKilled).toBe(true);
      await expectAllVerify(copy);
      expect(await listed(copy)).toContain(history[2]?.id);
      for (let round = 0; round < 2; round++) await cleanup(copy);
      await expectNamedOnly(copy);
      await expectAllVerify(copy);
      rmSync(copy, { recursive: true });
    }
    if (history[2]) await expectRestores(repository, history[2]);
  }, 600_000);
});

it('backups and cleanups without grace at once: whatever is listed in the end can be read', async () => {
  const repository = newFolder();
  await makeHistory(repository, 2);
  const codes = new Set<string>();
  for (let round = 0; round < 6; round++) {
    const outcomes = await Promise.allSettled([
      backUp(server, 'shop', repository),
      backUp(server, 'shop', repository),
      cleanup(repository, { keepLast: 1 }),
      cleanup(repository, { keepLast: 1 }),
    ]);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') codes.add(outcome.reason.code);
    }
    await expectAllVerify(repository);
  }
  expect([...codes].filter(code => code !== 'CLEANUP_CONFLICT')).toEqual([]);
  for (let round = 0; round < 3; round++) await cleanup(repository);
  await expectNamedOnly(repository);
});

it('a backup that meets the mark of a cleanup that was killed fails, and says how to end what that one began', async () => {
  const repository = newFolder();
  await makeHistory(repository, 1);
  const segments = filesIn(repository)
    .filter(name => name.startsWith('segments/'))
    .map(name => name.slice(-64));
  const list = await writeGarbageList(new LocalStorage(repository), {
    segments,
    keys: [],
    manifests: [],
    verified: [],
  });
  writeFileSync(join(repository, list.replace(/json$/, 'deleting')), '{}');
  const conflict = { code: 'CLEANUP_CONFLICT', hint: expect.stringContaining('pgkeep cleanup --grace 1m') };
  await expect(backUp(server, 'shop', repository)).rejects.toMatchObject(conflict);
  // Damaged, it may list anything.
  writeFileSync(join(repository, list), '');
  await expect(backUp(server, 'shop', repository)).rejects.toMatchObject(conflict);
  await cleanup(repository);
  await backUp(server, 'shop', repository);
  await expectAllVerify(repository);
});

describe('a backup that is known to be damaged', () => {
  const damages: [string, (repository: string, id: string) => Promise<unknown>][] = [
    ['as it has no manifest', async (repository, id) => rmSync(join(repository, 'backups', `${id}.backup`))],
    [
      'by its last verification',
      async (repository, id) => {
        const file = join(repository, 'backups', `${id}.backup`);
        writeFileSync(file, readFileSync(file).subarray(1));
        await verifyBackups({ repository, encryptionKey: testKey, backup: id });
      },
    ],
  ];

  it.each(damages)('%s takes no other backup’s place', async (_, damage) => {
    const repository = newFolder();
    const [oldest, older, newest] = await makeHistory(repository, 3);
    await damage(repository, newest?.id ?? '');
    const { backups } = await cleanup(repository);
    expect(backups.map(({ id, stays }) => ({ id, stays }))).toEqual([
      { id: newest?.id, stays: true },
      { id: older?.id, stays: true },
      { id: oldest?.id, stays: false },
    ]);
    if (older === undefined || newest === undefined) throw new Error('there are three');
    await expect(deleteBackup({ repository, backup: older.id })).rejects.toMatchObject({
      code: 'LAST_GOOD_BACKUP',
    });
    await deleteBackup({ repository, backup: newest.id });
    await expectRestores(repository, older);
  });
});

describe('delete', () => {
  it('deletes one backup without any key, but not the last good one of a database unless forced', async () => {
    const repository = newFolder();
    const [first, second] = await makeHistory(repository, 2);
    const words = (id: string, ...more: string[]) => ['delete', id, '--repository', repository, ...more];
    const unasked = await runCli(words(first?.id ?? ''));
    expect(unasked).toMatchObject({ exitCode: 2, err: expect.stringContaining('--yes') });
    const dry = await runCli(words(first?.id ?? '', '--dry-run'));
    expect(dry).toMatchObject({ exitCode: 0, err: expect.stringContaining('would delete') });
    expect(await listed(repository)).toHaveLength(2);
    expect(await runCli(words(first?.id ?? '', '--yes'))).toMatchObject({ exitCode: 0 });
    expect(await listed(repository)).toEqual([second?.id]);
    const last = await runCli(words(second?.id ?? '', '--yes'));
    expect(last).toMatchObject({ exitCode: 4, err: expect.stringContaining('[LAST_GOOD_BACKUP]') });
    expect(await runCli(words(first?.id ?? '', '--yes'))).toMatchObject({ exitCode: 4 });
    expect(await runCli(words(second?.id ?? '', '--yes', '--force'))).toMatchObject({ exitCode: 0 });
    expect(await listed(repository)).toEqual([]);
  });

  it.each(['y', 'n'])('asks on a terminal, and takes %s for an answer', async answer => {
    const repository = newFolder();
    const [first] = await makeHistory(repository, 2);
    const io = testIo({ isTTY: true });
    io.typed.write(`${answer}\n`);
    const exitCode = await runCommandLine(['delete', first?.id ?? '', '--repository', repository], io);
    expect(io.err()).toContain(`${first?.id} of shop, taken`);
    expect(exitCode).toBe(answer === 'y' ? 0 : 130);
    expect(await listed(repository)).toHaveLength(answer === 'y' ? 1 : 2);
  });

  it('of the two last good ones at the same moment leaves one', async () => {
    const repository = newFolder();
    const history = await makeHistory(repository, 2);
    await Promise.allSettled(history.map(({ id }) => deleteBackup({ repository, backup: id })));
    const left = await listed(repository);
    expect(left.length).toBeGreaterThanOrEqual(1);
    for (const backup of history.filter(({ id }) => left.includes(id)))
      await expectRestores(repository, backup);
  });

  it('takes a backup whose metadata is damaged only when forced', async () => {
    const repository = newFolder();
    const [first] = await makeHistory(repository, 2);
    writeFileSync(join(repository, 'metadata', `${first?.id}.json`), '');
    const backup = first?.id ?? '';
    await expect(deleteBackup({ repository, backup })).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
    await deleteBackup({ repository, backup, force: true });
    for (let round = 0; round < 2; round++) await cleanup(repository);
    await expectNamedOnly(repository);
  });
});
