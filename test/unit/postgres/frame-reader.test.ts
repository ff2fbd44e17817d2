import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { FrameReader } from '../../../src/postgres/frame-reader.ts';

interface Seen {
  /** Everything COPY sent, joined. */
  copied: string;
  /** Other messages, and how many CopyData bytes had come before each. */
  messages: { type: string; body: string; after: number }[];
}

function frame(type: string, body: Buffer | string = ''): Buffer {
  const bytes = Buffer.from(body);
  const header = Buffer.alloc(5);
  header.write(type, 'latin1');
  header.writeUInt32BE(bytes.length + 4, 1);
  return Buffer.concat([header, bytes]);
}

function read(pieces: Iterable<Buffer>): Seen {
  const copied: Buffer[] = [];
  let copiedBytes = 0;
  const messages: { type: number; body: Buffer; after: number }[] = [];
  const reader = new FrameReader({
    copyData(chunk, start, end) {
      expect(start).toBeLessThanOrEqual(end);
      expect(end).toBeLessThanOrEqual(chunk.length);
      copied.push(Buffer.from(chunk.subarray(start, end)));
      copiedBytes += end - start;
    },
    message: (type, body) => messages.push({ type, body, after: copiedBytes }),
  });
  for (const piece of pieces) {
    reader.push(piece);
    // The receive buffer is used again for the next piece: whoever kept a view of it reads this.
    piece.fill(0xee);
  }
  return {
    copied: Buffer.concat(copied).toString('latin1'),
    messages: messages.map(({ type, body, after }) => ({
      type: String.fromCharCode(type),
      body: body.toString('latin1'),
      after,
    })),
  };
}

function* cut(stream: Buffer, lengths: Iterable<number>): Generator<Buffer> {
  let at = 0;
  for (const length of lengths) {
    if (at >= stream.length) break;
    yield Buffer.from(stream.subarray(at, at + length));
    at += length;
  }
  if (at < stream.length) yield Buffer.from(stream.subarray(at));
}

function* every(length: number): Generator<number> {
  for (;;) yield length;
}

/** What a server answers to two COPYs sent ahead of each other, and then to a failing one. */
const messages: [type: string, body: string][] = [
  ['H', '\0\0\x02\0\0\0\0'],
  ['d', ''],
  ['d', '\n'],
  ['d', 'd\0\0\0\x05d\n'],
  ['N', 'SNOTICE\0MCopyData has type d\0\0'],
  ['d', 'a row\n'],
  ['c', ''],
  ['C', 'COPY 4\0'],
  ['Z', 'T'],
  ['c', ''],
  ['D', '\0\x01\xff\xff\xff\xff'],
  ['d', 'Z\0\0\0\x05I'],
  ['d', ''],
  ['d', ''],
  ['c', ''],
  ['d', 'after an empty message\n'],
  ['E', `SERROR\0C${'X'.repeat(300)}\0\0`],
  ['Z', 'E'],
];
const small = Buffer.concat(messages.map(([type, body]) => frame(type, Buffer.from(body, 'latin1'))));
const expected = expectation(messages.map(([type, body]) => [type, Buffer.from(body, 'latin1')]));

function expectation(list: readonly [type: string, body: Buffer][]): Seen {
  const seen: Seen = { copied: '', messages: [] };
  for (const [type, body] of list) {
    if (type === 'd') seen.copied += body.toString('latin1');
    else seen.messages.push({ type, body: body.toString('latin1'), after: seen.copied.length });
  }
  return seen;
}

describe('a stream of CopyData and other messages', () => {
  test('is read whole', () => {
    expect(read([Buffer.from(small)])).toEqual(expected);
  });

  test('is read the same when cut in two at every byte', () => {
    for (let at = 0; at <= small.length; at++) expect(read(cut(small, [at]))).toEqual(expected);
  });

  test('is read the same when cut in three at every pair of bytes of its first half', () => {
    const half = small.subarray(0, 150);
    const whole = read([Buffer.from(half)]);
    for (let first = 0; first < half.length; first++)
      for (let second = 0; second < half.length - first; second += 3)
        expect(read(cut(half, [first, second]))).toEqual(whole);
  });

  test.each([1, 2, 3, 4, 5, 6, 7, 11, 13, 64, 255])('is read the same in pieces of %i bytes', length => {
    expect(read(cut(small, every(length)))).toEqual(expected);
  });

  test('is read the same with empty pieces in between', () => {
    expect(read(cut(small, [0, 0, 3, 0, 4, 0, 0, 1, 0]))).toEqual(expected);
  });
});

test('rows of 0 bytes, 1 byte, 100 KB and 5 MB come out unharmed, however received', () => {
  const rows = [0, 1, 100_000, 0, 5_000_000, 1, 0, 65_536].map(size => randomBytes(size));
  const list: [string, Buffer][] = rows.map(row => ['d', row]);
  list.splice(3, 0, ['S', Buffer.from('TimeZone\0UTC\0')]);
  list.push(['c', Buffer.alloc(0)], ['C', Buffer.from('COPY 8\0')], ['Z', Buffer.from('I')]);
  const stream = Buffer.concat(list.map(([type, body]) => frame(type, body)));
  const whole = expectation(list);
  for (const length of [stream.length, 512 * 1024, 65_536, 8191, 1000])
    expect(read(cut(stream, every(length))), `${length}`).toEqual(whole);
});

test('a message other than CopyData may be larger than a received piece', () => {
  const body = randomBytes(200_000);
  const stream = Buffer.concat([frame('D', body), frame('Z', 'I')]);
  expect(read(cut(stream, every(1000))).messages).toEqual([
    { type: 'D', body: body.toString('latin1'), after: 0 },
    { type: 'Z', body: 'I', after: 0 },
  ]);
});

test('many rows in one piece are handed on as they lie, one call each', () => {
  const stream = Buffer.concat(Array.from({ length: 1000 }, (_, i) => frame('d', `${i}\n`)));
  let calls = 0;
  const reader = new FrameReader({
    copyData(chunk, start, end) {
      expect(chunk).toBe(stream);
      expect(chunk.toString('latin1', start, end)).toBe(`${calls++}\n`);
    },
    message: type => expect.unreachable(`message ${type}`),
  });
  reader.push(stream);
  expect(calls).toBe(1000);
});

test.each([0, 1, 3, 0xff_ff_ff_ff])('a length of %i, which no server sends, ends the reading', length => {
  for (const type of ['d', 'D']) {
    const header = Buffer.from(frame(type));
    header.writeUInt32BE(length, 1);
    const stream = Buffer.concat([header, Buffer.alloc(20)]);
    for (const pieceBytes of [stream.length, 1])
      expect(() => read(cut(stream, every(pieceBytes)))).toThrow(
        expect.objectContaining({ code: 'DATABASE_CONNECTION_LOST' }),
      );
  }
});
