import { describe, expect, test } from 'vitest';
import type { ErrorCode } from '../../../../src/base/errors.ts';
import { countLines } from '../../../../src/operations/verify/count-lines.ts';
import { Findings } from '../../../../src/operations/verify/findings.ts';
import { chooseSample } from '../../../../src/operations/verify/sample.ts';
import type { TableEntry } from '../../../../src/repository/manifest.ts';

const table = (name: string, rangePages: number): TableEntry => ({
  oid: '1',
  schema: 'public',
  name,
  parents: [],
  columns: [],
  rows: 0,
  bytes: 0,
  rangePages,
  ranges: [],
});
const problem = (code: ErrorCode) => ({ code, message: `something ${code}` });

describe('problems', () => {
  test('of one code about one object are one, others are not', () => {
    const findings = new Findings(true);
    expect(findings.isEmpty).toBe(true);
    const first = findings.add(problem('OBJECT_DAMAGED'), 'segments/aa/aa');
    expect(findings.add(problem('OBJECT_DAMAGED'), 'segments/aa/aa')).toBe(first);
    findings.add(problem('OBJECT_DAMAGED'), 'segments/bb/bb');
    findings.add(problem('OBJECT_MISSING'), 'segments/aa/aa');
    findings.add(problem('CONTENT_MISMATCH'));
    expect(findings.problems).toHaveLength(4);
  });

  test('concern tables by spans of ranges, with their pages', () => {
    const findings = new Findings(true);
    const found = findings.add(problem('OBJECT_DAMAGED'), 'segments/aa/aa');
    const large = table('large', 1024);
    for (const range of [2, 2, 3, 5, 9]) findings.concern(found, large, 10, range);
    findings.concern(found, table('whole', 0), 1, 0);
    findings.concern(found, table('index', 1024), 0);
    expect(found.tables).toEqual([
      {
        schema: 'public',
        name: 'large',
        ranges: [
          { first: 2, last: 3, firstPage: 2048, lastPage: 4095 },
          { first: 5, last: 5, firstPage: 5120, lastPage: 6143 },
          { first: 9, last: 9, firstPage: 9216, lastPage: null },
        ],
      },
      { schema: 'public', name: 'whole', ranges: [{ first: 0, last: 0, firstPage: null, lastPage: null }] },
      { schema: 'public', name: 'index' },
    ]);
  });

  test.each([
    ['OBJECT_MISSING', 'segments/aa/aa', { size: false, checksum: true, encryption: true }],
    ['OBJECT_MISSING', 'keys/aa.json', { size: false, checksum: true, encryption: false }],
    ['OBJECT_DAMAGED', 'segments/aa/aa', { size: true, checksum: false, encryption: false }],
    ['OBJECT_DAMAGED', 'metadata/aa.json', { size: true, checksum: false, encryption: true }],
    ['OBJECT_DAMAGED', 'keys/aa.json', { size: true, checksum: true, encryption: false }],
    ['KEY_WRONG', 'keys/aa.json', { size: true, checksum: true, encryption: false }],
    ['CONTENT_MISMATCH', 'segments/aa/aa', { size: false, checksum: true, encryption: true }],
    ['RESTORE_INCOMPLETE', '', { size: true, checksum: true, encryption: true }],
  ] as const)('%s of %s lowers the flags it speaks of', (code, object, flags) => {
    const findings = new Findings(true);
    findings.add(problem(code), object);
    expect({
      size: findings.isFine('size'),
      checksum: findings.isFine('checksum'),
      encryption: findings.isFine('encryption'),
    }).toEqual(flags);
  });

  test('without encryption nothing speaks against it', () => {
    const findings = new Findings(false);
    findings.add(problem('OBJECT_DAMAGED'), 'segments/aa/aa');
    expect([findings.isFine('checksum'), findings.isFine('encryption')]).toEqual([false, true]);
  });
});

test('rows are line feeds', () => {
  expect(countLines(Buffer.alloc(0))).toEqual({ rows: 0, isClosed: false });
  expect(countLines(Buffer.from('\n'))).toEqual({ rows: 1, isClosed: true });
  expect(countLines(Buffer.from('a\tb\\n\n\nc'))).toEqual({ rows: 2, isClosed: false });
});

describe('a sample', () => {
  const ids = Array.from({ length: 200 }, (_, index) => `${index}`);

  test.each([
    [0.1, 20],
    [0.001, 1],
    [0.333, 67],
    [1, 200],
  ])('of %d has %d of 200', (share, count) => {
    expect(ids.filter(chooseSample(ids, share, 'seed'))).toHaveLength(count);
  });

  test('is the same for the same seed whatever the order, and another for another', () => {
    const chosen = ids.filter(chooseSample(ids, 0.1, 'seed'));
    expect(ids.filter(chooseSample(ids.toReversed(), 0.1, 'seed'))).toEqual(chosen);
    expect(ids.filter(chooseSample(ids, 0.1, 'other'))).not.toEqual(chosen);
    expect(ids.filter(chooseSample([], 0.5, 'seed'))).toEqual([]);
  });
});
