import { describe, expect, test } from 'vitest';
import {
  type CopyPlan,
  divideItems,
  planCopies,
  tasksOf,
  textSql,
} from '../../../../src/operations/create/copy-plan.ts';
import type { Relation } from '../../../../src/postgres/catalog.ts';
import { sampleRelation } from './sample-relation.ts';

const version = 150000;
const plan = (relations: readonly Relation[], earlier: [string, number][] = [], versionNumber = version) =>
  planCopies(relations, 'UTF8', versionNumber, new Map(earlier), new Set());
const allTasks = (copies: CopyPlan) =>
  Array.from({ length: copies.items }, (_, item) => tasksOf(copies, item)).flat();
const allTexts = (copies: CopyPlan) => allTasks(copies).map(task => textSql(copies, task));

/** The pages a COPY reads: from, inclusive, and to, exclusive. */
function pagesOf(sql: string): [from: number, to: number] {
  const from = /ctid >= '\((\d+),0\)'/.exec(sql)?.[1] ?? '0';
  const to = /ctid < '\((\d+),0\)'/.exec(sql)?.[1];
  return [Number(from), to === undefined ? Number.POSITIVE_INFINITY : Number(to)];
}

describe('ranges of one table', () => {
  const sizes = [
    1, 2, 127, 128, 1023, 1024, 1025, 2047, 2048, 2049, 10_000, 1_000_000, 16_777_215, 16_777_216, 16_777_217,
  ];
  test.each([...sizes, 100_000_000, 4_294_967_294])(
    'cover all of %i pages, each once, and whatever comes after',
    pages => {
      const copies = plan([sampleRelation({ pages })]);
      const ranges = allTexts(copies).map(pagesOf);
      let next = 0;
      for (const [from, to] of ranges) {
        expect(from).toBe(next);
        expect(to).toBeGreaterThan(from);
        next = to;
      }
      expect(next).toBe(Number.POSITIVE_INFINITY);
      expect(ranges.at(-1)?.[0]).toBeLessThan(pages);
      expect(ranges.length).toBeLessThanOrEqual(16_384);
      expect(allTasks(copies).map(({ range }) => range)).toEqual([...ranges.keys()]);
    },
  );

  test('a table without pages is not read', () => {
    expect(plan([sampleRelation({ pages: 0 })]).items).toBe(0);
    expect(plan([]).items).toBe(0);
  });

  test('are a power of two of pages, larger only for very large tables', () => {
    for (const [pages, rangePages] of [
      [1, 1024],
      [16_384 * 1024, 1024],
      [16_384 * 1024 + 1, 2048],
      [4_294_967_294, 262_144],
    ] as const)
      expect(plan([sampleRelation({ pages })]).tables[0]?.rangePages).toBe(rangePages);
  });

  test('stay where an earlier backup had them, however the table grew', () => {
    const relation = sampleRelation({ schema: 'Sch"ema', name: 'ta.ble', pages: 40_000_000 });
    const copies = plan([relation], [['"Sch""ema"."ta.ble"', 512]]);
    expect(copies.tables[0]?.rangePages).toBe(512);
    expect(pagesOf(allTexts(copies)[3] ?? '')).toEqual([1536, 2048]);
    const other = plan([relation], [['"Sch""ema"."table"', 512]]);
    expect(other.tables[0]?.rangePages).toBe(4096);
  });

  test('begin anew where an earlier backup had none', () => {
    expect(plan([sampleRelation({ pages: 5000 })], [['"public"."t"', 0]]).tables[0]?.rangePages).toBe(1024);
  });

  test.each([
    ['a table that is no heap', { isHeap: false }, version],
    ['a server without TID range scans', {}, 130020],
  ])('%s is one range without condition, also when its size is unknown', (_, change, versionNumber) => {
    for (const pages of [0, 1, 100_000]) {
      const copies = plan([sampleRelation({ pages, ...change })], [['"public"."t"', 1024]], versionNumber);
      expect(copies.tables[0]).toMatchObject({ rangePages: 0, ranges: 1 });
      expect(allTexts(copies)).toEqual([`COPY "public"."t" ("id") TO STDOUT WITH (ENCODING 'UTF8')`]);
    }
  });
});

test('names and columns are quoted; a table may have no columns', () => {
  const odd = sampleRelation({ schema: 'a"b', name: "c'd.e", columns: ['select', 'ü "x"'], pages: 1 });
  const bare = sampleRelation({ name: 'bare', columns: [], pages: 1 });
  const texts = allTexts(planCopies([odd, bare], 'SQL_ASCII', version, new Map(), new Set()));
  expect(texts).toEqual([
    `COPY "a""b"."c'd.e" ("select", "ü ""x""") TO STDOUT WITH (ENCODING 'SQL_ASCII')`,
    `COPY (SELECT  FROM ONLY "public"."bare") TO STDOUT WITH (ENCODING 'SQL_ASCII')`,
  ]);
});

/** Tables of sizes that seem random and are the same each time. */
function manyTables(count: number, maxPages: number): Relation[] {
  let state = 1;
  return Array.from({ length: count }, (_, i) => {
    state = (state * 48_271) % 2_147_483_647;
    return sampleRelation({ name: `table_${i}`, pages: state % maxPages });
  });
}

describe('the work of many tables', () => {
  test.each([10, 100, 300, 5000])('of up to %i pages holds every range of every table once', maxPages => {
    const relations = manyTables(1000, maxPages);
    const copies = plan(relations);
    const seen = allTasks(copies).map(({ table, range }) => `${table}/${range}`);
    const expected = relations.flatMap((relation, table) =>
      Array.from({ length: Math.ceil(relation.pages / 1024) }, (_, range) => `${table}/${range}`),
    );
    expect(new Set(seen).size).toBe(seen.length);
    expect(seen.toSorted()).toEqual(expected.toSorted());
  });

  test('beyond its end is empty', () => {
    const copies = plan(manyTables(10, 100));
    expect(tasksOf(copies, copies.items - 1).length).toBeGreaterThan(0);
  });

  test('begins with the largest', () => {
    const copies = plan(manyTables(1000, 5000));
    const sizes = copies.groups.map(({ tables }) =>
      tables.reduce((sum, table) => sum + (copies.tables[table]?.sizeBytes ?? 0), 0),
    );
    expect(sizes).toEqual(sizes.toSorted((a, b) => b - a));
    expect(tasksOf(copies, 0)[0]?.table).toBe(copies.groups[0]?.tables[0]);
  });

  test('puts small tables together, and no group grows much larger than a segment', () => {
    const copies = plan(manyTables(3000, 3));
    expect(copies.items).toBeLessThan(200);
    const large = plan(manyTables(3000, 128));
    for (const { tables } of large.groups) {
      const bytes = tables.reduce((sum, table) => sum + (large.tables[table]?.sizeBytes ?? 0), 0);
      expect(bytes).toBeLessThan(10 * 1024 * 1024);
    }
  });

  test('is the same for the same tables', () => {
    const relations = manyTables(500, 300);
    expect(plan(relations)).toEqual(plan(structuredClone(relations)));
  });
});

describe('groups of small tables stay the same', () => {
  const before = manyTables(3000, 60);
  const groupsOf = (relations: readonly Relation[]) => {
    const copies = plan(relations);
    return new Set(
      copies.groups.map(({ tables }) => tables.map(table => copies.tables[table]?.from).join(' ')),
    );
  };
  const groups = groupsOf(before);

  /** Groups that were there before and are no more. */
  const changed = (relations: readonly Relation[]) =>
    [...groups].filter(group => !groupsOf(relations).has(group));
  const at = (index: number, change: Partial<Relation>) =>
    before.map((relation, i) => (i === index ? { ...relation, ...change } : relation));

  test('there are enough of them for this to mean something', () => {
    expect(groups.size).toBeGreaterThan(60);
  });

  test.each([7, 500, 1501, 2990])('but for its neighbours when table %i grows', index => {
    for (const pages of [before[index]?.pages ?? 0, 1, 100, 129, 5000]) {
      const relations = at(index, { pages, sizeBytes: pages * 8192 });
      expect(changed(relations).length, `${pages}`).toBeLessThan(groups.size / 8);
    }
  });

  test('but for its neighbours when a table is dropped or created', () => {
    expect(changed(before.toSpliced(1200, 1)).length).toBeLessThan(groups.size / 8);
    const created = before.toSpliced(1200, 0, sampleRelation({ name: 'new', pages: 5 }));
    expect(changed(created).length).toBeLessThan(groups.size / 8);
  });

  test('wholly when only large tables change', () => {
    const large = sampleRelation({ name: 'large', pages: 100_000 });
    expect(changed([...before.slice(0, 100), large, ...before.slice(100)])).toEqual([]);
  });
});

describe('items divided among processes', () => {
  const copies = plan([
    ...Array.from({ length: 30 }, (_, n) =>
      sampleRelation({ name: `small_${n}`, pages: 3, sizeBytes: 24_576 }),
    ),
    sampleRelation({ name: 'large', pages: 50_000, sizeBytes: 50_000 * 8192 }),
    sampleRelation({ name: 'toasted', pages: 100, sizeBytes: 90_000_000 }),
    sampleRelation({ name: 'empty', pages: 1, sizeBytes: 0 }),
  ]);

  test.each([1, 2, 3, 7, 100])('are each one of %i’s, who have about as much', shards => {
    const parts = divideItems(copies, shards);
    expect(parts.length).toBe(shards);
    const all = parts.flatMap(items => [...items]).sort((a, b) => a - b);
    expect(all).toEqual(Array.from({ length: copies.items }, (_, item) => item));
    const sizeOf = (item: number) =>
      tasksOf(copies, item).reduce((sum, { table }) => {
        const { sizeBytes = 0, ranges = 1 } = copies.tables[table] ?? {};
        return sum + sizeBytes / ranges;
      }, 0);
    const loads = parts.map(items => items.reduce((sum, item) => sum + sizeOf(item), 0));
    // No more apart than the largest item is large.
    expect(Math.max(...loads) - Math.min(...loads)).toBeLessThanOrEqual(90_000_000);
    for (const items of parts) expect([...items]).toEqual([...items].sort((a, b) => a - b));
  });

  test('are none where there is nothing to read', () => {
    expect(divideItems(plan([]), 2)).toEqual([new Uint32Array(), new Uint32Array()]);
  });
});
