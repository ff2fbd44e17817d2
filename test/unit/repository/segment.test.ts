import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { DataKey } from '../../../src/crypto/seal.ts';
import { openSegment, sealSegment, segmentBytes, segmentId } from '../../../src/repository/segment.ts';

const secret = randomBytes(32);
const key: DataKey = { id: randomBytes(16).toString('hex'), bytes: randomBytes(32) };
const damaged = expect.objectContaining({ code: 'OBJECT_DAMAGED' });

describe.each([
  ['encrypted', key],
  ['not encrypted', null],
])('a segment that is %s', (_, dataKey) => {
  test.each([0, 1, 4096, segmentBytes])('of %i bytes opens to what it was made of', size => {
    for (const plain of [Buffer.alloc(size, 'row\n'), randomBytes(size)]) {
      const id = segmentId(secret, plain);
      const object = sealSegment(id, plain, dataKey, 2);
      expect(openSegment(id, object, dataKey, secret).equals(plain)).toBe(true);
      expect(object.length).toBeLessThan(16 * 1024 * 1024);
    }
  });

  test('is found out when it was stored under an id that is not its contents', () => {
    const plain = Buffer.from('contents');
    const wrongId = segmentId(secret, Buffer.from('other contents'));
    expect(() => openSegment(wrongId, sealSegment(wrongId, plain, dataKey, 2), dataKey, secret)).toThrow(
      damaged,
    );
  });

  test('cannot stand in the place of another', () => {
    const [one, two] = [Buffer.from('one'), Buffer.from('two')];
    const swapped = sealSegment(segmentId(secret, two), two, dataKey, 2);
    expect(() => openSegment(segmentId(secret, one), swapped, dataKey, secret)).toThrow(damaged);
  });

  test('belongs to its repository: another secret does not confirm it', () => {
    const plain = Buffer.from('contents');
    const id = segmentId(secret, plain);
    const object = sealSegment(id, plain, dataKey, 2);
    expect(() => openSegment(id, object, dataKey, randomBytes(32))).toThrow(damaged);
  });
});

test('ids depend on the secret and on every byte', () => {
  const plain = randomBytes(100);
  const ids = new Set([segmentId(secret, plain), segmentId(randomBytes(32), plain)]);
  for (let at = 0; at < plain.length; at++) {
    const copy = Buffer.from(plain);
    copy[at] = (copy[at] ?? 0) ^ 1;
    ids.add(segmentId(secret, copy));
  }
  expect(ids.size).toBe(102);
  for (const id of ids) expect(id).toMatch(/^[0-9a-f]{64}$/);
});
