import { expect, test } from 'vitest';
import type { PlannedLoad } from '../../../../src/operations/restore/load-plan.ts';
import { LoadQueue } from '../../../../src/operations/restore/load-queue.ts';

/** An item of one COPY; `rows` tells it from the others. */
function item(table: number, rows: number): PlannedLoad[] {
  const into = `t${table}`;
  const text = () => ({ table: into, first: 0, ranges: [] });
  return [{ table, into, sql: '', ranges: { tableOid: into, first: 0, last: 0 }, rows, bytes: rows, text }];
}

function rowsOf(taken: PlannedLoad[] | undefined): number | undefined {
  return taken?.[0]?.rows;
}

test('a worker stays at its table, in the order planned, and another one takes the next table', () => {
  const queue = new LoadQueue([item(7, 1), item(7, 2), item(7, 3), item(4, 4), item(4, 5)]);
  expect(rowsOf(queue.next(undefined))).toBe(1);
  expect(rowsOf(queue.next(undefined))).toBe(4);
  expect(rowsOf(queue.next(7))).toBe(2);
  expect(rowsOf(queue.next(4))).toBe(5);
  expect(rowsOf(queue.next(7))).toBe(3);
});

test('a worker whose table is done begins another, and only then shares the one with most left', () => {
  const items = [
    ...[1, 2, 3, 4, 5].map(rows => item(0, rows)),
    item(1, 11),
    item(1, 12),
    item(1, 13),
    item(2, 21),
  ];
  const queue = new LoadQueue(items);
  expect([rowsOf(queue.next(undefined)), rowsOf(queue.next(undefined))]).toEqual([1, 11]);
  expect(rowsOf(queue.next(undefined))).toBe(21);
  expect(rowsOf(queue.next(2))).toBe(2);
  expect(rowsOf(queue.next(0))).toBe(3);
  expect(rowsOf(queue.next(1))).toBe(12);
  expect(rowsOf(queue.next(1))).toBe(13);
  expect(rowsOf(queue.next(1))).toBe(4);
});

test('everything is handed out once, whoever asks', () => {
  const items = Array.from({ length: 100 }, (_, index) => item(index % 7, index));
  const queue = new LoadQueue(items);
  const taken: (number | undefined)[] = [];
  const at: (number | undefined)[] = [undefined, undefined, undefined];
  for (let worker = 0; taken.length <= items.length; worker = (worker + 1) % at.length) {
    const next = queue.next(at[worker]);
    taken.push(rowsOf(next));
    at[worker] = next?.[0]?.table;
  }
  expect(taken.pop()).toBeUndefined();
  expect(taken.sort((a, b) => (a ?? 0) - (b ?? 0))).toEqual(items.map(rowsOf));
});
