import { expect, test } from 'vitest';
import { nearest } from '../../../../src/cli/options/nearest.ts';

const words = ['jobs', 'repository', 'excludeTables', 'excludeTableData'];

test.each([
  ['job', 'jobs'],
  ['jbos', 'jobs'],
  ['Jobs', 'jobs'],
  ['repositry', 'repository'],
  ['exclude_tables', 'excludeTables'],
])('takes %s for %s', (word, expected) => {
  expect(nearest(word, words)).toBe(expected);
});

test.each(['zzz', 'x', 'storage'])('has no word near %s', word => {
  expect(nearest(word, words)).toBeUndefined();
});
