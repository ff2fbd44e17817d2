// Writes bytes into large objects, many with one statement: the protocol's binary parameters, as arrays.
import type { LargeObjectBytes } from './large-object-walk.ts';

/** Bytes of one object that follow each other. */
interface Put {
  oid: number;
  offset: number;
  parts: Uint8Array[];
  bytes: number;
}

/** One statement's worth. */
export interface PutBatch {
  puts: Put[];
  bytes: number;
}

/** How much one statement writes: enough that the way to the server does not count, and little for the server to hold. */
const batchBytes = 1024 * 1024;
const batchPuts = 1024;

/** Parameters: oids, offsets, bytes. @returns one row, with the number of puts. */
export const putsSql = `SELECT pg_catalog.count(pg_catalog.lo_put(u.oid, u.place, u.bytes))
  FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.oid[]), pg_catalog.unnest($2::pg_catalog.int8[]),
    pg_catalog.unnest($3::pg_catalog.bytea[])) AS u(oid, place, bytes)`;

const elementType = { oid: 26, int8: 20, bytea: 17 };
/** Number of dimensions, whether there are NULLs, type of the elements; their number, and the index of the first. */
const arrayHeaderBytes = 5 * 4;

/** Puts together what follows each other, and divides the rest. */
export function* batchPutsOf(found: Iterable<LargeObjectBytes>): Generator<PutBatch, void> {
  let batch: PutBatch = { puts: [], bytes: 0 };
  let last: Put | undefined;
  for (const { oid, offset, bytes } of found) {
    for (let from = 0; from < bytes.length; ) {
      const isFull = batch.bytes === batchBytes;
      const goesOn = last?.oid === oid && last.offset + last.bytes === offset + from;
      if (isFull || (batch.puts.length === batchPuts && !goesOn)) {
        yield batch;
        batch = { puts: [], bytes: 0 };
        last = undefined;
        continue;
      }
      const part = bytes.subarray(from, from + batchBytes - batch.bytes);
      if (last === undefined || !goesOn) {
        last = { oid, offset: offset + from, parts: [], bytes: 0 };
        batch.puts.push(last);
      }
      last.parts.push(part);
      last.bytes += part.length;
      batch.bytes += part.length;
      from += part.length;
    }
  }
  if (batch.puts.length > 0) yield batch;
}

/** The largest that {@link encodePuts} writes. */
export const encodedPutsBytes = 2 + 3 * (4 + arrayHeaderBytes) + batchPuts * (8 + 12 + 4) + batchBytes;

/** Writes the parameters of {@link putsSql} as the protocol has them. @returns the part of the buffer that they take. */
export function encodePuts(into: Buffer, { puts, bytes }: PutBatch): Buffer {
  let at = into.writeInt16BE(3, 0);
  const beginArray = (type: number, elementsBytes: number) => {
    at = into.writeInt32BE(arrayHeaderBytes + elementsBytes, at);
    for (const value of [1, 0, type, puts.length, 1]) at = into.writeInt32BE(value, at);
  };
  beginArray(elementType.oid, puts.length * 8);
  for (const { oid } of puts) {
    at = into.writeInt32BE(4, at);
    at = into.writeUInt32BE(oid, at);
  }
  beginArray(elementType.int8, puts.length * 12);
  for (const { offset } of puts) {
    at = into.writeInt32BE(8, at);
    at = into.writeBigInt64BE(BigInt(offset), at);
  }
  beginArray(elementType.bytea, puts.length * 4 + bytes);
  for (const put of puts) {
    at = into.writeInt32BE(put.bytes, at);
    for (const part of put.parts) {
      into.set(part, at);
      at += part.length;
    }
  }
  return into.subarray(0, at);
}
