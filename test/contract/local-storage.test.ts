// Storage in a folder keeps the contract, and what only a folder has to show for it: modes, and no leavings.

import {
  mkdirSync,
  type PathLike,
  promises,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, test } from 'vitest';
import { LocalStorage } from '../../src/storage/local/local-storage.ts';
import { openStorage } from '../../src/storage/open-storage.ts';
import { makeTempFolder } from '../support/temp-folder.ts';
import { type Report, runUnder } from './local-storage-process.ts';
import { describeStorage } from './storage.ts';
import { names } from './storage-names.ts';

describeStorage('local folder', async () => {
  const folder = makeTempFolder('storage');
  // Not there yet: the first put makes it.
  const path = join(folder.path, 'new/repository');
  return {
    storage: new LocalStorage(path),
    reopen: async () => new LocalStorage(path),
    [Symbol.asyncDispose]: () => folder.remove(),
  };
});

test('files are for their owner alone, whatever the umask', async () => {
  await using folder = makeTempFolder('storage');
  const previous = process.umask(0);
  try {
    const storage = new LocalStorage(join(folder.path, 'new/repository'));
    await storage.put('segments/aa/1', Buffer.from('x'));
    await storage.put('keys/1.json', Buffer.from('x'), { ifAbsent: true });
    await storage.put('keys/1.json', Buffer.from('y'));
  } finally {
    process.umask(previous);
  }
  const found = walk(join(folder.path, 'new'));
  expect(found.filter(({ isFile }) => isFile).map(({ mode }) => mode)).toEqual([0o600, 0o600]);
  expect(new Set(found.filter(({ isFile }) => !isFile).map(({ mode }) => mode))).toEqual(new Set([0o700]));
});

test('no temporary file is left after a put, a lost race, or a replacement', async () => {
  await using folder = makeTempFolder('storage');
  const storage = new LocalStorage(folder.path);
  await Promise.all(
    Array.from({ length: 16 }, () => storage.put('a/object', Buffer.alloc(10_000), { ifAbsent: true })),
  );
  await storage.put('a/object', Buffer.alloc(1));
  expect(readdirSync(join(folder.path, 'a'))).toEqual(['object']);
});

test('what a killed process left unfinished is not listed', async () => {
  await using folder = makeTempFolder('storage');
  const storage = new LocalStorage(folder.path);
  await storage.put('a/object', Buffer.from('x'));
  writeFileSync(join(folder.path, 'a/.other.0123456789ab.tmp'), 'half');
  expect(await names(storage, '')).toEqual(['a/object']);
});

test('lists 10,000 objects, each once', async () => {
  await using folder = makeTempFolder('storage');
  const all = Array.from({ length: 10_000 }, (_, i) => `segments/${i % 256}/${i}`);
  for (const name of all) {
    mkdirSync(join(folder.path, dirname(name)), { recursive: true });
    writeFileSync(join(folder.path, name), 'x');
  }
  const storage = new LocalStorage(folder.path);
  expect(await names(storage, '')).toEqual(all.sort());
  expect(await names(storage, 'segments/7/')).toHaveLength(40);
});

/** Has a call of the file system fail, as on a share that lacks it. */
function without(call: 'link' | 'rename', code: string): Disposable {
  const real = promises[call];
  promises[call] = async (from: PathLike) => {
    throw Object.assign(new Error(`${code}: planned, ${call} '${from}'`), { code });
  };
  syncBuiltinESMExports();
  return {
    [Symbol.dispose]() {
      promises[call] = real;
      syncBuiltinESMExports();
    },
  };
}

test.each([
  ['link', 'EPERM', true, 'no hard links'],
  ['link', 'EOPNOTSUPP', true, 'no hard links'],
  ['rename', 'EEXIST', false, 'does not replace'],
] as const)(
  'a share that fails %s with %s is STORAGE_UNFIT, and nothing is left there',
  async (call, code, ifAbsent, said) => {
    await using folder = makeTempFolder('storage');
    const storage = new LocalStorage(folder.path);
    using _ = without(call, code);
    await expect(storage.put('a/object', Buffer.from('x'), { ifAbsent })).rejects.toMatchObject({
      code: 'STORAGE_UNFIT',
      message: expect.stringMatching(new RegExp(`^the file system of ${folder.path}/a .*${said}`)),
      hint: expect.stringContaining('another file system'),
    });
    expect(readdirSync(join(folder.path, 'a'))).toEqual([]);
  },
);

test('a put that cannot be finished leaves nothing behind', async () => {
  await using folder = makeTempFolder('storage');
  const storage = new LocalStorage(folder.path);
  await storage.put('a/b/object', Buffer.from('x'));
  await expect(storage.put('a/b', Buffer.from('over a folder'))).rejects.toMatchObject({
    code: 'STORAGE_UNREACHABLE',
  });
  expect(readdirSync(join(folder.path, 'a'))).toEqual(['b']);
});

test('a repository on a path that is a file is unreachable, and the file stays', async () => {
  await using folder = makeTempFolder('storage');
  const path = join(folder.path, 'file');
  writeFileSync(path, 'mine');
  await expect(new LocalStorage(path).put('object', Buffer.from('x'))).rejects.toMatchObject({
    code: 'STORAGE_UNREACHABLE',
    message: expect.stringContaining(path),
  });
  expect(readFileSync(path, 'utf8')).toBe('mine');
});

test('the folder may be given by a link, by a file:// URL and relative to the working folder', async () => {
  await using folder = makeTempFolder('storage');
  const path = join(folder.path, 'with space');
  await new LocalStorage(path).put('object', Buffer.from('x'));
  symlinkSync(path, join(folder.path, 'link'));
  for (const address of [join(folder.path, 'link'), pathToFileURL(path).href, path]) {
    const storage = await openStorage(address);
    expect(await names(storage, '')).toEqual(['object']);
  }
  expect((await openStorage('./backups')).location).toBe(join(process.cwd(), 'backups'));
  expect((await openStorage('backups')).location).toBe(join(process.cwd(), 'backups'));
});

test.each(['tape://drive/prefix', 'TAPE://drive', 'https://host/x'])(
  'no backend serves %s',
  async address => {
    await expect(openStorage(address)).rejects.toMatchObject({ code: 'OPTION_INVALID' });
  },
);

test('a full disk is STORAGE_FULL, nothing of the object is visible, and what was there stays whole', async () => {
  await using folder = makeTempFolder('full-disk');
  const report: Report = await runUnder('full-disk', folder.path);
  expect(report.stored.length).toBeGreaterThan(3);
  expect(report.failure).toMatchObject({ code: 'STORAGE_FULL' });
  expect(report.failure?.message).toContain(folder.path);
  expect(report.listed).toEqual(report.stored);
  expect(report.isWhole).toBe(true);
  expect(report.leavings).toEqual([]);
  // Space came back: the same storage goes on.
  expect(report.afterwards).toBe('stored');
});

test('a folder that may not be written is STORAGE_DENIED, and reading it goes on', async () => {
  await using folder = makeTempFolder('denied');
  const report: Report = await runUnder('read-only', folder.path);
  expect(report.stored).toEqual(['a/object']);
  expect(report.failure).toMatchObject({ code: 'STORAGE_DENIED' });
  expect(report.listed).toEqual(report.stored);
  expect(report.isWhole).toBe(true);
  expect(report.leavings).toEqual([]);
});

test('a folder that may not be read is STORAGE_DENIED, not empty', async () => {
  await using folder = makeTempFolder('denied');
  const report: Report = await runUnder('closed', folder.path);
  expect(report.failure).toMatchObject({ code: 'STORAGE_DENIED' });
  expect(report.listing).toMatchObject({ code: 'STORAGE_DENIED' });
  expect(report.stat).toMatchObject({ code: 'STORAGE_DENIED' });
});

function walk(folder: string): { mode: number; isFile: boolean }[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true }).map(entry => ({
    mode: statSync(join(entry.parentPath, entry.name)).mode & 0o777,
    isFile: entry.isFile(),
  }));
}
