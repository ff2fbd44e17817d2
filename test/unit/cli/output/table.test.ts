import { expect, test } from 'vitest';
import { styleFor } from '../../../../src/cli/output/style.ts';
import { renderTable, singleLine } from '../../../../src/cli/output/table.ts';
import { testIo } from '../../../support/cli-io.ts';

const plain = await styleFor(testIo().stdout, testIo());

test('aligns columns and leaves out those without content', () => {
  const text = renderTable<{ name: string; rows: number }>(
    [
      { title: 'NAME', text: row => row.name },
      { title: 'TAGS', text: () => '' },
      { title: 'ROWS', align: 'right', text: row => String(row.rows) },
    ],
    [
      { name: 'a', rows: 5 },
      { name: 'longer', rows: 12345 },
    ],
    plain,
  );
  expect(text).toBe('NAME     ROWS\na           5\nlonger  12345\n');
});

test('shows what a terminal would obey as an escape', () => {
  expect(singleLine('a\nb\tc\u001b[31md')).toBe('a\\nb\\tc\\x1b[31md');
});
