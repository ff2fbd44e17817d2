import { expect, test } from 'vitest';
import { BinaryRow, CtidSink } from '../../../../src/operations/create/copy-sinks.ts';

function binaryCopy(...values: (string | null)[]): Buffer {
  const parts = [Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1'), Buffer.alloc(8)];
  const count = Buffer.alloc(2);
  count.writeInt16BE(values.length);
  parts.push(count);
  for (const value of values) {
    const length = Buffer.alloc(4);
    length.writeInt32BE(value === null ? -1 : value.length);
    parts.push(length, Buffer.from(value ?? ''));
  }
  parts.push(Buffer.from([0xff, 0xff]));
  return Buffer.concat(parts);
}

function writeInTwo(
  sink: { write(chunk: Buffer, start: number, end: number): void },
  bytes: Buffer,
  cut: number,
) {
  const padded = Buffer.concat([Buffer.from('##'), bytes, Buffer.from('##')]);
  sink.write(padded, 2, cut + 2);
  // What was received is overwritten by what comes next.
  const rest = Buffer.from(padded);
  padded.fill(0x21);
  sink.write(rest, cut + 2, rest.length - 2);
}

test('the values of one row in binary, however its bytes are cut', () => {
  const bytes = binaryCopy('abcdef', null, '');
  for (let cut = 0; cut <= bytes.length; cut++) {
    const row = new BinaryRow();
    writeInTwo(row, bytes, cut);
    expect(row.values.map(String)).toEqual(['abcdef', '', '']);
  }
});

test.each([
  ['nothing', Buffer.alloc(0)],
  ['text', Buffer.from('1\ttwo\n')],
  ['a value that is cut short', binaryCopy('abcdef').subarray(0, 30)],
])('%s is no such row', (_, bytes) => {
  const row = new BinaryRow();
  row.write(bytes, 0, bytes.length);
  expect(() => row.values).toThrow(expect.objectContaining({ code: 'DATABASE_CONNECTION_LOST' }));
});

test('ctids are taken off rows, however their bytes are cut', () => {
  const bytes = Buffer.from('(0,1)\tone\t(9,9)\\n\n(0,2)\t\n(4294967294,291)\t\\N\tthree\n');
  for (let cut = 0; cut <= bytes.length; cut++) {
    const texts: string[] = [];
    const sink = new CtidSink({
      write: (chunk, start, end) => texts.push(chunk.toString('utf8', start, end)),
    });
    writeInTwo(sink, bytes, cut);
    expect(texts.join('')).toBe('one\t(9,9)\\n\n\n\\N\tthree\n');
    expect(sink.ctids.count).toBe(3);
    // Two runs: 1 and 2; then, after a distance of six bytes, one of 4294967294 * 65536 + 291.
    expect([...sink.ctids.bytes()].slice(0, 3)).toEqual([2, 1, 2]);
  }
});

test('rows whose ctids do not ascend are refused', () => {
  const bytes = Buffer.from('(1,1)\ta\n(0,9)\tb\n');
  const sink = new CtidSink({ write: () => undefined });
  expect(() => sink.write(bytes, 0, bytes.length)).toThrow(RangeError);
});
