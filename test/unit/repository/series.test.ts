import { createHmac } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Manifest } from '../../../src/repository/manifest.ts';
import {
  chooseLatest,
  partOf,
  partText,
  type SeriesMember,
  seriesOf,
  standsFor,
} from '../../../src/repository/series.ts';

const secret = Buffer.alloc(32, 7);
const none: Manifest['options'] = {
  schemas: [],
  excludeSchemas: [],
  tables: [],
  excludeTables: [],
  excludeTableData: [],
  schemaOnly: false,
};
const part = (options: Partial<Manifest['options']>, isPrivate = false) =>
  partOf({ ...none, ...options }, { secret, isPrivate });

describe('a part', () => {
  test('is made by any option that leaves something out, and by nothing else', () => {
    expect(part({})).toBeUndefined();
    const choices: Partial<Manifest['options']>[] = [
      { schemas: ['a'] },
      { excludeSchemas: ['a'] },
      { tables: ['a'] },
      { excludeTables: ['a'] },
      { excludeTableData: ['a'] },
      { excludeTableData: ['a', 'b'] },
      { excludeTableData: ['a,b'] },
      { schemaOnly: true },
      { schemaOnly: true, schemas: ['a'] },
    ];
    const parts = choices.map(choice => part(choice));
    expect(parts.map(one => one?.options)).toEqual(choices);
    expect(new Set(parts.map(one => one?.id)).size).toBe(choices.length);
  });

  test('is known again whatever the order of its patterns, and by nobody without the secret', () => {
    const one = part({ tables: ['b', 'a'], schemaOnly: true });
    expect(one?.id).toMatch(/^[0-9a-f]{16}$/);
    expect(part({ tables: ['a', 'b', 'a'], schemaOnly: true })?.id).toBe(one?.id);
    const elsewhere = partOf(
      { ...none, tables: ['a', 'b'], schemaOnly: true },
      { secret: Buffer.alloc(32), isPrivate: false },
    );
    expect(elsewhere?.id).not.toBe(one?.id);
  });

  test('has the id that the document says', () => {
    const text = 'pgkeep/1/part [["a","b"],[],["\u00e9\\"x"],[],[],true]';
    const id = createHmac('sha256', secret).update(text, 'utf8').digest('hex').slice(0, 16);
    expect(part({ schemas: ['b', 'a'], tables: ['\u00e9"x'], schemaOnly: true })?.id).toBe(id);
  });

  test('is told in the words of the command line, or by its id where names are private', () => {
    const options = { schemas: ['sales'], excludeTableData: ['logs.*', 'tmp'], schemaOnly: true };
    const told = part(options);
    const secretly = part(options, true);
    expect(told && partText(told)).toBe(
      '--schema sales --exclude-table-data logs.* --exclude-table-data tmp --schema-only',
    );
    expect(secretly).toEqual({ id: told?.id });
    expect(secretly && partText(secretly)).toBe(told?.id);
  });
});

const whole: SeriesMember = { database: 'shop', server: '1' };
const orders: SeriesMember = { ...whole, part: { id: 'orders' } };
const logs: SeriesMember = { ...whole, part: { id: 'logs', options: { tables: ['logs'] } } };

test('a backup stands for those of its series, and a whole one for the parts of its server', () => {
  expect(seriesOf(logs)).toBe(seriesOf({ ...whole, part: { id: 'logs' } }));
  expect(seriesOf({ database: 'shop' })).toBe(seriesOf({ database: 'shop', server: null }));
  expect(standsFor(whole, whole)).toBe(true);
  expect(standsFor(orders, orders)).toBe(true);
  expect(standsFor(whole, orders)).toBe(true);
  expect(standsFor(orders, whole)).toBe(false);
  expect(standsFor(orders, logs)).toBe(false);
  expect(standsFor({ ...whole, server: '2' }, whole)).toBe(false);
  expect(standsFor({ ...whole, server: '2' }, orders)).toBe(false);
  expect(standsFor({ ...whole, database: 'crm' }, whole)).toBe(false);
});

describe('latest', () => {
  /** Which is taken, and which others are named, of complete backups given newest first. */
  const choose = (members: SeriesMember[], database?: string) => {
    const backups = members.map((member, index) => ({ complete: true, ...member, index }));
    const found = chooseLatest(backups, database);
    return found && [found.latest.index, ...found.others.map(other => other.index)];
  };

  test('is the newest complete one', () => {
    const incomplete = { ...whole, complete: false };
    expect(choose([incomplete, whole, whole])).toEqual([1]);
    expect(choose([incomplete])).toBeUndefined();
    expect(choose([])).toBeUndefined();
  });

  test('is the newest whole one, and the newest part that is newer is named', () => {
    expect(choose([orders, orders, logs, whole, whole, logs])).toEqual([3, 0, 2]);
    expect(choose([whole, orders, logs])).toEqual([0]);
  });

  test('is the newest part where there are only parts, and other parts are named', () => {
    expect(choose([logs, logs])).toEqual([0]);
    expect(choose([orders, logs, orders, logs])).toEqual([0, 1]);
  });

  test('is of the newest of several servers, and the others are named', () => {
    expect(choose([whole, { ...whole, server: '2' }, whole])).toEqual([0, 1]);
    expect(choose([{ ...whole, server: null }, { database: 'shop' }])).toEqual([0]);
  });

  test('is of the database that is named, or of the one last backed up', () => {
    const crm = { database: 'crm', server: '1' };
    expect(choose([crm, whole, crm], 'shop')).toEqual([1]);
    expect(choose([orders, crm, whole])).toEqual([2, 0]);
    expect(choose([crm], 'shop')).toBeUndefined();
  });
});
