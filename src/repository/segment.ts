// Segments: content-addressed pieces of data. The id is a keyed hash of the plain bytes, so equal content is
// stored once and an id tells an outsider nothing.
import { createHmac } from 'node:crypto';
import { PgkeepError } from '../base/errors.ts';
import { freeBuffer } from '../base/free-buffer.ts';
import { decode, encode } from '../codec/codec.ts';
import { type DataKey, open, seal } from '../crypto/seal.ts';
import { segmentName } from './layout.ts';

/**
 * Plain bytes at which a stream is cut. An object stays far below 16 MiB even where nothing can be compressed,
 * and a handful of these buffers is all the memory a worker needs.
 */
export const segmentBytes = 8 * 1024 * 1024;

/** The id of a segment: HMAC-SHA256 of its plain bytes under the repository secret, hex. */
export function segmentId(secret: Buffer, plain: Buffer): string {
  return createHmac('sha256', secret).update(plain).digest('hex');
}

/**
 * Compresses and seals a segment, then opens the result again and compares it with what went in: a bad library or
 * bad memory must fail the backup, not the restore.
 * @throws PgkeepError INTERNAL when the result does not open to the same bytes.
 */
export function sealSegment(id: string, plain: Buffer, key: DataKey | null, level: number): Buffer {
  const name = segmentName(id);
  const [header, payload] = encode(plain, level);
  const object = seal(name, 'segment', key, [header, payload]);
  if (payload !== plain) freeBuffer(payload);
  const body = open(name, 'segment', key, object);
  const opened = decode(name, body);
  const isSame = opened.equals(plain);
  // Without a key the body is a view of the object, and what is not compressed is a view of the body.
  if (key !== null) freeBuffer(body);
  if (opened.buffer !== object.buffer) freeBuffer(opened);
  if (!isSame) {
    throw new PgkeepError('INTERNAL', `${name} did not open to what was sealed: memory or zstd is at fault`);
  }
  return object;
}

/**
 * The plain bytes of a segment, checked against its id.
 * @throws PgkeepError OBJECT_DAMAGED.
 */
export function openSegment(id: string, object: Buffer, key: DataKey | null, secret: Buffer): Buffer {
  const name = segmentName(id);
  const body = open(name, 'segment', key, object);
  const plain = decode(name, body);
  if (key !== null && plain.buffer !== body.buffer) freeBuffer(body);
  if (segmentId(secret, plain) !== id) {
    throw new PgkeepError('OBJECT_DAMAGED', `${name} is damaged: its contents do not hash to its name`, {
      context: { object: name },
    });
  }
  return plain;
}
