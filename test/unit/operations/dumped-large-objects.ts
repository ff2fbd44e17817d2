// Large objects as pg_dump writes their contents into an archive.
import { largeObjectsHeader, writeArchiveInt } from '../../../src/postgres/archive-scan.ts';

const pieceBytes = 16 * 1024;

export interface LargeObject {
  oid: number;
  contents: Buffer;
}

export interface Group {
  dumpId: number;
  objects: LargeObject[];
}

function int(value: number): Buffer {
  const bytes = Buffer.alloc(5);
  writeArchiveInt(bytes, 0, value);
  return bytes;
}

/** What pg_dump writes behind the first group's header. */
export function asDumped(groups: readonly Group[]): Buffer {
  const parts: Buffer[] = [];
  for (const [index, { dumpId, objects }] of groups.entries()) {
    if (index > 0) parts.push(largeObjectsHeader(dumpId));
    for (const { oid, contents } of objects) {
      parts.push(int(oid));
      for (let at = 0; at < contents.length; at += pieceBytes) {
        const piece = contents.subarray(at, at + pieceBytes);
        parts.push(int(piece.length), piece);
      }
      parts.push(int(0));
    }
    parts.push(int(0));
  }
  return Buffer.concat(parts);
}
