import { describe, expect, test } from 'vitest';
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatQuantity,
  parseBytes,
  parseDuration,
} from '../../../src/base/units.ts';

describe('parseDuration', () => {
  test.each([
    ['0', 0],
    ['500ms', 500],
    ['30s', 30_000],
    ['1.5s', 1500],
    ['1m30s', 90_000],
    ['24h', 86_400_000],
    ['7d', 604_800_000],
    ['2w', 1_209_600_000],
    [' 5m ', 300_000],
  ])('reads %j as %d ms', (text, expected) => {
    expect(parseDuration(text)).toBe(expected);
  });

  test.each(['', '30', '-5s', 's', '5 m', '5x', '1e3s', 'abc', '99999999999999999w'])(
    'does not guess at %j',
    text => {
      expect(parseDuration(text)).toBeUndefined();
    },
  );
});

test.each([
  [0, '0 B'],
  [1, '1 B'],
  [1023, '1023 B'],
  [1024, '1.00 KiB'],
  [1536, '1.50 KiB'],
  [10_239, '10.0 KiB'],
  [102_400, '100 KiB'],
  [1_048_575, '1.00 MiB'],
  [3_221_225_472, '3.00 GiB'],
  [2 ** 60, '1024 PiB'],
])('writes %d bytes as %s', (size, expected) => {
  expect(formatBytes(size)).toBe(expected);
});

test.each([
  ['512KiB', 512 * 1024],
  ['512k', 512 * 1024],
  ['10M', 10 * 1024 ** 2],
  ['1.5 GiB', 1.5 * 1024 ** 3],
  ['10MB', 10_000_000],
  ['2kb', 2_000],
  ['0K', 0],
])('reads %s as %d bytes', (text, expected) => {
  expect(parseBytes(text)).toBe(expected);
});

test.each(['', '10', '10 B', 'M', '-1M', '1,5M', '10Mi', '10MiB/s', '1M2K', '1T'])(
  'reads no size from %j',
  text => {
    expect(parseBytes(text)).toBeUndefined();
  },
);

test.each([
  [0, '0 ms'],
  [999, '999 ms'],
  [999.6, '1.0 s'],
  [12_340, '12.3 s'],
  [59_940, '59.9 s'],
  [59_960, '1 min 00 s'],
  [245_000, '4 min 05 s'],
  [3_599_600, '1 h 00 min'],
  [11_520_000, '3 h 12 min'],
])('writes %d ms as %s', (durationMs, expected) => {
  expect(formatDuration(durationMs)).toBe(expected);
});

test('groups digits and counts nouns', () => {
  expect(formatCount(1_234_567)).toBe('1,234,567');
  expect(formatQuantity(1, 'table')).toBe('1 table');
  expect(formatQuantity(1700, 'row')).toBe('1,700 rows');
});
