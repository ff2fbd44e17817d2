// Sealing: one object's bytes, encrypted and bound to the object's name. The layout is specified in
// docs/repository-format.md; nothing here knows what the bytes mean.
//
//   0   8  magic "pgkeep", 0, format 1
//   8   1  suite: 0 = SHA-256 only, 1 = AES-256-GCM
//   9  16  id of the data key (zero in suite 0)
//  25  32  salt (zero in suite 0)
//  57   n  body
//   .  16  GCM tag, or 32 bytes of SHA-256 in suite 0
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  hkdfSync,
  randomFillSync,
  timingSafeEqual,
} from 'node:crypto';
import { PgkeepError } from '../base/errors.ts';
import { freeBuffer } from '../base/free-buffer.ts';

/** A data key: encrypts the objects of one run. `id` is 32 hexadecimal digits. */
export interface DataKey {
  id: string;
  bytes: Buffer;
}

/** What an object is; separates the derived keys. */
export type SealKind = 'segment' | 'manifest' | 'shard';

const magic = Buffer.from('pgkeep\0\x01', 'latin1');
const headerBytes = 57;
const keyIdOffset = 9;
const saltOffset = 25;
const suitePlain = 0;
const suiteGcm = 1;
const gcmTagBytes = 16;
const digestBytes = 32;
/** So many bytes from the beginning of an object are enough for {@link sealedKeyId}. */
export const sealedHeadBytes = headerBytes + gcmTagBytes;
/** Safe although constant: every object has a key of its own, derived from a random salt. */
const constantNonce = Buffer.alloc(12);

/**
 * Seals a body given in pieces. The result has an ArrayBuffer of its own, so it can be transferred to another thread.
 * @param key `null` seals without encryption (SHA-256 only).
 */
export function seal(name: string, kind: SealKind, key: DataKey | null, body: readonly Buffer[]): Buffer {
  const bodyBytes = body.reduce((sum, piece) => sum + piece.length, 0);
  const trailerBytes = key === null ? digestBytes : gcmTagBytes;
  const out = Buffer.allocUnsafeSlow(headerBytes + bodyBytes + trailerBytes);
  out.fill(0, 0, headerBytes);
  magic.copy(out, 0);
  let offset = headerBytes;
  if (key === null) {
    out[8] = suitePlain;
    for (const piece of body) offset += piece.copy(out, offset);
    plainDigest(name, out.subarray(0, offset)).copy(out, offset);
    return out;
  }
  out[8] = suiteGcm;
  out.write(key.id, keyIdOffset, 'hex');
  randomFillSync(out, saltOffset, 32);
  const header = out.subarray(0, headerBytes);
  const cipher = createCipheriv('aes-256-gcm', objectKey(key, header, kind), constantNonce);
  cipher.setAAD(Buffer.concat([header, Buffer.from(name)]));
  for (const piece of body) {
    const sealed = cipher.update(piece);
    offset += sealed.copy(out, offset);
    freeBuffer(sealed);
  }
  cipher.final();
  cipher.getAuthTag().copy(out, offset);
  return out;
}

/**
 * The id of the data key an object was sealed with; `null` when it is not encrypted.
 * @throws PgkeepError OBJECT_DAMAGED when this is no sealed object, REPOSITORY_UNSUPPORTED for a newer format.
 */
export function sealedKeyId(name: string, object: Buffer): string | null {
  if (object.length < sealedHeadBytes || magic.compare(object, 0, 7, 0, 7) !== 0) {
    throw new PgkeepError('OBJECT_DAMAGED', `${name} is damaged: it does not begin like an object of pgkeep`);
  }
  const suite = object[8];
  if (object[7] !== magic[7] || (suite !== suitePlain && suite !== suiteGcm)) {
    throw new PgkeepError('REPOSITORY_UNSUPPORTED', `${name} is of a format this version does not know`, {
      hint: 'use a newer pgkeep',
    });
  }
  return suite === suitePlain ? null : object.toString('hex', keyIdOffset, saltOffset);
}

/**
 * Opens what {@link seal} made: checks every byte and the name, returns the body.
 * @throws PgkeepError OBJECT_DAMAGED when the object was changed, cut, or stands under another name.
 */
export function open(name: string, kind: SealKind, key: DataKey | null, object: Buffer): Buffer {
  const keyId = sealedKeyId(name, object);
  if (keyId !== (key?.id ?? null)) {
    throw new PgkeepError('OBJECT_DAMAGED', `${name} is sealed with another key than the one named for it`);
  }
  const header = object.subarray(0, headerBytes);
  if (key === null) {
    const end = object.length - digestBytes;
    if (
      end < headerBytes ||
      !timingSafeEqual(plainDigest(name, object.subarray(0, end)), object.subarray(end))
    ) {
      throw damaged(name);
    }
    return object.subarray(headerBytes, end);
  }
  const end = object.length - gcmTagBytes;
  try {
    const derived = objectKey(key, header, kind);
    const decipher = createDecipheriv('aes-256-gcm', derived, constantNonce, { authTagLength: gcmTagBytes });
    decipher.setAAD(Buffer.concat([header, Buffer.from(name)]));
    decipher.setAuthTag(object.subarray(end));
    const body = decipher.update(object.subarray(headerBytes, end));
    decipher.final();
    return body;
  } catch (cause) {
    throw damaged(name, cause);
  }
}

function damaged(name: string, cause?: unknown): PgkeepError {
  return new PgkeepError(
    'OBJECT_DAMAGED',
    `${name} is damaged: its contents are not what was written under that name`,
    {
      hint: 'restore another backup, or this object from a copy of the repository',
      context: { object: name },
      cause,
    },
  );
}

function objectKey(key: DataKey, header: Buffer, kind: SealKind): Buffer {
  return Buffer.from(
    hkdfSync('sha256', key.bytes, header.subarray(saltOffset, headerBytes), `pgkeep/1/${kind}`, 32),
  );
}

function plainDigest(name: string, headerAndBody: Buffer): Buffer {
  return createHash('sha256').update(name).update('\0').update(headerAndBody).digest();
}
