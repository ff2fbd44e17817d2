import { expect, test } from 'vitest';
import { type PlannedLoad, planLoads } from '../../../../src/operations/restore/load-plan.ts';
import type { LoadedRanges } from '../../../../src/operations/restore/unfinished-restore.ts';
import type { RangeEntry, TableEntry } from '../../../../src/repository/manifest.ts';

const mebibyte = 1024 * 1024;

function table(oid: string, name: string, ranges: RangeEntry[]): TableEntry {
  return {
    oid,
    schema: 'public',
    name,
    parents: [],
    columns: ['id'],
    rows: ranges.reduce((sum, range) => sum + range.rows, 0),
    bytes: ranges.reduce((sum, range) => sum + range.bytes, 0),
    rangePages: 1024,
    ranges,
  };
}

/** A range that is a segment of its own. */
function range(id: string, rows: number, bytes = 4 * mebibyte): RangeEntry {
  const slice = { id, key: 0, plainBytes: bytes, storedBytes: bytes, offset: 0, bytes };
  return { rows, bytes, slices: rows === 0 ? [] : [slice] };
}

const ranges = Array.from({ length: 20 }, (_, index) => range(`s${index}`, 10 + index));
const large = table('16400', 'large', ranges);

function plan(loaded: LoadedRanges[]) {
  return planLoads([large], [ranges], 'UTF8', loaded).flat();
}

function idsOf({ text }: PlannedLoad): string[] {
  return [...text().ranges].flatMap(({ slices }) => slices.map(({ id }) => id));
}

test('a COPY is of eight neighbours of four mebibytes, and says which', () => {
  const tasks = plan([]);
  expect(tasks.map(task => task.ranges)).toEqual([
    { tableOid: '16400', first: 0, last: 7 },
    { tableOid: '16400', first: 8, last: 15 },
    { tableOid: '16400', first: 16, last: 19 },
  ]);
  expect(tasks.reduce((sum, task) => sum + task.rows, 0)).toBe(large.rows);
});

test('what is loaded is passed over, and what is left is planned once, whatever was planned before', () => {
  const loaded = [
    { tableOid: '16400', first: 3, last: 5 },
    { tableOid: '16400', first: 19, last: 19 },
    { tableOid: '16999', first: 0, last: 19 },
  ];
  const tasks = plan(loaded);
  expect(tasks.map(({ ranges: { first, last } }) => [first, last])).toEqual([
    [0, 2],
    [6, 13],
    [14, 18],
  ]);
  const ids = tasks.flatMap(idsOf);
  const left = ranges.flatMap((_, index) =>
    (index >= 3 && index <= 5) || index === 19 ? [] : [`s${index}`],
  );
  expect(ids).toEqual(left);
});

test('going on after each COPY in turn loads every range once', () => {
  const seen: string[] = [];
  const loaded: LoadedRanges[] = [];
  for (let tasks = plan(loaded); tasks.length > 0; tasks = plan(loaded)) {
    const [task] = tasks.slice(-1);
    if (task === undefined) break;
    seen.push(...idsOf(task));
    loaded.push(task.ranges);
  }
  expect(seen.toSorted()).toEqual(ranges.map((_, index) => `s${index}`).toSorted());
});

test('ranges without rows need no COPY, and belong to the one around them', () => {
  const sparse = [range('a', 0), range('b', 5), range('c', 0), range('d', 7), range('e', 0)];
  const tasks = planLoads([table('1', 't', sparse)], [sparse], 'UTF8').flat();
  expect(tasks.map(task => [task.ranges, task.rows, idsOf(task).length])).toEqual([
    [{ tableOid: '1', first: 0, last: 4 }, 12, 2],
  ]);
  const none = [range('a', 0), range('b', 0)];
  expect(planLoads([table('2', 'u', none)], [none], 'UTF8')).toEqual([]);
});

test('small tables that share a segment are loaded together, but for those that are there', () => {
  const share = (offset: number): RangeEntry => ({
    rows: 1,
    bytes: 10,
    slices: [{ id: 'shared', key: 0, plainBytes: 30, storedBytes: 30, offset, bytes: 10 }],
  });
  const tables = [0, 1, 2].map(index => table(String(index), `t${index}`, [share(index * 10)]));
  const all = tables.map(({ ranges: own = [] }) => own);
  const items = planLoads(tables, all, 'UTF8', [{ tableOid: '1', first: 0, last: 0 }]);
  expect(items.map(item => item.map(task => task.into))).toEqual([['"public"."t0"', '"public"."t2"']]);
});
