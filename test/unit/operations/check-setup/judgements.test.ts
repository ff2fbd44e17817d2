// What doctor makes of the facts it finds, where no server or storage is needed to tell.

import { expect, test } from 'vitest';
import { checkTls } from '../../../../src/operations/check-setup/database.ts';
import { connectionsLeft, lockShare } from '../../../../src/operations/check-setup/server-settings.ts';
import { checkNode } from '../../../../src/operations/check-setup/surroundings.ts';
import { Checklist, checkClock, clockSkewMs, within } from '../../../../src/operations/checklist.ts';

function only(check: (list: Checklist) => void) {
  const list = new Checklist();
  check(list);
  expect(list.checks).toHaveLength(1);
  return list.checks[0];
}

test.each([
  ['v22.18.0', 'ok'],
  ['v22.17.9', 'failure'],
  ['v22.100.0', 'ok'],
  ['v20.20.2', 'failure'],
  ['v24.0.0', 'ok'],
])('Node %s is %s', (version, status) => {
  expect(only(list => checkNode(list, version))).toMatchObject({ status });
});

test.each([
  ['db.example.com', 'verify-full', 'TLSv1.3', 'ok'],
  ['db.example.com', 'verify-ca', 'TLSv1.2', 'ok'],
  ['db.example.com', 'require', 'TLSv1.3', 'ok'],
  ['db.example.com', 'prefer', 'TLSv1.3', 'warning'],
  ['db.example.com', 'prefer', undefined, 'warning'],
  ['10.0.0.1', 'disable', undefined, 'warning'],
  ['localhost', 'prefer', undefined, 'ok'],
  ['127.0.0.1', 'disable', undefined, 'ok'],
  ['/var/run/postgresql', 'prefer', undefined, 'ok'],
] as const)('to %s by sslmode=%s with %s is %s', (host, sslMode, version, status) => {
  expect(only(list => checkTls(list, { host, sslMode }, version))).toMatchObject({ status });
});

test('connections are limited by the server, the role or the database, whichever leaves least', () => {
  const facts = {
    max: 100,
    reserved: 3,
    used: 90,
    roleLimit: -1,
    roleUsed: 40,
    databaseLimit: -1,
    databaseUsed: 50,
    isSuperuser: false,
  };
  expect(connectionsLeft(facts)).toEqual({ left: 7, limit: 'max_connections = 100' });
  expect(connectionsLeft({ ...facts, isSuperuser: true, roleLimit: 1 }).left).toBe(10);
  expect(connectionsLeft({ ...facts, roleLimit: 42 })).toEqual({
    left: 2,
    limit: "the role's CONNECTION LIMIT 42",
  });
  expect(connectionsLeft({ ...facts, databaseLimit: 50 }).left).toBe(0);
});

test('the share of the lock table grows with tables, with their indexes as far as these are read at a time, and with the workers that read', () => {
  const share = (tables: number, indexes: number, capacity: number, jobs = 2, readings = tables) =>
    lockShare({ tables, indexes, readings, jobs, capacity });
  expect(share(0, 0, 6400)).toBe(0);
  expect(share(4000, 0, 5000)).toBeCloseTo((2 * 4000 + 2 * 564) / 2 / 5000);
  // Each table is read once, however many there are to read it.
  expect(share(100, 100, 6400, 16)).toBe(share(100, 100, 6400, 1));
  // Unless it is large: then each worker holds a lock on it, and on its indexes.
  expect(share(100, 300, 6400, 16, 1600)).toBeCloseTo((2 * 100 + 1600 + 4800) / 2 / 6400);
  // A worker ends its transaction after some hundreds of tables.
  expect(share(10_000, 50_000, 12_000, 2)).toBeCloseTo((10_000 + 2 * 564 * 5) / 12_000);
  expect(share(10_000, 50_000, 12_000, 8)).toBeCloseTo((10_000 + 8 * 564 * 5) / 12_000);
  expect(share(10_000, 50_000, 12_000, 64)).toBe(60_000 / 12_000);
});

test('a clock is off by what the round trip does not explain', () => {
  expect(clockSkewMs(1500, 1000, 2000)).toBe(0);
  expect(clockSkewMs(500, 1000, 2000)).toBe(-500);
  expect(clockSkewMs(5000, 1000, 2000)).toBe(3000);
  expect(only(list => checkClock(list, 'c', 'it', 59_000))).toMatchObject({ status: 'ok' });
  expect(only(list => checkClock(list, 'c', 'it', 3_600_000))).toMatchObject({
    status: 'warning',
    message: "the clock of it is 3600 s ahead of this machine's",
  });
  expect(only(list => checkClock(list, 'c', 'it', -61_000))?.message).toContain('61 s behind');
});

test('what takes too long is given up, and its later failure disturbs nobody', async () => {
  const late = Promise.withResolvers<never>();
  await expect(within(10, 'reading', late.promise)).rejects.toMatchObject({ code: 'STORAGE_UNREACHABLE' });
  late.reject(new Error('much later'));
  await expect(within(1000, 'reading', Promise.resolve(7))).resolves.toBe(7);
});
