import { describe, expect, test } from 'vitest';
import { reconcile } from '../../../../src/operations/create/reconcile.ts';
import { type ArchiveEntry, addListed } from '../../../../src/postgres/archive-contents.ts';
import type { Relation } from '../../../../src/postgres/catalog.ts';
import { sampleRelation } from './sample-relation.ts';

const kinds = {
  r: 'TABLE',
  p: 'TABLE',
  v: 'VIEW',
  m: 'MATERIALIZED VIEW',
  f: 'FOREIGN TABLE',
  S: 'SEQUENCE',
};
const selection = { schemas: [], excludeSchemas: [], tables: [], excludeTables: [], excludeTableData: [] };

/** What pg_restore lists of an archive that holds these. */
function archiveOf(defined: readonly Relation[], withData: readonly Relation[] = []) {
  const lines: string[] = [];
  for (const { oid, kind, schema, name } of defined)
    lines.push(`${oid}; 1259 ${oid} ${kinds[kind]} ${schema} ${name} postgres`);
  for (const [i, { oid, kind, schema, name }] of withData.entries())
    lines.push(
      kind === 'S'
        ? `${i + 1}; 0 0 SEQUENCE SET ${schema} ${name} postgres\n;\tdepends on: ${oid}`
        : `${i + 1}; 0 ${oid} TABLE DATA ${schema} ${name} postgres`,
    );
  const entries: ArchiveEntry[] = [];
  for (const line of lines.join('\n').split('\n')) addListed(entries, line);
  return entries;
}

interface Case {
  relations: Relation[];
  defined?: Relation[];
  withData?: Relation[];
  read?: Relation[];
  schemaOnly?: boolean;
  isStandby?: boolean;
}

function run({
  relations,
  defined = relations,
  withData = [],
  read = [],
  schemaOnly = false,
  isStandby = false,
}: Case) {
  return reconcile({
    relations,
    archive: archiveOf(defined, withData),
    selection,
    schemaOnly,
    isStandby,
    read: new Set(read.map(({ oid }) => oid)),
    largeObjects: 0,
    largeObjectsMissing: undefined,
    dependents: [],
  }).leftOut;
}

const table = sampleRelation({ name: 'table' });
const sequence = sampleRelation({ name: 'sequence', kind: 'S' });

test('what is there with its rows needs no word', () => {
  const others = (['p', 'v', 'm'] as const).map(kind => sampleRelation({ kind, name: kind }));
  expect(run({ relations: [table, sequence, ...others], withData: [sequence], read: [table] })).toEqual([]);
  expect(run({ relations: [] })).toEqual([]);
});

test.each<[string, Partial<Relation>, Partial<Case>, RegExp]>([
  ['--exclude-table-data', { isDataSelected: false }, {}, /--exclude-table-data/],
  ['--schema-only', {}, { schemaOnly: true }, /--schema-only/],
  ['being unlogged on a standby', { isUnlogged: true }, { isStandby: true }, /standby/],
  ['being foreign', { kind: 'f' }, {}, /another server/],
  ['an extension', { extension: 'postgis' }, { defined: [] }, /extension postgis/],
  ['the options', { isSelected: false }, { defined: [] }, /options/],
])('what is not there because of %s is listed with that reason', (_, change, options, reason) => {
  const relation = sampleRelation({ schema: 'Sch ema', name: 'left"out', ...change });
  expect(run({ relations: [relation], ...options })).toEqual([
    {
      schema: 'Sch ema',
      name: 'left"out',
      kind: change.kind === 'f' ? 'foreign table' : 'table',
      reason: expect.stringMatching(reason),
    },
  ]);
});

test('the value of a sequence is left out for the same reasons', () => {
  expect(run({ relations: [sequence], schemaOnly: true })).toMatchObject([
    { name: 'sequence', reason: expect.stringContaining('--schema-only') },
  ]);
  expect(run({ relations: [sampleRelation({ kind: 'S', isDataSelected: false })] })).toMatchObject([
    { kind: 'sequence', reason: expect.stringContaining('--exclude-table-data') },
  ]);
});

describe('the backup fails, and names it, when', () => {
  const failure = (options: Case) => {
    try {
      run(options);
    } catch (error) {
      return error;
    }
    return undefined;
  };

  test.each<[string, Case, RegExp]>([
    [
      'a definition is missing',
      { relations: [table], defined: [], read: [table] },
      /definition of table public\.table/,
    ],
    ['rows were not read', { relations: [table] }, /rows of public\.table were not read/],
    [
      'rows are there twice',
      { relations: [table], withData: [table], read: [table] },
      /public\.table are in the archive as well/,
    ],
    ['the value of a sequence is missing', { relations: [sequence] }, /value of sequence public\.sequence/],
    [
      'the value is that of another sequence',
      { relations: [sequence, table], withData: [sampleRelation({ kind: 'S' })], read: [table] },
      /value of sequence public\.sequence/,
    ],
    [
      'something is there that was left out',
      { relations: [sampleRelation({ name: 'extra', isSelected: false })] },
      /public\.extra is in the archive although/,
    ],
    [
      'rows of an unlogged table were not read on a primary',
      { relations: [sampleRelation({ name: 'scratch', isUnlogged: true })] },
      /scratch were not read/,
    ],
    [
      'a view is missing',
      { relations: [sampleRelation({ name: 'view', kind: 'v' })], defined: [] },
      /definition of view public\.view/,
    ],
  ])('%s', (_, options, message) => {
    expect(failure(options)).toMatchObject({
      code: 'BACKUP_INCOMPLETE',
      message: expect.stringMatching(message),
      context: { problems: [expect.stringMatching(message)] },
    });
  });

  test('many are missing: the message names twenty, the context all', () => {
    const relations = Array.from({ length: 50 }, (_, i) => sampleRelation({ name: `t${i}` }));
    const error = failure({ relations, defined: [] });
    expect(error).toMatchObject({
      message: expect.stringMatching(/t0.*t19/),
      context: { problems: { length: 50 } },
    });
    expect(String(error)).not.toContain('t20');
  });
});

test('schemas that are named like kinds of entries do not confuse it', () => {
  const relations = [
    sampleRelation({ schema: 'DATA', name: 't' }),
    sampleRelation({ schema: 'ATTACH', name: 't' }),
    sampleRelation({ schema: 'SET', name: 's', kind: 'S' }),
    sampleRelation({ schema: 'OWNED', name: 's', kind: 'S' }),
    sampleRelation({ schema: 'DATA', name: 'm', kind: 'm' }),
  ];
  const [data, attach, set, owned] = relations;
  if (!data || !attach || !set || !owned) throw new Error('unreachable');
  expect(run({ relations, withData: [set, owned], read: [data, attach] })).toEqual([]);
  expect(() => run({ relations, withData: [set], read: [data, attach] })).toThrow(
    /value of sequence OWNED\.s/,
  );
  expect(() => run({ relations, withData: [set, owned], read: [attach] })).toThrow(
    /rows of DATA\.t were not read/,
  );
});
