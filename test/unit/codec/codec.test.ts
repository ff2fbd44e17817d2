import { randomBytes } from 'node:crypto';
import { constants, zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { decode, encode } from '../../../src/codec/codec.ts';

const text = (bytes: number) => Buffer.alloc(bytes, '12\tfoo@example.com\t\\N\t2024-01-01 00:00:00+00\n');
const damaged = expect.objectContaining({ code: 'OBJECT_DAMAGED' });

/** A body as the format has it, made by hand. */
function body(codec: number, plainBytes: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(5);
  header[0] = codec;
  header.writeUInt32LE(plainBytes, 1);
  return Buffer.concat([header, payload]);
}

describe.each([0, 1, 2, 3, 9, 19])('level %i', level => {
  test.each([0, 1, 63, 64, 65, 4096, 131_071, 131_072])('gives back %i bytes, compressible or not', size => {
    for (const plain of [text(size), randomBytes(size)]) {
      const encoded = Buffer.concat(encode(plain, level));
      expect(decode('object', encoded).equals(plain)).toBe(true);
      expect(encoded.length).toBeLessThanOrEqual(plain.length + 5);
      // Not a bit more than asked for: a view into a pool would hold what is not ours.
      expect(decode('object', encoded).length).toBe(size);
    }
  });
});

test('8 MiB go through, compressible or not', () => {
  for (const plain of [text(8 << 20), randomBytes(8 << 20), Buffer.alloc(8 << 20)]) {
    const encoded = Buffer.concat(encode(plain, 2));
    expect(decode('object', encoded).equals(plain)).toBe(true);
    expect(encoded.length).toBeLessThanOrEqual(plain.length + 5);
  }
});

test('level 0 stores as it is; other levels make text smaller', () => {
  expect(encode(text(4096), 0)[1].equals(text(4096))).toBe(true);
  expect(encode(text(4096), 1)[1].length).toBeLessThan(400);
});

test('what does not shrink is stored as it is', () => {
  const plain = randomBytes(10_000);
  const [header, payload] = encode(plain, 19);
  expect(header[0]).toBe(0);
  expect(payload.equals(plain)).toBe(true);
});

test('every truncation is found', () => {
  for (const level of [0, 3]) {
    const encoded = Buffer.concat(encode(text(1000), level));
    for (let length = 0; length < encoded.length; length++)
      expect(() => decode('object', encoded.subarray(0, length)), `${level} ${length}`).toThrow(damaged);
  }
});

test('every flipped bit of a compressed body is found, or refused as unknown', () => {
  const plain = text(1000);
  const encoded = Buffer.concat(encode(plain, 3));
  for (let at = 0; at < encoded.length; at++) {
    for (let bit = 0; bit < 8; bit++) {
      const copy = Buffer.from(encoded);
      copy[at] = (copy[at] ?? 0) ^ (1 << bit);
      const outcome = attempt(() => decode('object', copy));
      // A few bits of the frame header carry no meaning; what comes out must then be what went in.
      if (Buffer.isBuffer(outcome)) expect(outcome.equals(plain), `byte ${at} bit ${bit}`).toBe(true);
      else expect(['OBJECT_DAMAGED', 'REPOSITORY_UNSUPPORTED'], `byte ${at} bit ${bit}`).toContain(outcome);
    }
  }
});

describe('zstd', () => {
  const options = { params: { [constants.ZSTD_c_checksumFlag]: 1 } };
  const one = zstdCompressSync(text(500), options);
  const two = zstdCompressSync(text(700), options);

  test('several frames are refused, whatever length is stated', () => {
    for (const stated of [500, 700, 1200])
      expect(() => decode('object', body(1, stated, Buffer.concat([one, two])))).toThrow(damaged);
  });

  test.each([0, 1, 10, 63, 64, 65, 500])(
    'a frame of %i bytes that is followed by anything is refused',
    size => {
      const frame = zstdCompressSync(text(size), options);
      expect(decode('object', body(1, size, frame)).equals(text(size))).toBe(true);
      const skippable = Buffer.from('5\x2a\x4d\x18\0\0\0\0', 'latin1');
      for (const trailer of [frame, Buffer.alloc(1), randomBytes(40), skippable])
        expect(() => decode('object', body(1, size, Buffer.concat([frame, trailer])))).toThrow(damaged);
    },
  );

  test('a length that is not that of the contents is refused', () => {
    for (const stated of [0, 1, 63, 64, 499, 501, 100_000])
      expect(() => decode('object', body(1, stated, one)), `${stated}`).toThrow(damaged);
  });

  test('an empty frame and no frame at all are told apart', () => {
    expect(decode('object', body(1, 0, zstdCompressSync(Buffer.alloc(0), options))).length).toBe(0);
    expect(() => decode('object', body(1, 0, Buffer.alloc(0)))).toThrow(damaged);
    expect(() => decode('object', body(1, 5, Buffer.from('plain')))).toThrow(damaged);
  });

  test('a small body cannot make the reader allocate without bounds', () => {
    const bomb = zstdCompressSync(Buffer.alloc(65 << 20), options);
    expect(bomb.length).toBeLessThan(100_000);
    for (const stated of [10, 0xff_ff_ff_ff, 65 << 20])
      expect(() => decode('object', body(1, stated, bomb))).toThrow(damaged);
  });
});

test('an uncompressed body must have the stated length', () => {
  expect(String(decode('object', body(0, 3, Buffer.from('abc'))))).toBe('abc');
  expect(() => decode('object', body(0, 2, Buffer.from('abc')))).toThrow(damaged);
  expect(() => decode('object', body(0, 4, Buffer.from('abc')))).toThrow(damaged);
});

test('an unknown codec asks for a newer version and names the object', () => {
  expect(() => decode('segments/aa/1', body(2, 3, Buffer.from('abc')))).toThrow(
    expect.objectContaining({
      code: 'REPOSITORY_UNSUPPORTED',
      message: expect.stringContaining('segments/aa/1'),
    }),
  );
});

function attempt(run: () => Buffer): Buffer | string {
  try {
    return run();
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
}
