import { homedir } from 'node:os';
import { describe, expect, test } from 'vitest';
import { Secret } from '../../../../src/base/secret.ts';
import {
  holdsPassword,
  InvalidValue,
  parseJson,
  parseText,
} from '../../../../src/cli/options/parse-value.ts';
import { type OptionName, optionTable } from '../../../../src/cli/options/table.ts';

const context = { folder: '/srv/shop', now: Date.UTC(2026, 0, 31, 12) };

describe('text', () => {
  test.each<[OptionName, string, unknown]>([
    ['jobs', '4', 4],
    ['jobs', ' 4 ', 4],
    ['lockTimeoutMs', '1m30s', 90_000],
    ['rolePasswords', 'yes', true],
    ['rolePasswords', 'OFF', false],
    ['repository', 'backups', '/srv/shop/backups'],
    ['repository', '/var/backups', '/var/backups'],
    ['repository', 's3://bucket/prefix', 's3://bucket/prefix'],
    ['keyFile', '~/shop.key', `${homedir()}/shop.key`],
    ['tables', 'public.a,b', ['public.a,b']],
    ['tablePatterns', 'public.a, "odd,name".b', ['public.a', '"odd,name".b']],
    ['since', '24h', new Date('2026-01-30T12:00:00Z')],
    ['since', '2026-01-02', new Date('2026-01-02T00:00:00Z')],
    ['since', '2026-01-02T18:30', new Date('2026-01-02T18:30:00Z')],
    ['since', '2026-01-02 18:30:05+02:00', new Date('2026-01-02T16:30:05Z')],
    ['database', 'postgresql:///shop?host=/run/postgresql', 'postgresql:///shop?host=/run/postgresql'],
  ])('of %s: %j', (name, text, expected) => {
    expect(parseText(optionTable[name], text, context)).toEqual(expected);
  });

  test.each<[OptionName, string]>([
    ['jobs', '0'],
    ['jobs', '65'],
    ['jobs', '2.5'],
    ['jobs', ''],
    ['jobs', '0x2'],
    ['lockTimeoutMs', '30'],
    ['rolePasswords', 'maybe'],
    ['repository', ''],
    ['tags', ''],
    ['tablePatterns', ' , '],
    ['since', 'yesterday'],
    ['since', '2026-02-30'],
    ['since', '2026-13-01'],
    ['database', 'host=localhost dbname=shop'],
    ['database', 'mysql://localhost/shop'],
  ])('refuses for %s: %j', (name, text) => {
    expect(parseText(optionTable[name], text, context)).toBeInstanceOf(InvalidValue);
  });

  test('never repeats what may be a password', () => {
    const refused = parseText(optionTable.database, 'host=localhost password=hunter2', context);
    expect(refused).toBeInstanceOf(InvalidValue);
    expect(JSON.stringify(refused)).not.toContain('hunter2');
    expect(String(parseText(optionTable.encryptionKey, 'ab'.repeat(32), context))).toBe('[secret]');
  });

  test('wraps a secret, without the white space around it', () => {
    const key = parseText(optionTable.encryptionKey, ' abc\n', context);
    expect(key instanceof Secret && key.reveal()).toBe('abc');
  });
});

describe('JSON', () => {
  test.each<[OptionName, unknown, unknown]>([
    ['jobs', 4, 4],
    ['encryption', false, false],
    ['tags', ['a', 'b'], ['a', 'b']],
    ['lockTimeoutMs', '5s', 5000],
    ['repository', 'backups', '/srv/shop/backups'],
  ])('of %s: %j', (name, value, expected) => {
    expect(parseJson(optionTable[name], value, context)).toEqual(expected);
  });

  test.each<[OptionName, unknown]>([
    ['jobs', '4'],
    ['jobs', 4.5],
    ['jobs', null],
    ['encryption', 'false'],
    ['tags', 'nightly'],
    ['tags', ['']],
    ['tags', [1]],
    ['lockTimeoutMs', 5000],
    ['repository', {}],
  ])('refuses for %s: %j', (name, value) => {
    expect(parseJson(optionTable[name], value, context)).toBeInstanceOf(InvalidValue);
  });
});

test.each([
  ['postgres://shop:secret@localhost/shop', true],
  ['postgres://shop:se@cret@localhost/shop', true],
  ['postgres://localhost/shop?user=a&password=secret', true],
  ['postgres://shop@localhost:5432/shop', false],
  ['postgres://localhost:5432/shop?application_name=a@b', false],
  ['postgres://shop:@localhost/shop', false],
])('%s holds a password: %s', (url, expected) => {
  expect(holdsPassword(url)).toBe(expected);
});
