import { expect, test } from 'vitest';
import { Checklist } from '../../../../src/operations/checklist.ts';
import { reportFacts } from '../../../../src/operations/probe-storage/facts.ts';
import { Scratch, staleFolders } from '../../../../src/operations/probe-storage/scratch.ts';
import { MemoryStorage } from '../../../support/memory-storage.ts';

test.each([
  ['s3.example.org', true, 'ok'],
  ['s3.example.org', false, 'warning'],
  ['10.0.0.7', false, 'warning'],
  ['127.0.0.1.example.org', false, 'warning'],
  ['127.0.0.1', false, 'ok'],
  ['localhost', false, 'ok'],
  ['[::1]', false, 'ok'],
])('requests to %s, encrypted: %s, are %s', (host, isEncrypted, status) => {
  const list = new Checklist();
  reportFacts(list, { transport: { host, isEncrypted } }, true);
  expect(list.checks[0]).toMatchObject({ name: 'transport', status });
});

test('what locks every object by itself is told beside the locks', () => {
  const list = new Checklist();
  reportFacts(list, { objectLock: { isOn: true, byDefault: 'compliance mode for 1 day' } }, true);
  reportFacts(list, { objectLock: { isOn: true } }, true);
  const texts = list.checks.filter(({ name }) => name === 'object-lock').map(({ message }) => message);
  expect(texts).toEqual([
    'objects can be locked (--lock-days); without it every object is locked in compliance mode for 1 day',
    'objects can be locked (--lock-days)',
  ]);
});

test('only whole folders of probes that are a day old by the storage count as left behind', () => {
  const now = new Date('2026-01-10T12:00:00Z');
  const at = (name: string, ageHours: number) => ({
    name,
    sizeBytes: 1,
    modified: new Date(now.getTime() - ageHours * 3_600_000),
  });
  const own = new Scratch(new MemoryStorage(), false).name('first');
  const found = [
    at(own, 0),
    at('probe/1600000000000-0123abcd/old', 25),
    at('probe/1600000000000-89abcdef/old', 25),
    at('probe/1600000000000-89abcdef/in-use', 23),
    at('probe/notes', 999),
    at('probe/1600000000000-0123abcd.txt', 999),
  ];
  expect(staleFolders(found, now)).toEqual(['probe/1600000000000-0123abcd/']);
});
