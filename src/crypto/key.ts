// The user's key (32 bytes, written as 64 hexadecimal digits) and the wrapping of other keys for it.
// A wrapped key names its recipient, so that further kinds of recipient can stand beside this one.
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { PgkeepError } from '../base/errors.ts';

/** A key wrapped for one recipient, as it stands in JSON. `salt` and `wrapped` are base64. */
export interface WrappedKey {
  type: 'key';
  /** Fingerprint of the recipient's key; tells a wrong key from a damaged object. */
  recipient: string;
  salt: string;
  wrapped: string;
}

const keyPattern = /^[0-9a-fA-F]{64}$/;
const constantNonce = Buffer.alloc(12);
const tagBytes = 16;

/** A new random key: 64 lower-case hexadecimal digits. */
export function generateKey(): string {
  return randomBytes(32).toString('hex');
}

/**
 * The 32 bytes of a key as the user gives it; surrounding white space is forgiven.
 * @throws PgkeepError KEY_MALFORMED, without repeating the value.
 */
export function parseKey(text: string): Buffer {
  const trimmed = text.trim();
  if (!keyPattern.test(trimmed)) {
    throw new PgkeepError(
      'KEY_MALFORMED',
      `the encryption key must be 64 hexadecimal digits, but it is ${trimmed.length} characters long${
        trimmed.length === 64 ? ' with others among them' : ''
      }`,
      { hint: 'make a key with: pgkeep key generate' },
    );
  }
  return Buffer.from(trimmed, 'hex');
}

/** What names a key without revealing it: the first 8 bytes of an HMAC under the key, in hex. */
export function recipientOf(key: Buffer): string {
  return createHmac('sha256', key).update('pgkeep/1/recipient').digest('hex').slice(0, 16);
}

/**
 * Wraps `secret` with AES-256-GCM under a key derived from the recipient's key and a fresh salt
 * (HKDF-SHA256), so the constant nonce never meets the same key twice.
 * @param context authenticated with it: the repository's id and the name of the object it stands in.
 */
export function wrapKey(secret: Buffer, key: Buffer, context: string): WrappedKey {
  const salt = randomBytes(32);
  const cipher = createCipheriv('aes-256-gcm', wrappingKey(key, salt), constantNonce);
  cipher.setAAD(Buffer.from(context));
  const wrapped = Buffer.concat([cipher.update(secret), cipher.final(), cipher.getAuthTag()]);
  return {
    type: 'key',
    recipient: recipientOf(key),
    salt: salt.toString('base64'),
    wrapped: wrapped.toString('base64'),
  };
}

/**
 * Finds the entry of `key` among the recipients and unwraps it.
 * @throws PgkeepError KEY_WRONG when no entry is for this key, RECIPIENT_UNSUPPORTED when none is of a kind
 * known here, OBJECT_DAMAGED when the entry is for this key and yet does not open.
 */
export function unwrapKey(recipients: readonly WrappedKey[], key: Buffer, context: string): Buffer {
  const known = recipients.filter(entry => entry?.type === 'key');
  if (known.length === 0) {
    throw new PgkeepError(
      'RECIPIENT_UNSUPPORTED',
      'no recipient of the repository is of a kind this version knows',
      {
        hint: 'use a newer pgkeep',
      },
    );
  }
  const fingerprint = recipientOf(key);
  const entry = known.find(candidate => candidate.recipient === fingerprint);
  if (entry === undefined) {
    throw new PgkeepError(
      'KEY_WRONG',
      `the key given (fingerprint ${fingerprint}) is not a key of this repository (it is for ${known.map(e => e.recipient).join(', ')})`,
      { hint: 'set BACKUP_ENCRYPTION_KEY to the key the repository was made with' },
    );
  }
  try {
    const sealed = Buffer.from(entry.wrapped, 'base64');
    const decipher = createDecipheriv(
      'aes-256-gcm',
      wrappingKey(key, Buffer.from(entry.salt, 'base64')),
      constantNonce,
      // A shorter tag would be taken otherwise, and is so much easier to guess.
      { authTagLength: tagBytes },
    );
    decipher.setAAD(Buffer.from(context));
    decipher.setAuthTag(sealed.subarray(-tagBytes));
    return Buffer.concat([decipher.update(sealed.subarray(0, -tagBytes)), decipher.final()]);
  } catch (cause) {
    throw new PgkeepError(
      'OBJECT_DAMAGED',
      `the wrapped key in ${context} is damaged or from another place`,
      { cause },
    );
  }
}

function wrappingKey(key: Buffer, salt: Buffer): Buffer {
  return Buffer.from(hkdfSync('sha256', key, salt, 'pgkeep/1/wrap', 32));
}
