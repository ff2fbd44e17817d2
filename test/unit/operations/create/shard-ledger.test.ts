import { describe, expect, test } from 'vitest';
import { divideItems, planCopies, tasksOf } from '../../../../src/operations/create/copy-plan.ts';
import { ShardLedger } from '../../../../src/operations/create/shard-ledger.ts';
import { sampleRelation } from './sample-relation.ts';

const plan = planCopies(
  [
    ...Array.from({ length: 20 }, (_, n) => sampleRelation({ name: `small_${n}`, pages: 3 })),
    sampleRelation({ name: 'large', pages: 20_000 }),
    sampleRelation({ name: 'without_pages', pages: 0 }),
    sampleRelation({ name: 'middle', pages: 900 }),
  ],
  'UTF8',
  150000,
  new Map(),
  new Set(),
);
const all = Array.from({ length: plan.items }, (_, item) =>
  tasksOf(plan, item).map(task => ({ ...task, item })),
).flat();

describe.each([1, 2, 3, 100])('of %i shards', shards => {
  test('each range is one shard’s, comes once, and belongs to the item that reads it', () => {
    const ledger = new ShardLedger(plan, shards);
    for (const [index, items] of divideItems(plan, shards).entries()) {
      const shard = index + 1;
      const own = all.filter(({ item }) => items.includes(item));
      expect(ledger.left(shard)).toBe(own.length);
      for (const { table, range, item } of own) {
        expect(ledger.left(shard) > 0 && ledger.tableLeft(shard) !== undefined).toBe(true);
        for (const other of [shard - 1, shard + 1]) expect(ledger.note(other, table, range)).toBeUndefined();
        expect(ledger.note(shard, table, range)).toBe(item);
        expect(ledger.note(shard, table, range)).toBeUndefined();
      }
      expect([ledger.left(shard), ledger.tableLeft(shard)]).toEqual([0, undefined]);
    }
  });

  test('what is not in the plan is nobody’s', () => {
    const ledger = new ShardLedger(plan, shards);
    for (const { table } of all) expect(ledger.note(1, table, 1000)).toBeUndefined();
    for (const table of [plan.tables.length, 1e9]) expect(ledger.note(1, table, 0)).toBeUndefined();
  });
});
