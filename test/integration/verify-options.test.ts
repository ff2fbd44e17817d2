// The levels and options of verify, what is remembered of its result, and repair.

import { cpSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listBackups } from '../../src/operations/list-backups.ts';
import { showBackup } from '../../src/operations/show-backup.ts';
import { metadataName, verifiedName } from '../../src/repository/layout.ts';
import { countsAsVerified, parseVerification } from '../../src/repository/verification.ts';
import { runCli } from '../support/cli-io.ts';
import { expectSame } from '../support/fault-database.ts';
import { interceptStorage, withFaults } from '../support/faulty-storage.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { cutShort, filesIn, flipBit, remove } from '../support/repository-files.ts';
import { backUp, restoreInto, testKey } from '../support/round-trip.ts';
import { makeTempFolder } from '../support/temp-folder.ts';
import { makeVerifyDatabase, verify, verifyRows } from '../support/verify-database.ts';

let server: Server;
/** Three backups, the newest first: two of one database, one of another. */
const whole = makeTempFolder('repository');
let ids: string[];
let other: string;

beforeAll(async () => {
  server = await startServer();
  await makeVerifyDatabase(server, 'shop');
  await server.createDatabase('blog');
  await psql(server, 'blog', 'CREATE TABLE post AS SELECT i AS id FROM generate_series(1, 10) AS i');
  const first = await backUp(server, 'shop', whole.path);
  other = (await backUp(server, 'blog', whole.path, { privateMetadata: true })).id;
  await psql(server, 'shop', "UPDATE notes SET note = 'changed' WHERE id = 5");
  const second = await backUp(server, 'shop', whole.path, { tags: ['nightly'], reason: 'because' });
  ids = [second.id, first.id];
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

function copyOfWhole() {
  const copy = makeTempFolder('repository');
  cpSync(whole.path, copy.path, { recursive: true });
  return copy;
}

const rememberedOf = (folder: string, id: string) =>
  parseVerification(id, readFileSync(join(folder, verifiedName(id))));
const segmentsOf = (requests: readonly { call: string; name: string }[]) =>
  requests.filter(({ call, name }) => call === 'get' && name.startsWith('segments/')).map(({ name }) => name);

describe('which backups', () => {
  it('without metadata there is none; that its manifest is left is said, whichever are verified', async () => {
    await using copy = copyOfWhole();
    const [lost = '', left = ''] = ids;
    remove(join(copy.path, metadataName(lost)));
    for (const all of [true, false]) {
      const { valid, backups, warnings } = await verify(server, copy.path, { level: 'metadata', all });
      expect({ valid, ids: backups.map(({ backupId }) => backupId) }).toEqual({
        valid: true,
        ids: all ? [other, left] : [other],
      });
      expect(warnings).toEqual([expect.stringContaining(`${metadataName(lost)} was lost`)]);
    }
    // What is older than the latest does not concern it.
    cpSync(join(whole.path, metadataName(lost)), join(copy.path, metadataName(lost)));
    remove(join(copy.path, metadataName(left)));
    expect((await verify(server, copy.path, { level: 'metadata' })).warnings).toEqual([]);
  });

  it('is the latest without a word, of one database when it is named, or all', async () => {
    await using copy = copyOfWhole();
    const verified = async (options: Parameters<typeof verify>[2]) =>
      (await verify(server, copy.path, { level: 'metadata', ...options })).backups.map(
        ({ backupId }) => backupId,
      );
    expect(await verified({})).toEqual([ids[0]]);
    expect(await verified({ database: 'blog' })).toEqual([other]);
    expect(await verified({ backup: ids[1] })).toEqual([ids[1]]);
    expect(await verified({ all: true })).toEqual([ids[0], other, ids[1]]);
    expect(await verified({ all: true, database: 'shop' })).toEqual(ids);
    await expect(verified({ backup: 'backup-1642684800000-a1b2c3d4' })).rejects.toMatchObject({
      code: 'BACKUP_NOT_FOUND',
    });
    await expect(verified({ database: 'none' })).rejects.toMatchObject({ code: 'BACKUP_NOT_FOUND' });
  });

  it('all go on after one that is bad, whatever is bad about it, and each bad one is named', async () => {
    await using copy = copyOfWhole();
    cutShort(join(copy.path, 'metadata', `${ids[0]}.json`));
    flipBit(join(copy.path, 'backups', `${other}.backup`));
    const { valid, backups } = await verify(server, copy.path, { all: true });
    expect(valid).toBe(false);
    expect(backups.map(({ backupId, valid: one, errors }) => [backupId, one, errors[0]?.object])).toEqual([
      [other, false, `backups/${other}.backup`],
      [ids[1], true, undefined],
      [ids[0], false, `metadata/${ids[0]}.json`],
    ]);
    // What could be looked at of the one without metadata was.
    expect(backups[2]).toMatchObject({ database: 'shop', rowsCompared: verifyRows, checksumValid: false });
  });

  it('latest is a damaged newest one too', async () => {
    await using copy = copyOfWhole();
    cutShort(join(copy.path, 'metadata', `${ids[0]}.json`));
    const { backups } = await verify(server, copy.path, { level: 'metadata' });
    expect(backups).toMatchObject([{ backupId: ids[0], valid: false }]);
  });

  it('one that is removed while it is verified is no bad one', async () => {
    await using copy = copyOfWhole();
    const gone = ids[0] ?? '';
    using _ = interceptStorage(copy.path, storage => ({
      location: storage.location,
      put: (...given) => storage.put(...given),
      stat: name => storage.stat(name),
      list: prefix => storage.list(prefix),
      remove: names => storage.remove(names),
      close: () => storage.close(),
      get: async name => {
        if (name === `backups/${gone}.backup`) {
          remove(join(copy.path, 'metadata', `${gone}.json`));
          remove(join(copy.path, name));
        }
        return await storage.get(name);
      },
    }));
    const { valid, backups, warnings } = await verify(server, copy.path, { all: true, database: 'shop' });
    expect({ valid, verified: backups.map(({ backupId }) => backupId) }).toEqual({
      valid: true,
      verified: [ids[1]],
    });
    expect(warnings).toEqual([`${gone} was removed while it was verified`]);
    expect(existsSync(join(copy.path, verifiedName(gone)))).toBe(false);
  });
});

describe('level metadata', () => {
  it('reads no segment but table indexes, and finds what is missing or of another size', async () => {
    await using copy = copyOfWhole();
    const [largest = '', second = ''] = filesIn(copy.path, 'segments');
    {
      using storage = withFaults(copy.path);
      const { backups } = await verify(server, copy.path, { level: 'metadata', all: true });
      expect(backups.map(({ valid, rowsCompared }) => [valid, rowsCompared])).toEqual([
        [true, 0],
        [true, 0],
        [true, 0],
      ]);
      // Both backups of the large table have the same one.
      expect(segmentsOf(storage.requests)).toHaveLength(1);
      expect(
        storage.requests.filter(({ call, name }) => call === 'list' && name === 'segments/'),
      ).toHaveLength(1);
    }
    remove(largest);
    cutShort(second);
    const { backups } = await verify(server, copy.path, { level: 'metadata' });
    expect(
      backups[0]?.errors.map(({ code, object }) => [code, join(copy.path, object ?? '')]).sort(),
    ).toEqual([
      ['OBJECT_DAMAGED', second],
      ['OBJECT_MISSING', largest],
    ]);
    expect(backups).toMatchObject([{ sizeValid: false, checksumValid: false }]);
  });

  it('does not notice a flipped bit, which is what level data is for', async () => {
    await using copy = copyOfWhole();
    flipBit(filesIn(copy.path, 'segments')[0] ?? '');
    expect((await verify(server, copy.path, { level: 'metadata' })).valid).toBe(true);
    expect((await verify(server, copy.path)).valid).toBe(false);
  });
});

it('every segment is read once, however many backups share it', async () => {
  await using copy = copyOfWhole();
  using storage = withFaults(copy.path);
  const { valid, backups } = await verify(server, copy.path, { all: true });
  expect(valid).toBe(true);
  expect(backups.map(backup => backup.rowsCompared)).toEqual([verifyRows, 10, verifyRows]);
  const reads = segmentsOf(storage.requests);
  expect(reads).toHaveLength(new Set(reads).size);
  expect(new Set(reads.map(name => join(copy.path, name)))).toEqual(new Set(filesIn(copy.path, 'segments')));
});

it('so is a table index, which backups of the same rows share when nothing is encrypted', async () => {
  await using folder = makeTempFolder('repository');
  const plain = { encryptionKey: undefined, encryption: false };
  await backUp(server, 'shop', folder.path, plain);
  await backUp(server, 'shop', folder.path, plain);
  using storage = withFaults(folder.path);
  const { valid, backups } = await verify(server, folder.path, { all: true });
  expect({ valid, rows: backups.map(backup => backup.rowsCompared) }).toEqual({
    valid: true,
    rows: [verifyRows, verifyRows],
  });
  const reads = segmentsOf(storage.requests);
  expect(reads).toHaveLength(new Set(reads).size);
});

describe('a sample', () => {
  it('reads its share, says which, and does not count as verified', async () => {
    await using copy = copyOfWhole();
    using storage = withFaults(copy.path);
    const { backups } = await verify(server, copy.path, { sample: 0.3 });
    const [backup] = backups;
    expect(backup).toMatchObject({ valid: true, sample: { percent: 30, ofSegments: expect.any(Number) } });
    const { segments = 0, ofSegments = 0 } = backup?.sample ?? {};
    expect(segments).toBeGreaterThanOrEqual(Math.ceil(ofSegments * 0.3));
    // The archive's table of contents is read in any case, and the table index, which is not counted.
    expect(segments).toBeLessThanOrEqual(Math.ceil(ofSegments * 0.3) + 1);
    expect(new Set(segmentsOf(storage.requests)).size).toBe(segments + 1);
    expect(backup?.rowsCompared).toBeLessThan(verifyRows);
    const [listed] = await listBackups({ repository: copy.path });
    expect(listed?.verified).toMatchObject({ valid: true, lastFull: null });
    expect(
      countsAsVerified(rememberedOf(copy.path, ids[0] ?? ''), { checksum: listed?.checksum ?? '' }),
    ).toBe(false);
  });

  it('of all of it counts, and so does what was verified before a sample', async () => {
    await using copy = copyOfWhole();
    await verify(server, copy.path, { sample: 1 });
    const [listed] = await listBackups({ repository: copy.path });
    const counts = () =>
      countsAsVerified(rememberedOf(copy.path, ids[0] ?? ''), { checksum: listed?.checksum ?? '' });
    expect(counts()).toBe(true);
    const before = rememberedOf(copy.path, ids[0] ?? '').lastFull;
    await verify(server, copy.path, { sample: 0.01 });
    await verify(server, copy.path, { level: 'metadata' });
    expect(rememberedOf(copy.path, ids[0] ?? '')).toMatchObject({ level: 'metadata', lastFull: before });
    expect(counts()).toBe(true);
    remove(filesIn(copy.path, 'segments')[0] ?? '');
    await verify(server, copy.path, { level: 'metadata' });
    expect(counts()).toBe(false);
  });

  it('sees what is missing beside it', async () => {
    await using copy = copyOfWhole();
    const [largest = ''] = filesIn(copy.path, 'segments');
    remove(largest);
    const { backups } = await verify(server, copy.path, { sample: 0.01 });
    expect(backups[0]?.errors).toMatchObject([{ code: 'OBJECT_MISSING', object: expect.any(String) }]);
  });

  it.each([
    { sample: 0 },
    { sample: 1.5 },
    { sample: Number.NaN },
    { sample: 0.5, level: 'metadata' },
    { sample: 0.5, level: 'restore' },
    { all: true, backup: 'latest' },
    { level: 'soul' as 'data' },
    { jobs: 0 },
  ] as const)('and other options that make no sense are refused: %o', async options => {
    await expect(verify(server, whole.path, options)).rejects.toMatchObject({ code: 'OPTION_INVALID' });
  });
});

describe('what is remembered', () => {
  it('is shown by list and show, and replaced by the next', async () => {
    await using copy = copyOfWhole();
    expect((await listBackups({ repository: copy.path })).map(({ verified }) => verified)).toEqual([
      null,
      null,
      null,
    ]);
    await verify(server, copy.path);
    const shown = () => showBackup({ repository: copy.path, encryptionKey: testKey, backup: 'latest' });
    const [listed] = await listBackups({ repository: copy.path });
    expect(listed?.verified).toMatchObject({ level: 'data', valid: true, errorCount: 0 });
    expect((await shown()).verified).toMatchObject({ rowsCompared: verifyRows, errors: [] });
    flipBit(filesIn(copy.path, 'segments')[0] ?? '');
    await verify(server, copy.path);
    expect((await shown()).verified).toMatchObject({
      valid: false,
      errorCount: 1,
      errors: [{ code: 'OBJECT_DAMAGED', tables: [expect.objectContaining({ schema: 'public' })] }],
    });
  });

  it('names no table where these are private, and never what a server said', async () => {
    await using copy = copyOfWhole();
    for (const file of filesIn(copy.path, 'segments')) flipBit(file);
    const { backups } = await verify(server, copy.path, { all: true });
    expect(backups.find(({ backupId }) => backupId === other)?.errors[0]).toHaveProperty('message');
    const text = readFileSync(join(copy.path, verifiedName(other)), 'utf8');
    expect(text).not.toContain('post');
    expect(text).not.toContain('message');
    expect(rememberedOf(copy.path, ids[0] ?? '').errors.some(({ tables }) => tables !== undefined)).toBe(
      true,
    );
  });

  it('is a warning where the repository cannot be written', async () => {
    await using copy = copyOfWhole();
    using faults = withFaults(copy.path, [{ call: 'put', do: 'fail', code: 'STORAGE_DENIED' }]);
    const { valid, warnings } = await verify(server, copy.path);
    expect(valid).toBe(true);
    expect(warnings).toEqual([expect.stringContaining(`the result for ${ids[0]} could not be remembered`)]);
    expect(faults.happened).toHaveLength(1);
  });
});

describe('a storage that fails', () => {
  it('for one object is a problem of that object', async () => {
    await using copy = copyOfWhole();
    const [largest = ''] = filesIn(copy.path, 'segments');
    const name = largest.slice(copy.path.length + 1);
    using _ = withFaults(copy.path, [{ call: 'get', name, do: 'fail', code: 'STORAGE_UNREACHABLE' }]);
    const { backups } = await verify(server, copy.path);
    expect(backups).toMatchObject([
      { valid: false, errors: [{ code: 'STORAGE_UNREACHABLE', object: name }] },
    ]);
  });

  it('altogether ends the verification, and nothing is remembered', async () => {
    await using copy = copyOfWhole();
    // From the sixth object on nothing can be read any more.
    const faults = Array.from({ length: 40 }, (_, index) => ({
      call: 'get' as const,
      nth: index + 6,
      do: 'fail' as const,
      code: 'STORAGE_UNREACHABLE' as const,
    }));
    using storage = withFaults(copy.path, faults);
    await expect(verify(server, copy.path)).rejects.toMatchObject({ code: 'STORAGE_UNREACHABLE' });
    expect(storage.happened.length).toBeGreaterThan(0);
    expect(existsSync(join(copy.path, 'verified'))).toBe(false);
  });
});

describe('repair', () => {
  it('removes what is damaged; the next backup stores it and what is missing afresh, and older backups are whole again', async () => {
    await using copy = copyOfWhole();
    const [damaged = '', missing = ''] = filesIn(copy.path, 'segments');
    flipBit(damaged);
    remove(missing);
    // Without repair, a backup takes over what has the right size.
    await backUp(server, 'shop', copy.path);
    const broken = await verify(server, copy.path, { all: true, database: 'shop', repair: true });
    const name = damaged.slice(copy.path.length + 1);
    expect(broken.repaired).toEqual([name]);
    expect(
      broken.backups.map(({ valid, errors }) => [valid, errors.some(({ object }) => object === name)]),
    ).toEqual([
      [false, true],
      [false, true],
      [false, true],
    ]);
    expect(existsSync(damaged)).toBe(false);

    const next = await backUp(server, 'shop', copy.path);
    expect(next.newSegments).toBeGreaterThan(0);
    const mended = await verify(server, copy.path, { all: true, database: 'shop', repair: true });
    expect(mended.backups.map(({ valid, errors }) => [valid, errors])).toEqual(
      mended.backups.map(() => [true, []]),
    );
    expect(mended.repaired).toEqual([]);
    for (const backup of [ids[0], next.id]) {
      await restoreInto(server, 'mended', copy.path, { backup: backup ?? '', create: true });
      await expectSame(server, 'shop', 'mended');
      await server.dropDatabase('mended');
    }
  });

  it('removes nothing when a second reading is fine, and nothing for a key that is lost', async () => {
    await using copy = copyOfWhole();
    const before = filesIn(copy.path, 'segments');
    const name = (before[0] ?? '').slice(copy.path.length + 1);
    {
      using _ = withFaults(copy.path, [{ call: 'get', name, nth: 1, do: 'flip', byte: 100 }]);
      const { valid, repaired } = await verify(server, copy.path, { repair: true });
      expect({ valid, repaired }).toEqual({ valid: false, repaired: [] });
    }
    for (const key of filesIn(copy.path, 'keys')) remove(key);
    expect((await verify(server, copy.path, { repair: true })).repaired).toEqual([]);
    expect(filesIn(copy.path, 'segments')).toEqual(before);
  });
});

describe('on the command line', () => {
  const env = () => ({
    BACKUP_ENCRYPTION_KEY: testKey,
    PGKEEP_PROGRAMS: server.binDir,
    PATH: process.env.PATH ?? '',
  });
  const cli = (folder: string, ...words: string[]) =>
    runCli(['verify', '--repository', folder, ...words], { env: env() });

  it('says what is valid, and that the latest was chosen', async () => {
    await using copy = copyOfWhole();
    const { exitCode, out, err } = await cli(copy.path);
    expect({ exitCode, out }).toEqual({
      exitCode: 0,
      out: expect.stringMatching(
        new RegExp(
          `^${ids[0]} of shop: valid \\(level data, 9,652 rows counted\\)\nverified 1 backup in .*\n$`,
        ),
      ),
    });
    expect(err).toContain('no backup was named: verifying the latest\n');
    const { out: listed } = await runCli(['list', '--repository', copy.path], { env: env() });
    const today = new Date().toISOString().slice(0, 10);
    expect(listed.split('\n')[0]).toContain('VERIFIED');
    expect(listed.split('\n')[1]).toContain(`data ${today}`);
    expect(listed.split('\n')[2]).toMatch(/ -$/);
    const { out: shown } = await runCli(['show', '--repository', copy.path], { env: env() });
    expect(shown).toContain(`Verified    data ${today}`);
  });

  it('names what is damaged, with tables and pages, on stdout, and ends with exit code 9', async () => {
    await using copy = copyOfWhole();
    const [largest = ''] = filesIn(copy.path, 'segments');
    flipBit(largest);
    const { exitCode, out, err } = await cli(copy.path, '--all', '--quiet');
    expect(exitCode).toBe(9);
    expect(out).toContain(`${ids[0]} of shop: NOT VALID (level data, `);
    expect(out).toContain(`  OBJECT_DAMAGED: ${largest.slice(copy.path.length + 1)} is damaged`);
    expect(out).toMatch(/\n {4}table public\.spread, range \d \(pages \d+ to \d+\)\n/);
    expect(out).not.toContain(': valid');
    expect(err).toMatch(/^pgkeep: 2 of 3 backups are not valid \[VERIFICATION_FAILED\]\nhint: .*--repair/);
    const { out: listed } = await runCli(['list', '--repository', copy.path], { env: env() });
    expect(listed).toMatch(/FAILED \d{4}-\d\d-\d\d/);
  });

  it('prints one JSON document, also of a backup that is not valid', async () => {
    await using copy = copyOfWhole();
    remove(filesIn(copy.path, 'segments')[0] ?? '');
    const { exitCode, out } = await cli(copy.path, '--backup-id', ids[1] ?? '', '--json');
    expect(exitCode).toBe(9);
    expect(JSON.parse(out)).toMatchObject({
      valid: false,
      level: 'data',
      backups: [{ backupId: ids[1], valid: false, sizeValid: false, errors: [{ code: 'OBJECT_MISSING' }] }],
    });
  });

  it('repairs, and says what to do next', async () => {
    await using copy = copyOfWhole();
    const [largest = ''] = filesIn(copy.path, 'segments');
    flipBit(largest);
    const { exitCode, out, err } = await cli(copy.path, 'latest', '--repair');
    expect(exitCode).toBe(9);
    expect(out).toContain(`removed 1 damaged segment:\n  ${largest.slice(copy.path.length + 1)}\n`);
    expect(err).toContain('make a backup now');
  });

  it.each([
    [['--sample', '10'], "--sample: '10' is not a share such as 10% or 0.5%"],
    [['--sample', '10%', '--level', 'restore'], '--sample: is for --level data; restore has no part for it'],
    [['--level', 'soul'], "--level: 'soul' is not one of metadata, data, restore"],
    [['--scratch', 'postgres://localhost'], '--scratch: is for --level restore'],
    [['--all', 'latest'], '--all verifies every backup, and latest was named beside it'],
  ])('refuses %j', async (words, message) => {
    const { exitCode, err } = await cli(whole.path, ...words);
    expect({ exitCode, err }).toMatchObject({ exitCode: 2, err: expect.stringContaining(message) });
  });

  it('lists the others when the metadata of one are damaged, and says so', async () => {
    await using copy = copyOfWhole();
    cutShort(join(copy.path, 'metadata', `${ids[0]}.json`));
    const { exitCode, out, err } = await runCli(['list', '--repository', copy.path, '--json'], {
      env: env(),
    });
    expect(exitCode).toBe(0);
    expect(JSON.parse(out).map(({ id }: { id: string }) => id)).toEqual([other, ids[1]]);
    expect(err).toContain(`warning: not listed from ${copy.path}: metadata/${ids[0]}.json is damaged`);
    const shown = await runCli(['show', '--repository', copy.path, '--json'], { env: env() });
    expect(shown.exitCode).toBe(0);
    expect(JSON.parse(shown.out).metadata.id).toBe(other);
    expect(shown.err).toContain(`the newest backup may be ${ids[0]}`);
  });
});
