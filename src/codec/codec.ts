// Compression of one object's plain bytes in one shot. Node's zstd returns only the first of several frames and
// some versions accept cut input without a word, so the plain length stands before the frame and is checked.
//
//   0  1  codec: 0 = none, 1 = zstd (one frame with its checksum)
//   1  4  plain length in bytes, little endian
//   5  n  the bytes
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { PgkeepError } from '../base/errors.ts';

const codecNone = 0;
const codecZstd = 1;
const headerBytes = 5;
/** No object holds more plain bytes than this; guards reading against absurd lengths. */
const maxPlainBytes = 64 * 1024 * 1024;

/**
 * Encodes into pieces (header, bytes) so that the caller can encrypt them without joining them first.
 * What does not shrink is kept as it is.
 * @param level zstd level; 0 stores without compression.
 */
export function encode(plain: Buffer, level: number): [header: Buffer, payload: Buffer] {
  const packed = level === 0 ? null : compress(plain, level);
  const isSmaller = packed !== null && packed.length < plain.length;
  const header = Buffer.alloc(headerBytes);
  header[0] = isSmaller ? codecZstd : codecNone;
  header.writeUInt32LE(plain.length, 1);
  return [header, isSmaller ? packed : plain];
}

/**
 * The plain bytes of an encoded body.
 * @throws PgkeepError OBJECT_DAMAGED when they do not decode to the stated length.
 */
export function decode(name: string, body: Buffer): Buffer {
  if (body.length < headerBytes) throw undecodable(name);
  const plainBytes = body.readUInt32LE(1);
  const payload = body.subarray(headerBytes);
  if (plainBytes > maxPlainBytes) throw undecodable(name);
  switch (body[0]) {
    case codecNone:
      if (payload.length !== plainBytes) throw undecodable(name);
      return payload;
    case codecZstd: {
      const plain = decompress(name, payload, plainBytes);
      if (plain.length !== plainBytes) throw undecodable(name);
      return plain;
    }
    default:
      throw new PgkeepError(
        'REPOSITORY_UNSUPPORTED',
        `${name} is compressed in a way this version does not know`,
        {
          hint: 'use a newer pgkeep',
        },
      );
  }
}

/** Level 2 in half the memory: tables and window stay in a core's cache, which is faster and no larger. */
const level2 = { [constants.ZSTD_c_windowLog]: 18, [constants.ZSTD_c_hashLog]: 15 };

function compress(plain: Buffer, level: number): Buffer {
  // An output buffer sized once is what makes one-shot calls faster than any stream.
  return zstdCompressSync(plain, {
    chunkSize: compressBound(plain.length),
    params: {
      [constants.ZSTD_c_compressionLevel]: level,
      [constants.ZSTD_c_checksumFlag]: 1,
      ...(level === 2 ? level2 : {}),
    },
  });
}

/** The largest possible output of zstd (ZSTD_COMPRESSBOUND of zstd.h), never less than Node's smallest chunk. */
function compressBound(plainBytes: number): number {
  const margin = plainBytes < 128 * 1024 ? (128 * 1024 - plainBytes) >> 11 : 0;
  return Math.max(64, plainBytes + (plainBytes >> 8) + margin + 64);
}

function decompress(name: string, payload: Buffer, plainBytes: number): Buffer {
  let result: { buffer: Buffer; engine: { bytesWritten: number } };
  try {
    // The types leave out what `info` makes of the result: the engine, which knows how much of the input it took.
    result = zstdDecompressSync(payload, {
      // One byte more than it takes: a full buffer has Node allocate another.
      chunkSize: Math.max(64, plainBytes + 1),
      maxOutputLength: Math.max(64, plainBytes),
      info: true,
    }) as unknown as typeof result;
  } catch (cause) {
    throw undecodable(name, cause);
  }
  if (result.engine.bytesWritten !== payload.length) throw undecodable(name);
  return result.buffer;
}

function undecodable(name: string, cause?: unknown): PgkeepError {
  return new PgkeepError('OBJECT_DAMAGED', `${name} is damaged: it does not decompress to what was stored`, {
    context: { object: name },
    cause,
  });
}
