import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { encode } from '../../../src/codec/codec.ts';
import { generateKey } from '../../../src/crypto/key.ts';
import { open, seal } from '../../../src/crypto/seal.ts';
import { descriptorName, keyName, manifestName, metadataName } from '../../../src/repository/layout.ts';
import {
  findBackup,
  inspectRepository,
  Repository,
  readAllMetadata,
} from '../../../src/repository/repository.ts';
import { LocalStorage } from '../../../src/storage/local/local-storage.ts';
import { names } from '../../contract/storage-names.ts';
import { makeTempFolder } from '../../support/temp-folder.ts';
import { sampleManifest, storeSample } from './sample-backup.ts';

const key = generateKey();
const folder = makeTempFolder('repository');
afterAll(() => folder.remove());
let storage: LocalStorage;
let count = 0;
beforeEach(() => {
  storage = new LocalStorage(join(folder.path, String(count++)));
});

/** Changes an object in place, as bad memory or a stranger would. */
function change(name: string, edit: (bytes: Buffer) => Buffer): void {
  const file = join(storage.location, name);
  writeFileSync(file, edit(readFileSync(file)));
}

function changeJson(name: string, edit: (value: Record<string, unknown>) => unknown): void {
  change(name, bytes => Buffer.from(JSON.stringify(edit(JSON.parse(String(bytes))))));
}

describe('making and opening', () => {
  test('what was made is opened with the same key, by anybody', async () => {
    const made = await Repository.create(storage, key);
    const opened = await Repository.open(new LocalStorage(storage.location), ` ${key.toUpperCase()}\n`);
    expect(opened.id).toBe(made.id);
    expect(opened.secret.equals(made.secret)).toBe(true);
    expect(made.secret.length).toBe(32);
    expect(opened.encrypted).toBe(true);
    expect(await inspectRepository(storage)).toEqual({ id: made.id, encrypted: true });
    expect(await names(storage, '')).toEqual([descriptorName]);
  });

  test('the descriptor shows neither the key nor the secret', async () => {
    const made = await Repository.create(storage, key);
    const text = String(await storage.get(descriptorName));
    for (const hidden of [Buffer.from(key, 'hex'), made.secret])
      for (const encoding of ['hex', 'base64'] as const)
        expect(text).not.toContain(hidden.toString(encoding));
  });

  test('two repositories share nothing', async () => {
    const one = await Repository.create(storage, key);
    const two = await Repository.create(new LocalStorage(`${storage.location}-other`), key);
    expect(one.id).not.toBe(two.id);
    expect(one.secret.equals(two.secret)).toBe(false);
  });

  test('of several that make it at once one wins, and all get that one', async () => {
    const all = await Promise.all(
      Array.from({ length: 8 }, () => Repository.create(new LocalStorage(storage.location), key)),
    );
    expect(new Set(all.map(repository => repository.id)).size).toBe(1);
    expect(new Set(all.map(repository => repository.secret.toString('hex'))).size).toBe(1);
  });

  test('who makes one with another key at the same time is told that the key is wrong', async () => {
    const keys = [key, generateKey()];
    const both = await Promise.allSettled(
      keys.map(text => Repository.create(new LocalStorage(storage.location), text)),
    );
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(both.find(({ status }) => status === 'rejected')).toMatchObject({ reason: { code: 'KEY_WRONG' } });
  });

  test('making one does not touch one that is there', async () => {
    await Repository.create(storage, key);
    const before = await storage.get(descriptorName);
    await Repository.create(storage, key);
    await expect(Repository.create(storage, generateKey())).rejects.toMatchObject({ code: 'KEY_WRONG' });
    expect((await storage.get(descriptorName)).equals(before)).toBe(true);
  });

  test('who makes an encrypted one at the same time as a plain one does not get the plain one', async () => {
    await Repository.create(storage, null);
    await expect(Repository.create(storage, key)).rejects.toMatchObject({ code: 'REPOSITORY_MISMATCH' });
  });

  test('who makes a plain one where there is an encrypted one does not get to it', async () => {
    await Repository.create(storage, key);
    await expect(Repository.create(storage, null)).rejects.toMatchObject({
      code: expect.stringMatching(/KEY_MISSING|REPOSITORY_MISMATCH/),
    });
  });

  test.each([
    ['no key', undefined, 'KEY_MISSING'],
    ['a malformed key', key.slice(1), 'KEY_MALFORMED'],
    ['an empty key', '', 'KEY_MALFORMED'],
    ['another key', generateKey(), 'KEY_WRONG'],
  ])('with %s it does not open', async (_, text, code) => {
    await Repository.create(storage, key);
    await expect(Repository.open(storage, text)).rejects.toMatchObject({ code });
  });

  test('a malformed key makes nothing', async () => {
    await expect(Repository.create(storage, 'abc')).rejects.toMatchObject({ code: 'KEY_MALFORMED' });
    expect(await names(storage, '')).toEqual([]);
  });

  test('where there is none that is said, with the place', async () => {
    const missing = { code: 'REPOSITORY_NOT_FOUND', message: expect.stringContaining(storage.location) };
    expect(await inspectRepository(storage)).toBeUndefined();
    await expect(Repository.open(storage, key)).rejects.toMatchObject(missing);
    await expect(readAllMetadata(storage)).rejects.toMatchObject(missing);
    await expect(findBackup(storage, 'latest')).rejects.toMatchObject(missing);
    await expect(findBackup(storage, 'backup-1642684800000-a1b2c3d4')).rejects.toMatchObject(missing);
  });

  test('one without encryption needs no key and writes none', async () => {
    const made = await Repository.create(storage, null);
    const opened = await Repository.open(storage, undefined);
    expect(opened.encrypted).toBe(false);
    expect(opened.secret.equals(made.secret)).toBe(true);
    expect(await opened.newDataKey()).toBeNull();
    const { metadata } = await storeSample(opened);
    expect((await opened.readManifest(metadata)).backup).toBe(metadata.id);
    expect((await names(storage, 'keys/')).length).toBe(0);
  });
});

describe('a descriptor', () => {
  test.each([
    ['empty', () => ''],
    ['cut', (text: string) => text.slice(0, 40)],
    ['no JSON', () => 'pgkeep'],
    ['JSON, but no object', () => '17'],
    ['null', () => 'null'],
    ['an empty object', () => '{}'],
    ['zeros', (text: string) => '\0'.repeat(text.length)],
  ])('that is %s is damaged', async (_, edit) => {
    await Repository.create(storage, key);
    change(descriptorName, bytes => Buffer.from(edit(String(bytes))));
    const damaged = { code: 'OBJECT_DAMAGED', message: expect.stringContaining(descriptorName) };
    await expect(Repository.open(storage, key)).rejects.toMatchObject(damaged);
    await expect(readAllMetadata(storage)).rejects.toMatchObject(damaged);
  });

  test.each([
    ['without id', { id: undefined }],
    ['without secret', { secret: undefined }],
    ['with an empty secret', { secret: {} }],
    ['with recipients that are no list', { secret: { recipients: 'x' } }],
    ['with recipients that are nothing', { secret: { recipients: null } }],
    ['with a plain secret that is too short', { encryption: 'none', secret: { plain: 'abcd' } }],
    ['with a plain secret that is no text', { encryption: 'none', secret: { plain: 5 } }],
    ['with a plain secret that is no hex', { encryption: 'none', secret: { plain: 'z'.repeat(64) } }],
  ])('%s is damaged', async (_, fields) => {
    await Repository.create(storage, key);
    changeJson(descriptorName, value => ({ ...value, ...fields }));
    await expect(Repository.open(storage, key)).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
  });

  test('that says it is encrypted, but holds a plain secret, is damaged', async () => {
    await Repository.create(storage, key);
    changeJson(descriptorName, value => ({ ...value, secret: { plain: 'ab'.repeat(32) } }));
    await expect(Repository.open(storage, key)).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
  });

  test('whose id was changed does not open', async () => {
    await Repository.create(storage, key);
    changeJson(descriptorName, value => ({ ...value, id: 'another' }));
    await expect(Repository.open(storage, key)).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
  });

  test.each([
    ['a newer format', { format: 2 }],
    ['something it requires', { requires: ['something'] }],
  ])('of %s is refused by every reader', async (_, fields) => {
    await Repository.create(storage, key);
    changeJson(descriptorName, value => ({ ...value, ...fields }));
    const refusal = { code: 'REPOSITORY_UNSUPPORTED' };
    await expect(Repository.open(storage, key)).rejects.toMatchObject(refusal);
    await expect(Repository.create(storage, key)).rejects.toMatchObject(refusal);
    await expect(inspectRepository(storage)).rejects.toMatchObject(refusal);
    await expect(readAllMetadata(storage)).rejects.toMatchObject(refusal);
  });

  test('whose recipients are all of an unknown kind asks for a newer version', async () => {
    await Repository.create(storage, key);
    changeJson(descriptorName, value => ({ ...value, secret: { recipients: [{ type: 'scrypt' }] } }));
    await expect(Repository.open(storage, key)).rejects.toMatchObject({ code: 'RECIPIENT_UNSUPPORTED' });
  });

  test('with fields of a later version opens all the same', async () => {
    const made = await Repository.create(storage, key);
    changeJson(descriptorName, value => ({ ...value, color: 'green' }));
    expect((await Repository.open(storage, key)).id).toBe(made.id);
  });
});

describe('data keys', () => {
  test('are another for each run, stored before they are used, and read back by others', async () => {
    const repository = await Repository.create(storage, key);
    const [one, two] = [await repository.newDataKey(), await repository.newDataKey()];
    expect(one?.id).not.toBe(two?.id);
    expect(one?.bytes.equals(two?.bytes ?? Buffer.alloc(0))).toBe(false);
    const opened = await Repository.open(storage, key);
    expect((await opened.dataKey(one?.id ?? '')).bytes.equals(one?.bytes ?? Buffer.alloc(0))).toBe(true);
    const text = String(await storage.get(keyName(one?.id ?? '')));
    expect(text).not.toContain(one?.bytes.toString('hex'));
    expect(text).not.toContain(one?.bytes.toString('base64'));
  });

  test.each([
    ['cut', (bytes: Buffer) => bytes.subarray(0, 30)],
    ['empty', () => Buffer.alloc(0)],
    ['of another id', (bytes: Buffer) => Buffer.from(String(bytes).replace(/"id": "../, '"id": "zz'))],
    ['without recipients', () => Buffer.from('{"format":1,"id":"ID"}')],
    ['with recipients that are nothing', () => Buffer.from('{"format":1,"id":"ID","recipients":[null]}')],
  ])('that are %s are damaged, or of a kind unknown', async (_, edit) => {
    const id = (await (await Repository.create(storage, key)).newDataKey())?.id ?? '';
    change(keyName(id), bytes => Buffer.from(String(edit(bytes)).replace('ID', id)));
    await expect((await Repository.open(storage, key)).dataKey(id)).rejects.toMatchObject({
      code: expect.stringMatching(/OBJECT_DAMAGED|RECIPIENT_UNSUPPORTED/),
    });
  });

  test('one put in the place of another does not open', async () => {
    const repository = await Repository.create(storage, key);
    const [one, two] = [(await repository.newDataKey())?.id ?? '', (await repository.newDataKey())?.id ?? ''];
    const moved = JSON.parse(String(await storage.get(keyName(two))));
    changeJson(keyName(one), value => ({ ...value, recipients: moved.recipients }));
    await expect((await Repository.open(storage, key)).dataKey(one)).rejects.toMatchObject({
      code: 'OBJECT_DAMAGED',
    });
  });

  test('one of another repository with the same user key does not open here', async () => {
    const other = new LocalStorage(`${storage.location}-other`);
    await Repository.create(storage, key);
    const id = (await (await Repository.create(other, key)).newDataKey())?.id ?? '';
    await storage.put(keyName(id), await other.get(keyName(id)));
    await expect((await Repository.open(storage, key)).dataKey(id)).rejects.toMatchObject({
      code: 'OBJECT_DAMAGED',
    });
  });

  test('a key that could not be read is asked for again', async () => {
    const repository = await Repository.create(storage, key);
    const id = (await repository.newDataKey())?.id ?? '';
    const object = await storage.get(keyName(id));
    const opened = await Repository.open(storage, key);
    await storage.remove([keyName(id)]);
    await expect(opened.dataKey(id)).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
    await storage.put(keyName(id), object);
    expect((await opened.dataKey(id)).id).toBe(id);
  });
});

describe('manifests', () => {
  test('come back as they were written, to everybody with the key', async () => {
    const { manifest, metadata } = await storeSample(await Repository.create(storage, key));
    const opened = await Repository.open(storage, key);
    expect(await opened.readManifest(metadata)).toEqual(manifest);
  });

  test('with names of every kind come back too', async () => {
    const odd = 'a "b"\n\t\\ ü 漢 😀';
    const entry = {
      schema: odd,
      name: odd,
      columns: [odd],
      oid: '1',
      parents: [],
      rows: 0,
      bytes: 0,
      rangePages: 0,
      ranges: [],
    };
    const sample = await storeSample(await Repository.create(storage, key), {
      database: odd,
      change: { tables: [entry] },
    });
    expect((await (await Repository.open(storage, key)).readManifest(sample.metadata)).tables).toEqual([
      entry,
    ]);
    expect((await findBackup(storage, 'latest', odd)).id).toBe(sample.metadata.id);
  });

  test('exist once: neither manifest nor metadata is ever overwritten', async () => {
    const repository = await Repository.create(storage, key);
    const { manifest, metadata } = await storeSample(repository);
    const before = await storage.get(manifestName(manifest.backup));
    await expect(repository.writeManifest(manifest, await repository.newDataKey())).rejects.toMatchObject({
      code: 'OBJECT_EXISTS',
    });
    await expect(repository.writeMetadata(metadata)).rejects.toMatchObject({ code: 'OBJECT_EXISTS' });
    expect((await storage.get(manifestName(manifest.backup))).equals(before)).toBe(true);
  });

  test.each([
    [
      'a flipped bit',
      (bytes: Buffer) => Buffer.from(bytes.map((byte, at) => (at === 100 ? byte ^ 1 : byte))),
    ],
    [
      'a flipped bit of its checksum',
      (bytes: Buffer) => Buffer.concat([bytes.subarray(0, -1), Buffer.of((bytes.at(-1) ?? 0) ^ 1)]),
    ],
    ['a missing end', (bytes: Buffer) => bytes.subarray(0, bytes.length - 20)],
    ['nothing left', () => Buffer.alloc(0)],
  ])('with %s are damaged', async (_, edit) => {
    const repository = await Repository.create(storage, key);
    const { metadata } = await storeSample(repository);
    change(manifestName(metadata.id), edit);
    await expect(repository.readManifest(metadata)).rejects.toMatchObject({
      code: 'OBJECT_DAMAGED',
      message: expect.stringContaining(manifestName(metadata.id)),
    });
  });

  test('that are gone are missing', async () => {
    const repository = await Repository.create(storage, key);
    const { metadata } = await storeSample(repository);
    await storage.remove([manifestName(metadata.id)]);
    await expect(repository.readManifest(metadata)).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
  });

  test('of another backup in the same place are damaged', async () => {
    for (const userKey of [key, null]) {
      storage = new LocalStorage(join(folder.path, String(count++)));
      const repository = await Repository.create(storage, userKey);
      const [one, two] = [await storeSample(repository), await storeSample(repository)];
      await storage.put(manifestName(one.metadata.id), await storage.get(manifestName(two.metadata.id)));
      await expect(repository.readManifest(one.metadata)).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
      // Even when the metadata is made to agree.
      const forged = { ...one.metadata, checksum: two.metadata.checksum };
      await expect(repository.readManifest(forged)).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
    }
  });

  test('that are whole, but not those the metadata was written for, are damaged', async () => {
    const repository = await Repository.create(storage, key);
    const { metadata, manifest } = await storeSample(repository);
    await storage.remove([manifestName(metadata.id)]);
    await repository.writeManifest({ ...manifest, tool: 'another' }, await repository.newDataKey());
    await expect(repository.readManifest(metadata)).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
  });

  test('without encryption do not pass in an encrypted repository, nor the reverse', async () => {
    const plainStorage = new LocalStorage(`${storage.location}-plain`);
    const repository = await Repository.create(storage, key);
    const plain = await Repository.create(plainStorage, null);
    const [sealed, open] = [await storeSample(repository), await storeSample(plain)];
    await storage.put(manifestName(open.metadata.id), await plainStorage.get(manifestName(open.metadata.id)));
    await plainStorage.put(
      manifestName(sealed.metadata.id),
      await storage.get(manifestName(sealed.metadata.id)),
    );
    await expect(repository.readManifest(open.metadata)).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
    await expect(plain.readManifest(sealed.metadata)).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
  });

  test.each([
    ['of a newer format', { format: 2 as never }],
    ['that require something unknown', { requires: ['deltas'] }],
  ])('%s are refused', async (_, fields) => {
    const repository = await Repository.create(storage, key);
    const { manifest, metadata } = await storeSample(repository);
    const newer = { ...manifest, ...fields };
    const refusal = { code: 'REPOSITORY_UNSUPPORTED' };
    const another = { ...newer, backup: sampleManifest(repository).backup };
    await expect(repository.writeManifest(another, await repository.newDataKey())).rejects.toMatchObject(
      refusal,
    );
    // As the program that knows it stores it.
    const name = manifestName(manifest.backup);
    const body = encode(Buffer.from(JSON.stringify(newer)), 6);
    const object = seal(name, 'manifest', await repository.newDataKey(), body);
    await storage.put(name, object);
    const checksum = createHash('sha256').update(object).digest('hex');
    await expect(repository.readManifest({ ...metadata, checksum })).rejects.toMatchObject(refusal);
  });

  test('that list keys in a repository that has none are damaged', async () => {
    const plain = await Repository.create(storage, null);
    const manifest = sampleManifest(plain, { change: { keys: ['0'.repeat(32)] } });
    await plain.writeManifest(manifest, null);
    const object = await storage.get(manifestName(manifest.backup));
    await expect(plain.openManifest(manifest.backup, object)).rejects.toMatchObject({
      code: 'OBJECT_DAMAGED',
      message: expect.stringContaining('keys'),
    });
  });

  test('of another repository are a mismatch', async () => {
    const repository = await Repository.create(storage, key);
    const { metadata } = await storeSample(repository, { change: { repository: 'another' } });
    await expect(repository.readManifest(metadata)).rejects.toMatchObject({ code: 'REPOSITORY_MISMATCH' });
  });

  test('large ones are compressed', async () => {
    const repository = await Repository.create(storage, key);
    const tables = Array.from({ length: 5000 }, (_, i) => ({
      schema: 'public',
      name: `table_${i}`,
      columns: ['id', 'name'],
      oid: String(i),
      parents: [],
      rows: 0,
      bytes: 0,
      rangePages: 1024,
      ranges: [],
    }));
    const { manifest, metadata } = await storeSample(repository, { change: { tables } });
    expect(metadata.storedBytes).toBeLessThan(JSON.stringify(manifest).length / 8);
    expect(await repository.readManifest(metadata)).toEqual(manifest);
  });
});

describe('finding backups', () => {
  const day = (n: number) => new Date(Date.UTC(2024, 0, n));

  test('lists the newest first, without a key, and only what has metadata', async () => {
    const repository = await Repository.create(storage, key);
    const made: string[] = [];
    for (const n of [2, 20, 1, 3])
      made.push((await storeSample(repository, { takenAt: day(n) })).metadata.id);
    await repository.writeManifest(sampleManifest(repository), await repository.newDataKey());
    const [second, last, first, third] = made;
    expect((await readAllMetadata(storage)).backups.map(({ id }) => id)).toEqual([
      last,
      third,
      second,
      first,
    ]);
    expect((await findBackup(storage, 'latest')).id).toBe(last);
  });

  test('lists more than it reads at once', async () => {
    const repository = await Repository.create(storage, null);
    for (let n = 1; n <= 40; n++) await storeSample(repository, { takenAt: day(n) });
    const { backups: found } = await readAllMetadata(storage);
    expect(found).toHaveLength(40);
    expect(found.map(({ timestamp }) => timestamp)).toEqual(
      found
        .map(({ timestamp }) => timestamp)
        .toSorted()
        .toReversed(),
    );
  });

  test('latest of one database is not that of another', async () => {
    const repository = await Repository.create(storage, key);
    const shop = await storeSample(repository, { database: 'shop', takenAt: day(1) });
    const blog = await storeSample(repository, { database: 'blog', takenAt: day(2) });
    expect((await findBackup(storage, 'latest', 'shop')).id).toBe(shop.metadata.id);
    expect((await findBackup(storage, 'latest')).id).toBe(blog.metadata.id);
    await expect(findBackup(storage, 'latest', 'none')).rejects.toMatchObject({
      code: 'BACKUP_NOT_FOUND',
      message: expect.stringContaining('none'),
    });
  });

  test('finds by id; an id that is not there, or is none, is not found', async () => {
    const repository = await Repository.create(storage, key);
    const { metadata } = await storeSample(repository);
    expect(await findBackup(storage, metadata.id)).toEqual(metadata);
    for (const id of [
      'backup-1642684800000-a1b2c3d4',
      'Latest',
      '',
      `${metadata.id} `,
      metadata.id.toUpperCase(),
      `../metadata/${metadata.id}`,
      '../../etc/passwd',
    ])
      await expect(findBackup(storage, id)).rejects.toMatchObject({ code: 'BACKUP_NOT_FOUND' });
  });

  test('an empty repository has no latest', async () => {
    await Repository.create(storage, key);
    expect(await readAllMetadata(storage)).toEqual({ backups: [], damaged: [] });
    await expect(findBackup(storage, 'latest')).rejects.toMatchObject({ code: 'BACKUP_NOT_FOUND' });
  });

  test.each([
    ['cut', (bytes: Buffer) => bytes.subarray(0, 50)],
    ['empty', () => Buffer.alloc(0)],
    [
      'of another backup',
      (bytes: Buffer) => Buffer.from(String(bytes).replace(/"id": "backup-\d/, '"id": "backup-9')),
    ],
    ['without checksum', (bytes: Buffer) => Buffer.from(String(bytes).replace('checksum', 'checksun'))],
    [
      'without a time',
      (bytes: Buffer) => Buffer.from(String(bytes).replace(/"timestamp": "[^"]*"/, '"timestamp": "soon"')),
    ],
  ])('metadata that is %s is damaged, and named', async (_, edit) => {
    const repository = await Repository.create(storage, key);
    const { metadata } = await storeSample(repository);
    change(metadataName(metadata.id), edit);
    const damaged = { code: 'OBJECT_DAMAGED', message: expect.stringContaining(metadataName(metadata.id)) };
    await expect(findBackup(storage, metadata.id)).rejects.toMatchObject(damaged);
    expect(await readAllMetadata(storage)).toMatchObject({
      backups: [],
      damaged: [{ id: metadata.id, error: damaged }],
    });
  });

  describe('with one whose metadata are damaged', () => {
    const cut = (bytes: Buffer) => bytes.subarray(0, 50);

    /** Backups of three days, of which one is damaged. */
    async function storeThree(damaged: number): Promise<string[]> {
      const repository = await Repository.create(storage, key);
      const ids: string[] = [];
      for (const n of [1, 2, 3]) ids.push((await storeSample(repository, { takenAt: day(n) })).metadata.id);
      change(metadataName(ids[damaged] ?? ''), cut);
      return ids;
    }

    test('lists the others, and names it', async () => {
      const [first, second, third] = await storeThree(1);
      const { backups, damaged } = await readAllMetadata(storage);
      expect(backups.map(({ id }) => id)).toEqual([third, first]);
      expect(damaged).toMatchObject([{ id: second, error: { code: 'OBJECT_DAMAGED' } }]);
    });

    test('that is older, latest is found without a word', async () => {
      const [, , third] = await storeThree(1);
      const warnings: string[] = [];
      expect((await findBackup(storage, 'latest', undefined, text => warnings.push(text))).id).toBe(third);
      expect((await findBackup(storage, 'latest')).id).toBe(third);
      expect(warnings).toEqual([]);
    });

    test('that is the newest, latest is the one before with a warning that names both, or else an error', async () => {
      const [, second, third = ''] = await storeThree(2);
      const warnings: string[] = [];
      expect((await findBackup(storage, 'latest', 'shop', text => warnings.push(text))).id).toBe(second);
      expect(warnings).toEqual([expect.stringContaining(`${metadataName(third)} is damaged`)]);
      expect(warnings[0]).toContain(`${second} of 2024-01-02`);
      await expect(findBackup(storage, 'latest')).rejects.toMatchObject({
        code: 'OBJECT_DAMAGED',
        hint: expect.stringMatching(/pgkeep verify backup-.*name another backup/),
      });
    });

    test('that is the only one, latest is an error whoever listens', async () => {
      const { metadata } = await storeSample(await Repository.create(storage, key));
      change(metadataName(metadata.id), cut);
      const found = findBackup(storage, 'latest', undefined, () => expect.unreachable('only a warning'));
      await expect(found).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
    });
  });

  test('foreign files beside the metadata are passed over', async () => {
    const repository = await Repository.create(storage, key);
    const { metadata } = await storeSample(repository);
    for (const name of [
      'metadata/README',
      'metadata/sub/x.json',
      `metadata/${metadata.id}`,
      `metadata/${metadata.id}.json.bak`,
    ])
      await storage.put(name, Buffer.from('not ours'));
    expect((await readAllMetadata(storage)).backups.map(({ id }) => id)).toEqual([metadata.id]);
  });
});

test('a manifest is bound to its kind: sealed as a segment it does not open', async () => {
  const dataKey = { id: randomBytes(16).toString('hex'), bytes: randomBytes(32) };
  const name = manifestName('backup-1642684800000-a1b2c3d4');
  const object = seal(name, 'segment', dataKey, [Buffer.from('{}')]);
  expect(() => open(name, 'manifest', dataKey, object)).toThrow(
    expect.objectContaining({ code: 'OBJECT_DAMAGED' }),
  );
});
