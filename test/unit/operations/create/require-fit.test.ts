import { expect, test } from 'vitest';
import { requireFit } from '../../../../src/operations/create/require-fit.ts';

const tables = (count: number) =>
  Array.from({ length: count }, (_, n) => ({
    schema: 'public',
    name: `measurement_${n}`,
    columns: ['id', 'taken_at', 'sensor', 'value', 'comment'],
  }));

test('the tables of a large database fit into a manifest, and far more than it can name are refused', () => {
  expect(() => requireFit(tables(100_000))).not.toThrow();
  expect(() => requireFit(tables(200_000))).toThrow(
    expect.objectContaining({ code: 'OPTION_INVALID', message: expect.stringContaining('200,000 tables') }),
  );
});
