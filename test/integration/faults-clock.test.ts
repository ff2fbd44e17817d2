// A machine whose clock is a year ahead or behind: cleanups there delete nothing that a right clock would keep, and backups made
// there are kept by cleanups elsewhere. The files' times are the storage's clock, which is right.

import { existsSync, globSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ensureProgram } from '../support/debian-package.ts';
import { psql, type Server, startServer } from '../support/postgres-server.ts';
import { backupsIn, objectsIn, readBackup, rowsOf } from '../support/repository-contents.ts';
import { backUp, testKey } from '../support/round-trip.ts';
import { runUnderFaults } from '../support/run-under-faults.ts';
import { makeTempFolder } from '../support/temp-folder.ts';

let server: Server;
let library: string;

beforeAll(async () => {
  server = await startServer();
  await ensureProgram('faketime');
  library = globSync('/usr/lib/*/faketime/libfaketime.so.1')[0] ?? '/usr/lib/faketime/libfaketime.so.1';
  expect(existsSync(library)).toBe(true);
  await server.createDatabase('shop');
  await psql(
    server,
    'shop',
    'CREATE TABLE item AS SELECT i, md5(i::text) AS t FROM generate_series(1, 200) AS i',
  );
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

it.each(['+366d', '-366d'])(
  'a clock that is wrong by %s deletes nothing and costs no backup',
  {
    timeout: 300_000,
  },
  async offset => {
    const wrongClock = { LD_PRELOAD: library, FAKETIME: offset, FAKETIME_DONT_FAKE_MONOTONIC: '1' };
    await using folder = makeTempFolder('repository');
    const repository = folder.path;
    const common = { repository, encryptionKey: testKey };
    const create = { ...common, database: server.url('shop'), programs: server.binDir, jobs: 1 };
    await backUp(server, 'shop', repository);
    await psql(server, 'shop', "UPDATE item SET t = 'changed' WHERE i < 10");
    await backUp(server, 'shop', repository);
    // What a killed run left is nobody's, and stays for the grace.
    await psql(server, 'shop', "UPDATE item SET t = 'again' WHERE i < 10");
    const killed = await runUnderFaults('createBackup', create, [
      { call: 'put', name: 'backups/', do: 'die', when: 'after' },
    ]);
    expect(killed.isKilled).toBe(true);
    const before = objectsIn(repository);

    for (let pass = 0; pass < 2; pass++) {
      const { error, result } = await runUnderFaults('cleanupRepository', common, [], wrongClock);
      expect(error).toBeUndefined();
      expect(result).toMatchObject({ problems: [], backups: [{ stays: true }, { stays: true }] });
    }
    const after = objectsIn(repository);
    for (const [name, digest] of before) expect([name, after.get(name)]).toEqual([name, digest]);

    const made = await runUnderFaults('createBackup', create, [], wrongClock);
    expect(made.error).toBeUndefined();
    const { id, startedAt } = made.result as { id: string; startedAt: string };
    expect(Math.abs(Date.parse(startedAt) - Date.now())).toBeGreaterThan(360 * 86_400_000);
    for (const env of [{}, wrongClock]) {
      const { result } = await runUnderFaults('cleanupRepository', { ...common, keepDays: 30 }, [], env);
      expect(result).toMatchObject({ problems: [] });
      expect(backupsIn(repository, testKey)).toHaveLength(3);
    }
    // The next run has a right clock again, and finds nothing wrong.
    expect((await backUp(server, 'shop', repository)).warnings).toEqual([]);
    expect(readBackup(repository, testKey, id).rows).toEqual(await rowsOf(server, 'shop'));
  },
);
