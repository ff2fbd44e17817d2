import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  generateKey,
  parseKey,
  recipientOf,
  unwrapKey,
  type WrappedKey,
  wrapKey,
} from '../../../src/crypto/key.ts';

const key = parseKey(generateKey());
const secret = randomBytes(32);
const context = 'repository/pgkeep.json';

test('generates keys of 64 hexadecimal digits, each time another', () => {
  const keys = Array.from({ length: 50 }, () => generateKey());
  for (const text of keys) expect(text).toMatch(/^[0-9a-f]{64}$/);
  expect(new Set(keys).size).toBe(50);
});

describe('parseKey', () => {
  const text = generateKey();
  test.each([text, ` ${text}\n`, `${text}\r\n`, text.toUpperCase()])('takes %j', given => {
    expect(parseKey(given).toString('hex')).toBe(text);
  });

  test.each([
    ['', 0],
    ['   ', 0],
    [text.slice(1), 63],
    [`${text}0`, 65],
    [`0x${text}`, 66],
    [`${text.slice(2)}zz`, 64],
    [`${text.slice(2)} a`, 64],
    [`${text.slice(1)}é`, 64],
    [`"${text}"`, 66],
    [`${text}\n${text}`, 129],
    [Buffer.from(text, 'hex').toString('base64'), 44],
  ])('refuses %j without repeating it', (given, length) => {
    expect(() => parseKey(given)).toThrow(
      expect.objectContaining({
        code: 'KEY_MALFORMED',
        message: expect.stringContaining(`it is ${length} characters long`),
      }),
    );
    for (let at = 0; at + 8 <= given.trim().length; at++)
      expect(() => parseKey(given)).not.toThrow(given.trim().slice(at, at + 8));
  });
});

describe('wrapping', () => {
  test('opens for the same key in the same place', () => {
    expect(unwrapKey([wrapKey(secret, key, context)], key, context).equals(secret)).toBe(true);
  });

  test('never gives the same bytes twice, and shows neither key', () => {
    const [one, two] = [wrapKey(secret, key, context), wrapKey(secret, key, context)];
    expect(one.salt).not.toBe(two.salt);
    expect(one.wrapped).not.toBe(two.wrapped);
    for (const hidden of [secret, key])
      for (const encoding of ['hex', 'base64'] as const)
        expect(JSON.stringify(one)).not.toContain(hidden.toString(encoding).slice(0, 20));
  });

  test('finds its own entry among several recipients', () => {
    const others = Array.from({ length: 3 }, () => wrapKey(randomBytes(32), randomBytes(32), context));
    const recipients = [...others.slice(0, 2), wrapKey(secret, key, context), ...others.slice(2)];
    expect(unwrapKey(recipients, key, context).equals(secret)).toBe(true);
  });

  test('another key is wrong, and the message tells both fingerprints but no key', () => {
    const another = parseKey(generateKey());
    const wrapped = wrapKey(secret, key, context);
    const failure = { code: 'KEY_WRONG', message: expect.stringContaining(recipientOf(another)) };
    expect(() => unwrapKey([wrapped], another, context)).toThrow(expect.objectContaining(failure));
    expect(() => unwrapKey([wrapped], another, context)).toThrow(recipientOf(key));
    expect(() => unwrapKey([wrapped], another, context)).not.toThrow(another.toString('hex'));
  });

  test('from another place it is damaged, not wrong', () => {
    const wrapped = wrapKey(secret, key, context);
    for (const place of ['other/pgkeep.json', 'repository/keys/1.json', ''])
      expect(() => unwrapKey([wrapped], key, place)).toThrow(
        expect.objectContaining({ code: 'OBJECT_DAMAGED' }),
      );
  });

  test('a recipient of a newer kind is unsupported alone, and ignored beside a known one', () => {
    const newer = { ...wrapKey(secret, key, context), type: 'x25519' } as unknown as WrappedKey;
    expect(() => unwrapKey([newer], key, context)).toThrow(
      expect.objectContaining({ code: 'RECIPIENT_UNSUPPORTED' }),
    );
    expect(() => unwrapKey([], key, context)).toThrow(
      expect.objectContaining({ code: 'RECIPIENT_UNSUPPORTED' }),
    );
    expect(unwrapKey([newer, wrapKey(secret, key, context)], key, context).equals(secret)).toBe(true);
  });

  test('every flipped bit of salt and wrapped key is found', () => {
    const wrapped = wrapKey(secret, key, context);
    for (const field of ['salt', 'wrapped'] as const) {
      const bytes = Buffer.from(wrapped[field], 'base64');
      for (let at = 0; at < bytes.length; at++) {
        const copy = Buffer.from(bytes);
        copy[at] = (copy[at] ?? 0) ^ 0x10;
        const changed = { ...wrapped, [field]: copy.toString('base64') };
        expect(() => unwrapKey([changed], key, context)).toThrow(
          expect.objectContaining({ code: 'OBJECT_DAMAGED' }),
        );
      }
    }
  });

  test.each([
    ['empty', { wrapped: '' }],
    ['cut to the tag', { wrapped: randomBytes(16).toString('base64') }],
    ['cut to less than a tag', { wrapped: randomBytes(5).toString('base64') }],
    ['no text', { wrapped: 7 }],
    ['without salt', { salt: undefined }],
  ])('a wrapped key that is %s is damaged', (_, change) => {
    const entry = { ...wrapKey(secret, key, context), ...change } as unknown as WrappedKey;
    expect(() => unwrapKey([entry], key, context)).toThrow(
      expect.objectContaining({ code: 'OBJECT_DAMAGED' }),
    );
  });
});
