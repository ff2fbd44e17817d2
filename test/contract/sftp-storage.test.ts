// Storage on an SFTP server keeps the contract, and what only SFTP has to show for it: whom it trusts, how it logs in,
// what connections that end leave behind.

import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { parseSftpAddress } from '../../src/storage/sftp/sftp-address.ts';
import { SftpStorage } from '../../src/storage/sftp/sftp-storage.ts';
import { waitFor } from '../support/processes.ts';
import { serverAccount } from '../support/server-account.ts';
import { type SftpServer, startSftpServer } from '../support/sftp-server.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { closing, describeRemoteFaults } from './remote-faults.ts';
import { describeStorage } from './storage.ts';
import { names } from './storage-names.ts';

let server: SftpServer;
let count = 0;

beforeAll(async () => {
  server = await startSftpServer();
  return () => server[Symbol.asyncDispose]();
}, 300_000);

/** A repository of a test's own, which does not exist yet. */
function newName(): string {
  count += 1;
  return `new/repository-${count}`;
}

describeStorage('SFTP', async () => {
  const url = server.url(newName());
  const opened: SftpStorage[] = [];
  const open = () => {
    const storage = new SftpStorage(url, server.login);
    opened.push(storage);
    return storage;
  };
  return {
    storage: open(),
    reopen: async () => open(),
    [Symbol.asyncDispose]: async () => {
      for (const storage of opened) await storage.close();
    },
  };
});

describeRemoteFaults('SFTP', {
  serverPort: () => server.port,
  place() {
    const name = newName();
    const open = (port: number, timeoutMs: number) =>
      new SftpStorage(server.url(name, port), { ...server.login, timeoutMs });
    return Object.assign(open, { fill: (objects: readonly string[]) => fill(name, objects) });
  },
  severalPages: 10_000,
});

test('a put whose connection was cut leaves no unfinished file once there is a connection again', async () => {
  await using proxy = await startTcpProxy(server.port, { resetAfterSentBytes: 5_000_000 });
  const name = newName();
  await using cut = closing(new SftpStorage(server.url(name, proxy.port), server.login));
  await expect(cut.storage.put('a/object', randomBytes(8_000_000))).rejects.toMatchObject({
    code: 'STORAGE_UNREACHABLE',
  });
  expect(readdirSync(join(server.folder, name, 'a'))).toEqual([
    expect.stringMatching(/^\.object\.[0-9a-f]{12}\.tmp$/),
  ]);
  await cut.storage.put('a/other', Buffer.from('x'));
  expect(readdirSync(join(server.folder, name, 'a'))).toEqual(['other']);
});

test('no temporary file is left after a put, a lost race, or a replacement, and none is ever listed', async () => {
  const name = newName();
  await using opened = closing(new SftpStorage(server.url(name), server.login));
  const { storage } = opened;
  const outcomes = await Promise.all(
    Array.from({ length: 16 }, () => storage.put('a/object', Buffer.alloc(10_000), { ifAbsent: true })),
  );
  expect(outcomes.filter(outcome => outcome === 'stored')).toHaveLength(1);
  await storage.put('a/object', Buffer.alloc(1));
  await expect(storage.put('a', Buffer.from('over a folder'))).rejects.toMatchObject({
    code: 'STORAGE_UNREACHABLE',
  });
  expect(readdirSync(join(server.folder, name), { recursive: true }).sort()).toEqual(['a', 'a/object']);
  // As a killed process leaves it.
  writeFileSync(join(server.folder, name, 'a/.other.0123456789ab.tmp'), 'half');
  expect(await names(storage, '')).toEqual(['a/object']);
});

test('files and folders are for their owner alone', async () => {
  const name = newName();
  await using opened = closing(new SftpStorage(server.url(name), server.login));
  await opened.storage.put('a/object', Buffer.from('x'));
  const modes = ['a/object', 'a', ''].map(path => statSync(join(server.folder, name, path)).mode & 0o777);
  expect(modes).toEqual([0o600, 0o700, 0o700]);
});

test('what the account may not do is STORAGE_DENIED, not empty or missing', async () => {
  const name = newName();
  await using opened = closing(new SftpStorage(server.url(name), server.login));
  const { storage } = opened;
  await storage.put('a/object', Buffer.from('x'));
  const folder = join(server.folder, name, 'a');
  const denied = { code: 'STORAGE_DENIED', message: expect.stringContaining(folder) };
  chmodSync(folder, 0o000);
  await expect(storage.get('a/object')).rejects.toMatchObject(denied);
  await expect(storage.stat('a/object')).rejects.toMatchObject(denied);
  await expect(names(storage, '')).rejects.toMatchObject(denied);
  await expect(storage.remove(['a/object'])).rejects.toMatchObject(denied);
  chmodSync(folder, 0o500);
  await expect(storage.put('a/other', Buffer.from('x'))).rejects.toMatchObject(denied);
  expect(String(await storage.get('a/object'))).toBe('x');
  chmodSync(folder, 0o700);
});

test('of two writers of one object both connections see the same winner', async () => {
  const name = newName();
  await using first = closing(new SftpStorage(server.url(name), server.login));
  await using second = closing(new SftpStorage(server.url(name), server.login));
  for (let round = 0; round < 20; round++) {
    const outcomes = await Promise.all(
      [first, second].map(({ storage }, i) =>
        storage.put(`race/${round}`, Buffer.from(`writer ${i}`), { ifAbsent: true }),
      ),
    );
    expect(outcomes.toSorted()).toEqual(['exists', 'stored']);
    expect(String(await first.storage.get(`race/${round}`))).toBe(`writer ${outcomes.indexOf('stored')}`);
  }
});

test('an interrupted put ends at once, with nothing left on the server', async () => {
  // Less than the put sends: it is not done before it is interrupted.
  await using proxy = await startTcpProxy(server.port, { holdAfterSentBytes: 1_000_000 });
  const name = newName();
  const interruption = new AbortController();
  await using opened = closing(
    new SftpStorage(server.url(name, proxy.port), server.login, interruption.signal),
  );
  await opened.storage.put('a/first', Buffer.from('x'));
  const put = opened.storage.put('a/object', randomBytes(8_000_000));
  const outcome = expect(put).rejects.toMatchObject({ code: 'INTERRUPTED' });
  await waitFor('the put to have begun', () => readdirSync(join(server.folder, name, 'a')).length > 1);
  interruption.abort();
  proxy.release();
  await outcome;
  expect(readdirSync(join(server.folder, name, 'a'))).toEqual(['first']);
  await expect(opened.storage.get('a/first')).rejects.toMatchObject({ code: 'INTERRUPTED' });
});

test('a server without the extensions that keep names apart is refused before anything is written', async () => {
  for (const without of ['hardlink', 'posix-rename']) {
    await using poor = await startSftpServer({ without: [without] });
    await using opened = closing(new SftpStorage(poor.url('repository'), poor.login));
    await expect(opened.storage.put('a/object', Buffer.from('x'), { ifAbsent: true })).rejects.toMatchObject({
      code: 'STORAGE_UNFIT',
      message: expect.stringContaining(`${without}@openssh.com`),
    });
    expect(readdirSync(poor.folder)).toEqual([]);
  }
});

test('a full disk of the server is STORAGE_FULL, what was there stays whole, and it goes on when there is space', async () => {
  await using small = await startSftpServer({ diskBytes: 3_000_000 });
  await using opened = closing(new SftpStorage(small.url('repository'), small.login));
  const { storage } = opened;
  // Of a folder that is not there yet.
  expect(await storage.freeBytes?.()).toBeGreaterThan(2_500_000);
  expect(await storage.freeBytes?.()).toBeLessThan(3_100_000);
  const stored: string[] = [];
  let failure: unknown;
  for (let i = 0; failure === undefined && i < 10; i++) {
    await storage.put(`a/${i}`, Buffer.alloc(700_000, i), { ifAbsent: i % 2 === 0 }).then(
      () => stored.push(`a/${i}`),
      (error: unknown) => {
        failure = error;
      },
    );
  }
  expect(failure).toMatchObject({ code: 'STORAGE_FULL', hint: expect.stringContaining('free space') });
  expect(stored.length).toBeGreaterThan(2);
  expect(await names(storage, '')).toEqual(stored);
  for (const [i, name] of stored.entries())
    expect((await storage.get(name)).equals(Buffer.alloc(700_000, i))).toBe(true);
  await storage.remove(stored.slice(0, 1));
  expect(await storage.put('a/again', Buffer.alloc(500_000))).toBe('stored');
});

test('a server that cannot sync or tell its free space serves as well', async () => {
  await using poor = await startSftpServer({ without: ['fsync', 'statvfs', 'limits'] });
  await using opened = closing(new SftpStorage(poor.url('repository'), poor.login));
  await opened.storage.put('a/object', randomBytes(100_000), { ifAbsent: true });
  expect((await opened.storage.get('a/object')).length).toBe(100_000);
  expect(await opened.storage.freeBytes?.()).toBeUndefined();
});

test.each([
  ['sftp://user:secret@host/path', 'password'],
  ['sftp://host', 'no folder'],
  ['sftp://host/', 'no folder'],
  ['sftp:///path', 'no host'],
  ['sftp://host/path?x=1', '?'],
  ['sftp://host/%zz', '%'],
])('refuses the address %s', (address, said) => {
  expect(() => new SftpStorage(address)).toThrow(
    expect.objectContaining({ code: 'OPTION_INVALID', message: expect.stringContaining(said) }),
  );
  expect(() => new SftpStorage(address)).not.toThrow(/secret/);
});

test('a path in the home folder is relative on the server', () => {
  expect(parseSftpAddress('sftp://backup@host:2222/~/a%20b/c/')).toEqual({
    host: 'host',
    port: 2222,
    user: 'backup',
    folder: 'a b/c',
  });
  expect(parseSftpAddress('sftp://[::1]/srv/backups')).toMatchObject({
    host: '::1',
    port: 22,
    folder: '/srv/backups',
  });
});

/** Files of the server's account, as it would have written them. */
function fill(name: string, objects: readonly string[]): void {
  const { uid, gid } = serverAccount().ids;
  for (const object of objects) {
    const file = join(server.folder, name, object);
    const made = mkdirSync(dirname(file), { recursive: true });
    for (
      let folder = dirname(file);
      made !== undefined && folder.length >= made.length;
      folder = dirname(folder)
    )
      if (uid !== undefined && gid !== undefined) chownSync(folder, uid, gid);
    writeFileSync(file, '');
  }
}
