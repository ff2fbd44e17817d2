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

type Slice = Reference & { offset: number; bytes: number };

interface Range {
  rows: number;
  bytes: number;
  slices: Slice[];
  gone?: Slice[];
  ctids?: Slice[];
  base?: { rows: number; slices: number; ctids: number; deltas: number; added: number };
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
  /** The last ones opened. */
  readonly #segments = new Map<string, Buffer>();

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

  /** The ranges of a table; their keys are indices into the manifest's, wherever they come from. */
  ranges(table: Table, { keys }: Pick<ReadManifest, 'keys'>): Range[] {
    if (table.ranges !== undefined) return table.ranges;
    const text = this.#join(table.index ?? []).toString();
    check(text.endsWith('\n'), 'the index is cut');
    const [head, ...ranges] = text
      .slice(0, -1)
      .split('\n')
      .map(line => JSON.parse(line));
    for (const slice of ranges.flatMap(segmentsOf)) {
      if (slice.key !== -1) slice.key = keys.indexOf(head.keys[slice.key]);
      check(slice.key === -1 ? !this.#isEncrypted : slice.key >= 0, 'a key of an index');
    }
    return ranges;
  }

  /** The row text of a table. */
  rows(table: Table, manifest: Pick<ReadManifest, 'keys'>): Buffer {
    const pieces: Buffer[] = [];
    let bytes = 0;
    for (const range of this.ranges(table, manifest)) {
      const slices = range.slices.map(slice => this.#slice(slice));
      const text = Buffer.concat(slices);
      const lines = linesOf(text);
      const gone = new Set(range.gone && only(readLists(this.#text(range.gone))));
      check(
        [...gone].every(line => line < lines.length),
        'a line that is gone',
      );
      const rows = lines.filter((_, line) => !gone.has(line));
      check(text.length === range.bytes && rows.length === range.rows, 'range');
      const base = linesOf(Buffer.concat(slices.slice(0, range.base?.slices)));
      this.#checkParts(range, base.length, lines.length - base.length);
      bytes += text.length;
      pieces.push(...rows);
    }
    check(bytes === table.bytes && pieces.length === table.rows, 'table');
    return Buffer.concat(pieces);
  }

  /** What a restore does without: what is the base of a range, and where lines lay. */
  #checkParts({ ctids, base }: Range, baseLines: number, addedLines: number): void {
    check(base === undefined || (baseLines === base.rows && addedLines === base.added), 'base');
    if (ctids === undefined) return;
    const [list, ...lists] = readLists(this.#text(ctids.slice(0, base?.ctids)));
    check(list?.length === baseLines && lists.length === 0, 'ctids of a base');
    const added = base === undefined ? [] : readLists(this.#text(ctids.slice(base.ctids)));
    check(added.length === (base?.deltas ?? 0) && added.flat().length === addedLines, 'ctids of deltas');
  }

  #text(slices: readonly Slice[]): Buffer {
    return Buffer.concat(slices.map(slice => this.#slice(slice)));
  }

  #slice(slice: Slice): Buffer {
    const plain = this.#segment(slice);
    check(slice.offset + slice.bytes <= plain.length, 'slice');
    return plain.subarray(slice.offset, slice.offset + slice.bytes);
  }

  #join(references: readonly Reference[]): Buffer {
    return Buffer.concat(references.map(reference => this.#segment(reference)));
  }

  #segment({ id, plainBytes }: Reference): Buffer {
    const known = this.#segments.get(id);
    if (known !== undefined) return known;
    const name = `segments/${id.slice(0, 2)}/${id}`;
    const plain = this.#open(name, 'segment', this.#object(name));
    check(plain.length === plainBytes, 'size of a segment');
    check(createHmac('sha256', this.#secret).update(plain).digest('hex') === id, 'segment id');
    // Those that many ranges share are not opened for each of them.
    if (this.#segments.size === 16) this.#segments.delete(only([...this.#segments.keys()].slice(0, 1)));
    this.#segments.set(id, plain);
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

/** Everything that a range names. */
export function segmentsOf({ slices, ctids = [], gone = [] }: Range): Slice[] {
  return [...slices, ...ctids, ...gone];
}

/** Each with the line feed that ends it. */
function linesOf(text: Buffer): Buffer[] {
  check(text.length === 0 || text.at(-1) === 10, 'the end of a line');
  const lines: Buffer[] = [];
  for (let at = 0; at < text.length; ) {
    const end = text.indexOf(10, at) + 1;
    lines.push(text.subarray(at, end));
    at = end;
  }
  return lines;
}

function readLists(bytes: Buffer): number[][] {
  let at = 0;
  const next = (): number => {
    let number = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[at++] ?? Number.NaN;
      number += (byte % 128) * factor;
      if (!(byte >= 128)) return number;
    }
  };
  const lists: number[][] = [];
  while (at < bytes.length) {
    const list: number[] = [];
    let end = 0;
    for (let runs = next(); runs > 0; runs--) {
      end += next();
      for (let left = next(); left > 0; left--) list.push(end++);
    }
    check(Number.isFinite(end), 'a number list');
    lists.push(list);
  }
  return lists;
}

function only<T>(items: readonly T[]): T {
  const [item, ...more] = items;
  if (item === undefined || more.length > 0) throw new Error(`does not agree: ${items.length} for one`);
  return item;
}

function check(isTrue: boolean, what: string): void {
  if (!isTrue) throw new Error(`does not agree: ${what}`);
}
