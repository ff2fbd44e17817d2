// `pgkeep storage probe` where there is no S3: folders, Azure and SFTP; and storages that break their promises.

import { mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { PgkeepError } from '../../src/base/errors.ts';
import type { OperationEvent } from '../../src/operations/events.ts';
import {
  type ProbeStorageOptions,
  type ProbeStorageResult,
  probeStorage,
} from '../../src/operations/probe-storage.ts';
import { LocalStorage } from '../../src/storage/local/local-storage.ts';
import type { PutOptions } from '../../src/storage/storage.ts';
import { startAzurite } from '../support/azurite.ts';
import { type Fault, interceptStorage, withFaults } from '../support/faulty-storage.ts';
import { startSftpServer } from '../support/sftp-server.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

/** Everything in a folder, folders and unfinished files included. */
function everythingIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort();
}

function write(folder: string, name: string, ageDays: number): void {
  const file = join(folder, name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, name);
  const time = Date.now() / 1000 - ageDays * 86_400;
  utimesSync(file, time, time);
}

function unlessOk({ checks }: ProbeStorageResult) {
  return checks.filter(({ status }) => status === 'failure' || status === 'warning');
}

test('a folder: all is well, of the probe nothing is left, and what others have stays', async () => {
  await using folder = makeTempFolder('probe');
  const kept = [
    'pgkeep.json',
    'metadata/backup-1642684800000-a1b2c3d4.json',
    'probe/1642684800000-0123abcd/young',
    'probe/notes.txt',
    'other/1642684800000-0123abcd/first',
  ];
  for (const name of kept) write(folder.path, name, name.endsWith('young') ? 0.5 : 30);
  const before = everythingIn(folder.path);
  // Left behind by a probe that was killed long ago.
  write(folder.path, 'probe/1642684800000-89abcdef/small/1', 2);
  write(folder.path, 'probe/1642684800000-89abcdef/.large.tmp', 2);
  const report = await probeStorage({ repository: folder.path, thorough: true });
  expect(unlessOk(report)).toEqual([]);
  expect(report).toMatchObject({ ok: true, repository: folder.path, left: [] });
  expect(everythingIn(folder.path)).toEqual(before);
});

test('a folder that does not exist yet is made, as the first backup would', async () => {
  await using folder = makeTempFolder('probe');
  expect((await probeStorage({ repository: join(folder.path, 'a/b') })).ok).toBe(true);
  expect(everythingIn(folder.path)).toEqual(['a', 'a/b']);
});

const day = 86_400_000;

test.each<[string, Fault, string]>([
  ['that lists late', { call: 'list', name: 'probe/', do: 'hide', withinMs: day }, 'list-after-put'],
  ['that gives back other bytes', { call: 'get', do: 'flip', byte: 5 }, 'get'],
  ['that cuts large objects short', { call: 'get', do: 'cut', bytes: 1_000_000 }, 'largest-object'],
])('a storage %s is a failure', async (_, fault, name) => {
  await using folder = makeTempFolder('probe');
  using faults = withFaults(folder.path, [fault]);
  const report = await probeStorage({ repository: folder.path });
  expect(faults.happened.length).toBeGreaterThan(0);
  expect(report.ok).toBe(false);
  expect(report.checks).toContainEqual(expect.objectContaining({ name, status: 'failure' }));
  expect(everythingIn(folder.path)).toEqual([]);
});

/** Has no idea of puts that must be the first. */
class Overwriting extends LocalStorage {
  override put(name: string, bytes: Buffer, _options?: PutOptions): Promise<'stored' | 'exists'> {
    return super.put(name, bytes);
  }
}

test('a storage that replaces what must be new is a failure', async () => {
  await using folder = makeTempFolder('probe');
  await using hidden = makeTempFolder('probe');
  using _ = interceptStorage(folder.path, () => new Overwriting(hidden.path));
  const report = await probeStorage({ repository: folder.path });
  expect(unlessOk(report)).toMatchObject([
    { name: 'conditional-put', status: 'failure' },
    { name: 'conditional-put-at-once', status: 'warning' },
  ]);
});

/** Interrupts a probe as soon as a step has begun and its first request is under way. */
async function interruptAt(
  step: string,
  options: Omit<ProbeStorageOptions, 'signal' | 'onEvent'>,
): Promise<OperationEvent[]> {
  const interruption = new AbortController();
  const events: OperationEvent[] = [];
  const interrupted = probeStorage({
    ...options,
    signal: interruption.signal,
    onEvent(event) {
      events.push(event);
      if (event.type !== 'phase' || event.detail !== step) return;
      setImmediate(() => interruption.abort(new PgkeepError('INTERRUPTED', 'enough')));
    },
  });
  await expect(interrupted).rejects.toMatchObject({ code: 'INTERRUPTED', message: 'enough' });
  expect(events).toContainEqual({ type: 'phase', phase: 'probe', detail: step });
  return events;
}

test.each(['what the credentials may do', 'small objects', 'large objects', 'many objects'])(
  'in a folder, an interruption at "%s" leaves nothing',
  async step => {
    await using folder = makeTempFolder('probe');
    await interruptAt(step, { repository: folder.path, thorough: true });
    expect(everythingIn(folder.path)).toEqual([]);
  },
);

test('SFTP: all is well and nothing is left, also after an interruption; what may not be written is told', async () => {
  await using server = await startSftpServer();
  const storage = { sftp: server.login };
  mkdirSync(server.folder, { recursive: true });
  const before = everythingIn(server.folder);
  const report = await probeStorage({ repository: server.url('shop'), storage });
  expect(unlessOk(report)).toEqual([]);
  expect(report.checks).toContainEqual({
    name: 'transport',
    status: 'ok',
    message: 'requests to 127.0.0.1 are encrypted',
  });
  for (const step of ['small objects', 'large objects'])
    await interruptAt(step, { repository: server.url('shop'), storage });
  expect(everythingIn(server.folder)).toEqual([...before, 'shop']);
  const elsewhere = server.url('shop').replace(server.folder, '/proc');
  const denied = await probeStorage({ repository: elsewhere, storage });
  expect(denied.checks).toContainEqual(expect.objectContaining({ name: 'put', status: 'failure' }));
});

test('Azure: all is well and nothing is left; signatures with fewer permissions are findings', async () => {
  await using azurite = await startAzurite();
  const container = await azurite.createContainer('backups');
  const login = azurite.login();
  const report = await probeStorage({ repository: 'azure://backups/a', storage: { azure: login } });
  expect(unlessOk(report)).toEqual([]);
  await interruptAt('large objects', { repository: 'azure://backups/a', storage: { azure: login } });
  const names = async () => {
    const all = [];
    for await (const { name } of container.listBlobsFlat()) all.push(name);
    return all;
  };
  expect(await names()).toEqual([]);
  const sas = (permissions: string) => ({
    azure: { account: login.account, endpoint: login.endpoint, sas: azurite.sas(permissions) },
  });
  const reader = await probeStorage({ repository: 'azure://backups/a', storage: sas('rl') });
  expect(unlessOk(reader)).toMatchObject([{ name: 'put', status: 'failure' }]);
  const writer = await probeStorage({ repository: 'azure://backups/a', storage: sas('rcwl') });
  expect(unlessOk(writer)).toMatchObject([
    { name: 'remove', status: 'warning' },
    { name: 'cleaned-up', status: 'warning' },
  ]);
  expect(await names()).toEqual(writer.left.map(name => `a/${name}`));
  const expired = azurite.sas('rcwdl', new Date(Date.now() - 60_000));
  const { ok, checks } = await probeStorage({
    repository: 'azure://backups/a',
    storage: { azure: { account: login.account, endpoint: login.endpoint, sas: expired } },
  });
  expect([ok, checks[0]?.name, checks[0]?.status]).toEqual([false, 'reachable', 'failure']);
});
