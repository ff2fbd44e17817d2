import { describe, expect, test } from 'vitest';
import { addDigests, isSameRows, noRows, RowDigest } from '../../../../src/operations/verify/row-digest.ts';

function digestOf(text: string, { order = null as readonly number[] | null, pieces = [text.length] } = {}) {
  const digest = new RowDigest(order);
  const bytes = Buffer.from(text);
  let at = 0;
  for (const length of [...pieces, bytes.length]) {
    digest.write(bytes, at, Math.min(bytes.length, at + length));
    at = Math.min(bytes.length, at + length);
  }
  return digest.digest;
}

const rows = '1\tone\n2\t\\N\n\n2\ttwo\\nlines\n';

test('counts rows, those without columns too', () => {
  expect(digestOf(rows).rows).toBe(4);
  expect(digestOf('')).toEqual(noRows);
  expect(digestOf('\n\n').rows).toBe(2);
});

test('is the same however the text is cut', () => {
  const whole = digestOf(rows);
  for (let length = 1; length < rows.length; length++) {
    const pieces = Array.from({ length: Math.ceil(rows.length / length) }, () => length);
    expect(digestOf(rows, { pieces })).toEqual(whole);
  }
});

test('does not keep what it was given: the buffer may be used again', () => {
  for (const order of [null, [1, 0]]) {
    const digest = new RowDigest(order);
    const buffer = Buffer.from('a\tb');
    digest.write(buffer);
    buffer.fill('x');
    digest.write(Buffer.from('\n'));
    expect(digest.digest).toEqual(digestOf('a\tb\n', { order }));
  }
});

describe('as a multiset', () => {
  const same = (one: string, other: string) => isSameRows(digestOf(one), digestOf(other));
  test.each([
    ['another order of rows', 'a\nb\nc\n', 'c\na\nb\n', true],
    ['another value', 'a\nb\n', 'a\nc\n', false],
    ['a row that occurs once more', 'a\nb\n', 'a\nb\nb\n', false],
    ['two pairs of equal rows', 'a\na\nb\n', 'a\nb\nb\n', false],
    ['NULL and an empty text', '\\N\n', '\n', false],
    ['a value in another column', '1\t\n', '\t1\n', false],
    ['values that were exchanged between rows', '1\ta\n2\tb\n', '1\tb\n2\ta\n', false],
  ])('%s', (_, one, other, expected) => {
    expect(same(one, other)).toBe(expected);
  });

  test('parts add up to the whole', () => {
    expect(addDigests(digestOf('a\nb\n'), digestOf('c\n'))).toEqual(digestOf('c\nb\na\n'));
    expect(addDigests(noRows, digestOf(rows))).toEqual(digestOf(rows));
  });
});

test('columns in another order are digested in the order asked for', () => {
  const moved = 'one\tx\t1\n\\N\ty\t2\n';
  const plain = '1\tone\tx\n2\t\\N\ty\n';
  expect(digestOf(moved, { order: [2, 0, 1] })).toEqual(digestOf(plain));
  expect(digestOf(moved, { order: [2, 0, 1], pieces: [2, 3, 1] })).toEqual(digestOf(plain));
  expect(isSameRows(digestOf(moved), digestOf(plain))).toBe(false);
});
