// A second reader of format 1, written from docs/repository-format.md alone: nothing of src is used here, so that the
// document is shown to be enough. Reads repositories in folders.

import { createDecipheriv, createHash, createHmac, hkdfSync } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';

interface Recipient {
  type: string;
  recipient: string;
  salt: string;
  wrapped: string;
}

interface Reference {
  id: string;
  key: number;
  plainBytes: number;
  storedBytes: number;
}

interface Range {
  rows: number;
  bytes: number;
  slices: (Reference & { offset: number; bytes: number })[];
}

export interface Table {
  schema: string;
  name: string;
  columns: string[];
  rows: number;
  bytes: number;
  ranges?: Range[];
  index?: Reference[];
}

export interface ReadManifest {
  format: number;
  requires: string[];
  repository: string;
  backup: string;
  keys: string[];
  archive: { bytes: number; segments: Reference[] };
  tables: Table[];
}

export class SecondReader {
  readonly #folder: string;
  readonly #userKey: Buffer | undefined;
  readonly #id: string;
  readonly #secret: Buffer;
  readonly #isEncrypted: boolean;

  constructor(folder: string, keyText?: string) {
    this.#folder = folder;
    this.#userKey = keyText === undefined ? undefined : Buffer.from(keyText, 'hex');
    const descriptor = this.#json('pgkeep.json');
    check(descriptor.format === 1 && descriptor.requires.length === 0, 'newer format');
    this.#id = descriptor.id;
    this.#isEncrypted = descriptor.encryption !== 'none';
    check('plain' in descriptor.secret === !this.#isEncrypted, 'forged descriptor');
    this.#secret = this.#isEncrypted
      ? this.#unwrap(descriptor.secret.recipients, 'pgkeep.json')
      : Buffer.from(descriptor.secret.plain, 'hex');
    check(this.#secret.length === 32, 'secret');
  }

  /** Ids of the backups, newest first. */
  backups(): string[] {
    return readdirSync(join(this.#folder, 'metadata'))
      .filter(file => /^backup-\d{13}-[0-9a-f]{8}\.json$/.test(file))
      .map(file => this.#json(`metadata/${file}`))
      .sort((a, b) => (a.timestamp < b.timestamp || (a.timestamp === b.timestamp && a.id < b.id) ? 1 : -1))
      .map(metadata => metadata.id);
  }

  manifest(backup: string): ReadManifest {
    const name = `backups/${backup}.backup`;
    const object = this.#object(name);
    const { checksum } = this.#json(`metadata/${backup}.json`);
    check(createHash('sha256').update(object).digest('hex') === checksum, 'checksum');
    const manifest: ReadManifest = JSON.parse(this.#open(name, 'manifest', object).toString());
    check(manifest.format === 1 && manifest.requires.length === 0, 'newer format');
    check(manifest.repository === this.#id && manifest.backup === backup, 'belongs elsewhere');
    return manifest;
  }

  archive(manifest: ReadManifest): Buffer {
    const bytes = this.#join(manifest.archive.segments);
    check(bytes.length === manifest.archive.bytes, 'archive size');
    return bytes;
  }

  /** The ranges of a table, and whether they come from an index. */
  ranges(table: Table): Range[] {
    if (table.ranges !== undefined) return table.ranges;
    const lines = this.#join(table.index ?? []).toString();
    check(lines.endsWith('\n'), 'the index is cut');
    return lines
      .slice(0, -1)
      .split('\n')
      .map(line => JSON.parse(line));
  }

  /** The row text of a table. */
  rows(table: Table): Buffer {
    const pieces: Buffer[] = [];
    for (const range of this.ranges(table)) {
      const text = Buffer.concat(
        range.slices.map(slice => {
          const plain = this.#segment(slice);
          check(slice.offset + slice.bytes <= plain.length, 'slice');
          return plain.subarray(slice.offset, slice.offset + slice.bytes);
        }),
      );
      check(text.length === range.bytes && countLines(text) === range.rows, 'range');
      pieces.push(text);
    }
    const text = Buffer.concat(pieces);
    check(text.length === table.bytes && countLines(text) === table.rows, 'table');
    return text;
  }

  #join(references: readonly Reference[]): Buffer {
    return Buffer.concat(references.map(reference => this.#segment(reference)));
  }

  #segment({ id, plainBytes }: Reference): Buffer {
    const name = `segments/${id.slice(0, 2)}/${id}`;
    const plain = this.#open(name, 'segment', this.#object(name));
    check(plain.length === plainBytes, 'size of a segment');
    check(createHmac('sha256', this.#secret).update(plain).digest('hex') === id, 'segment id');
    return plain;
  }

  #open(name: string, kind: 'segment' | 'manifest', object: Buffer): Buffer {
    check(object.toString('latin1', 0, 7) === 'pgkeep\0' && object[7] === 1, 'magic');
    check(object[8] === (this.#isEncrypted ? 1 : 0), 'suite');
    const header = object.subarray(0, 57);
    if (!this.#isEncrypted) {
      const body = object.subarray(57, -32);
      const digest = createHash('sha256')
        .update(name)
        .update(Buffer.alloc(1))
        .update(header)
        .update(body)
        .digest();
      check(digest.equals(object.subarray(-32)), 'digest');
      return decode(body);
    }
    const keyName = `keys/${object.toString('hex', 9, 25)}.json`;
    const dataKey = this.#unwrap(this.#json(keyName).recipients, keyName);
    const key = hkdf(dataKey, object.subarray(25, 57), `pgkeep/1/${kind}`);
    return decode(openGcm(key, Buffer.concat([header, Buffer.from(name)]), object.subarray(57)));
  }

  #unwrap(recipients: Recipient[], name: string): Buffer {
    if (this.#userKey === undefined) throw new Error('no key');
    const fingerprint = createHmac('sha256', this.#userKey)
      .update('pgkeep/1/recipient')
      .digest('hex')
      .slice(0, 16);
    const mine = recipients.find(({ type, recipient }) => type === 'key' && recipient === fingerprint);
    if (mine === undefined) throw new Error('wrong key');
    const key = hkdf(this.#userKey, Buffer.from(mine.salt, 'base64'), 'pgkeep/1/wrap');
    return openGcm(key, Buffer.from(`${this.#id}/${name}`), Buffer.from(mine.wrapped, 'base64'));
  }

  #object(name: string): Buffer {
    return readFileSync(join(this.#folder, name));
  }

  #json(name: string) {
    return JSON.parse(this.#object(name).toString());
  }
}

function hkdf(key: Buffer, salt: Buffer, info: string): Buffer {
  return Buffer.from(hkdfSync('sha256', key, salt, info, 32));
}

function openGcm(key: Buffer, additional: Buffer, sealed: Buffer): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', key, Buffer.alloc(12));
  decipher.setAAD(additional);
  decipher.setAuthTag(sealed.subarray(-16));
  return Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()]);
}

function decode(body: Buffer): Buffer {
  const codec = body[0];
  check(codec === 0 || codec === 1, 'codec');
  const plain = codec === 0 ? body.subarray(5) : zstdDecompressSync(body.subarray(5));
  check(plain.length === body.readUInt32LE(1), 'plain length');
  return plain;
}

function countLines(text: Buffer): number {
  let lines = 0;
  for (let at = text.indexOf(10); at >= 0; at = text.indexOf(10, at + 1)) lines++;
  return lines;
}

function check(isTrue: boolean, what: string): void {
  if (!isTrue) throw new Error(`does not agree: ${what}`);
}
