#!/usr/bin/env node
// pgkeep recovery kit 3
//
// Turns a backup that pgkeep made into an SQL script, which psql restores. Needs nothing but Node.js (22.15 or newer),
// the folder of the repository and, for an encrypted one, its key: neither pgkeep nor pg_restore. See README.txt.
//
// A repository is a folder of objects:
//
//   pgkeep.json                   says that this is a repository, and holds its secret
//   keys/<key id>.json            data keys, wrapped for the user's key
//   metadata/<backup id>.json     public summary; a backup exists when it has one
//   backups/<backup id>.backup    manifest, sealed: everything the backup consists of
//   segments/<aa>/<segment id>    data, sealed: row text, and the schema archive
//
// The schema archive holds all but the rows of ordinary tables. It is what `pg_dump --format=custom --compress=0` wrote;
// how that is read stands below at readArchive. Everything read is checked; the first thing wrong ends the script.
import { createDecipheriv, createHash, createHmac, hkdfSync } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import * as zlib from 'node:zlib';

const usage = `Usage: node pgkeep-recover.mjs [options]

  --repository <folder>  the repository; without it, the folder above the one of this script
  --list                 print the backups, newest first, and end
  --backup <id>          a backup, or latest (which is the default)
  --database <name>      the latest backup of this database
  --output <file>        a new file for the script; without it, it goes to standard output
  --key-file <file>      holds the key; without it, the variable BACKUP_ENCRYPTION_KEY does
  --roles                begin with the roles, for a server that lacks them
  --no-owner             everything belongs to the role that restores
  --no-privileges        leave out GRANT and REVOKE
  --no-tablespaces       everything in the default tablespace

Then, into an empty database that was made as the beginning of the script says:

  psql -X -q -o /dev/null -v ON_ERROR_STOP=1 -d <database> -f <file>
`;

/**
 * @typedef {{ type: string, recipient: string, salt: string, wrapped: string }} Recipient
 * @typedef {{ id: string, plainBytes: number }} Reference
 * @typedef {Reference & { offset: number, bytes: number }} Slice
 * @typedef {{ rows: number, bytes: number, slices: Slice[], gone?: Slice[] }} Range
 * @typedef {{ schema: string, name: string }} Name
 * @typedef {Name & { columns: string[], rows: number, bytes: number, loadVia?: Name, ranges?: Range[], index?: Reference[] }} Table
 * @typedef {{ name: string, attributes: string[], connectionLimit: number, validUntil: string | null, password?: string,
 *   comment: string | null, settings: { inThisDatabase: boolean, values: string[] }[] }} Role
 * @typedef {{ role: string, member: string, adminOption: boolean, inheritOption?: boolean, setOption?: boolean }} Membership
 * @typedef {{ format: number, requires: string[], repository: string, backup: string, server: { version: string },
 *   database: { name: string, encoding: string, collate: string, ctype: string, localeProvider: string, locale: string | null,
 *     icuRules: string | null, comment: string | null, settings: string[], owner: string, connectionLimit: number },
 *   snapshot: { takenAt: string },
 *   options: Record<'schemas' | 'excludeSchemas' | 'tables' | 'excludeTables', string[]>,
 *   archive: { bytes: number, segments: Reference[], unrestorable?: number[] },
 *   roles: { name: string, owns: boolean, isGranted: boolean, isNamed: boolean }[],
 *   extensions: { name: string, version: string }[],
 *   globals: { missing: string } | { roles: Role[], memberships: Membership[] },
 *   tables: Table[], partitioned: Name[], leftOut: (Name & { reason: string, missing?: boolean })[] }} Manifest
 * @typedef {{ id: string, timestamp: string, database: string, recordCount: number, tableCount: number, checksum: string,
 *   complete: boolean, server?: string | null, part?: { id: string, options?: Record<string, unknown> } }} Metadata
 * @typedef {{ dumpId: number, hasData: boolean, tag: string, kind: string, section: number, definition: string, drop: string,
 *   copy: string, schema: string | null, tablespace: string | null, accessMethod: string | null, relkind: string,
 *   owner: string, dependsOn: number[] }} Entry
 * @typedef {{ roles: boolean, owner: boolean, privileges: boolean, tablespaces: boolean }} Choices
 */

/** A failure that is told in a sentence. */
class Failure extends Error {}

/** @type {(condition: unknown, message: string) => asserts condition} */
function check(condition, message) {
  if (!condition) throw new Failure(message);
}

// --- The repository ---------------------------------------------------------------------------------------------------

class Repository {
  #folder;
  #userKey;
  #id;
  #isEncrypted;
  /** Keys the ids of segments. */
  #secret;
  /** @type {Map<string, Buffer>} */
  #dataKeys = new Map();
  /** Small tables share segments, and so does what is new in many ranges: the last ones are kept. @type {Map<string, Buffer>} */
  #opened = new Map();

  /**
   * @param {string} folder
   * @param {() => Buffer} userKey gives the user's key; asked only when it is needed.
   */
  constructor(folder, userKey) {
    this.#folder = folder;
    this.#userKey = userKey;
    check(
      fs.existsSync(path.join(folder, 'pgkeep.json')),
      `there is no repository at ${folder}: it has no pgkeep.json`,
    );
    const descriptor = this.#json('pgkeep.json');
    check(
      descriptor.format === 1,
      `pgkeep.json is of format ${descriptor.format}; this script knows format 1`,
    );
    const requires = descriptor.requires ?? [];
    check(
      requires.length === 0,
      `the repository needs what this script does not know: ${requires.join(', ')}`,
    );
    this.#id = String(descriptor.id);
    this.#isEncrypted = descriptor.encryption !== 'none';
    check(
      descriptor.secret && 'plain' in descriptor.secret === !this.#isEncrypted,
      'pgkeep.json is damaged or forged: its secret is in the clear, or not, other than its encryption says',
    );
    this.#secret = this.#isEncrypted
      ? this.#unwrap(descriptor.secret.recipients, 'pgkeep.json')
      : Buffer.from(descriptor.secret.plain, 'hex');
    check(this.#secret.length === 32, 'pgkeep.json is damaged: its secret has not 32 bytes');
  }

  /** @param {string} folder @returns {Metadata[]} all backups, newest first; needs no key. */
  static list(folder) {
    const metadata = path.join(folder, 'metadata');
    check(
      fs.existsSync(path.join(folder, 'pgkeep.json')),
      `there is no repository at ${folder}: it has no pgkeep.json`,
    );
    const files = fs.existsSync(metadata) ? fs.readdirSync(metadata) : [];
    return files
      .filter(file => /^backup-\d{13}-[0-9a-f]{8}\.json$/.test(file))
      .flatMap(file => {
        try {
          const found = parseJson(`metadata/${file}`, fs.readFileSync(path.join(metadata, file)));
          check(
            `${found.id}.json` === file,
            `metadata/${file} is damaged: it is not the metadata it is named for`,
          );
          return [found];
        } catch (error) {
          // The other backups may be whole.
          warn(error instanceof Error ? error.message : String(error));
          return [];
        }
      })
      .sort((a, b) => compare(b.timestamp, a.timestamp) || compare(b.id, a.id));
  }

  /** @param {Metadata} metadata @returns {Manifest} */
  manifest(metadata) {
    const name = `backups/${metadata.id}.backup`;
    const object = this.#object(name);
    const digest = createHash('sha256').update(object).digest('hex');
    check(
      digest === metadata.checksum,
      `${name} is damaged: its SHA-256 is not that of the backup's metadata`,
    );
    const manifest = parseJson(name, this.#open(name, 'manifest', object));
    check(manifest.format === 1, `${name} is of format ${manifest.format}; this script knows format 1`);
    check(
      manifest.requires.length === 0,
      `${name} needs what this script does not know: ${manifest.requires.join(', ')}`,
    );
    check(
      manifest.repository === this.#id && manifest.backup === metadata.id,
      `${name} belongs to another repository or backup`,
    );
    return manifest;
  }

  /** The plain bytes of a segment. @param {Reference} reference */
  segment({ id, plainBytes }) {
    const opened = this.#opened.get(id);
    if (opened !== undefined) return opened;
    check(/^[0-9a-f]{64}$/.test(id), `a segment is named ${JSON.stringify(id)}, which is no id`);
    const name = `segments/${id.slice(0, 2)}/${id}`;
    const plain = this.#open(name, 'segment', this.#object(name));
    check(
      plain.length === plainBytes,
      `${name} is damaged: it holds ${plain.length} bytes, not ${plainBytes}`,
    );
    const found = createHmac('sha256', this.#secret).update(plain).digest('hex');
    check(found === id, `${name} is damaged: its contents have another id`);
    for (const first of this.#opened.keys()) if (this.#opened.size >= 12) this.#opened.delete(first);
    this.#opened.set(id, plain);
    return plain;
  }

  /** @param {Slice} slice @param {string} what */
  slice(slice, what) {
    const segment = this.segment(slice);
    check(
      slice.offset + slice.bytes <= segment.length,
      `${what}: a slice reaches beyond segment ${slice.id}`,
    );
    return segment.subarray(slice.offset, slice.offset + slice.bytes);
  }

  /** @param {Table} table @returns {Range[]} */
  ranges({ schema, name, ranges, index }) {
    if (ranges !== undefined) return ranges;
    const text = Buffer.concat((index ?? []).map(reference => this.segment(reference))).toString('utf8');
    const what = `the index of table ${schema}.${name}`;
    check(text === '' || text.endsWith('\n'), `${what} is cut off`);
    // The first line tells which keys the segments are under.
    return text
      .split('\n')
      .slice(1, -1)
      .map(line => parseJson(what, Buffer.from(line)));
  }

  /**
   * Opens a sealed object: 7 bytes "pgkeep\0", format 1, suite (0 or 1), 16 bytes key id, 32 bytes salt, body, and a tag of
   * 16 bytes (suite 1: AES-256-GCM) or a digest of 32 (suite 0: SHA-256).
   * @param {string} name @param {'segment' | 'manifest'} kind @param {Buffer} object
   */
  #open(name, kind, object) {
    const damaged = `${name} is damaged`;
    check(object.length >= 57 + 16 + 5, `${damaged}: it is cut short`);
    check(
      object.toString('latin1', 0, 7) === 'pgkeep\0',
      `${damaged}: it does not begin like an object of pgkeep`,
    );
    check(object[7] === 1, `${name} is of format ${object[7]}; this script knows format 1`);
    check(
      object[8] === (this.#isEncrypted ? 1 : 0),
      `${damaged}: it is encrypted, or not, unlike its repository`,
    );
    const header = object.subarray(0, 57);
    if (!this.#isEncrypted) {
      const body = object.subarray(57, -32);
      const digest = createHash('sha256').update(name).update('\0').update(header).update(body).digest();
      check(digest.equals(object.subarray(-32)), `${damaged}: its SHA-256 is another`);
      return decode(name, body);
    }
    const key = hkdf(
      this.#dataKey(object.toString('hex', 9, 25)),
      object.subarray(25, 57),
      `pgkeep/1/${kind}`,
    );
    return decode(
      name,
      openGcm(damaged, key, Buffer.concat([header, Buffer.from(name)]), object.subarray(57)),
    );
  }

  /** @param {string} id */
  #dataKey(id) {
    const known = this.#dataKeys.get(id);
    if (known !== undefined) return known;
    const name = `keys/${id}.json`;
    const found = this.#json(name);
    check(found.id === id, `${name} is damaged: it is not the key it is named for`);
    const key = this.#unwrap(found.recipients, name);
    this.#dataKeys.set(id, key);
    return key;
  }

  /** Opens a key that is wrapped for the user's. @param {Recipient[]} recipients @param {string} name where they stand */
  #unwrap(recipients, name) {
    check(Array.isArray(recipients), `${name} is damaged: it names no recipients`);
    const userKey = this.#userKey();
    const fingerprint = createHmac('sha256', userKey).update('pgkeep/1/recipient').digest('hex').slice(0, 16);
    const mine = recipients.find(({ type, recipient }) => type === 'key' && recipient === fingerprint);
    check(
      mine,
      `the key is not a key of this repository: its fingerprint is ${fingerprint}, and ${name} is for ` +
        recipients.map(({ recipient }) => recipient).join(', '),
    );
    const key = hkdf(userKey, Buffer.from(mine.salt, 'base64'), 'pgkeep/1/wrap');
    const place = Buffer.from(`${this.#id}/${name}`);
    return openGcm(`the key in ${name} is damaged`, key, place, Buffer.from(mine.wrapped, 'base64'));
  }

  /** @param {string} name */
  #object(name) {
    try {
      return fs.readFileSync(path.join(this.#folder, name));
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : error;
      throw new Failure(code === 'ENOENT' ? `${name} is missing` : `${name} cannot be read: ${error}`);
    }
  }

  /** @param {string} name */
  #json(name) {
    return parseJson(name, this.#object(name));
  }
}

/** @param {string} a @param {string} b */
function compare(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** @param {string} name @param {Buffer} bytes */
function parseJson(name, bytes) {
  try {
    const value = JSON.parse(bytes.toString('utf8'));
    if (typeof value === 'object' && value !== null) return value;
  } catch {
    // Told below, with the name.
  }
  throw new Failure(`${name} is damaged: it is not JSON`);
}

/** HKDF with SHA-256, 32 bytes. @param {Buffer} key @param {Buffer} salt @param {string} info */
function hkdf(key, salt, info) {
  return Buffer.from(hkdfSync('sha256', key, salt, info, 32));
}

/**
 * AES-256-GCM with a nonce of zeros (each key is used once); the tag is the last 16 bytes.
 * @param {string} damaged begins the message @param {Buffer} key @param {Buffer} additional @param {Buffer} sealed
 */
function openGcm(damaged, key, additional, sealed) {
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, Buffer.alloc(12), { authTagLength: 16 });
    decipher.setAAD(additional);
    decipher.setAuthTag(sealed.subarray(-16));
    return Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()]);
  } catch {
    throw new Failure(`${damaged}: it does not decrypt`);
  }
}

/** A body: 1 byte codec (0 stored, 1 zstd), 4 bytes length, then the bytes. @param {string} name @param {Buffer} body */
function decode(name, body) {
  const length = body.readUInt32LE(1);
  check(length <= 64 * 1024 * 1024, `${name} is damaged: it says that it holds ${length} bytes`);
  check(body[0] === 0 || body[0] === 1, `${name} is compressed in a way that this script does not know`);
  let plain = body.subarray(5);
  if (body[0] === 1) {
    try {
      plain = zlib.zstdDecompressSync(plain, { maxOutputLength: Math.max(length, 64) });
    } catch {
      throw new Failure(`${name} is damaged: it does not decompress`);
    }
  }
  check(plain.length === length, `${name} is damaged: it holds ${plain.length} bytes, not ${length}`);
  return plain;
}

// --- The schema archive -----------------------------------------------------------------------------------------------

/** Takes bytes, integers and strings from the joined segments of the archive, of which one at a time is in memory. */
class ArchiveReader {
  #pieces;
  /** @type {Buffer} */
  #piece = Buffer.alloc(0);
  #at = 0;
  /** Bytes of an integer, and of a file offset; the header says them. */
  intBytes = 4;
  offsetBytes = 8;

  /** @param {Iterator<Buffer>} pieces */
  constructor(pieces) {
    this.#pieces = pieces;
  }

  /** Up to so many bytes that lie together; none at the end. @param {number} length */
  some(length) {
    while (this.#at === this.#piece.length) {
      const next = this.#pieces.next();
      if (next.done) return Buffer.alloc(0);
      this.#piece = next.value;
      this.#at = 0;
    }
    const bytes = this.#piece.subarray(this.#at, this.#at + length);
    this.#at += bytes.length;
    return bytes;
  }

  /** @param {number} length */
  bytes(length) {
    const parts = [];
    for (let missing = length; missing > 0; ) {
      const part = this.some(missing);
      check(part.length > 0, 'the schema archive is cut off');
      parts.push(part);
      missing -= part.length;
    }
    return parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts);
  }

  byte() {
    return this.bytes(1).readUInt8();
  }

  /** An integer: a byte of sign (0 or 1), then its bytes, the lowest first. */
  int() {
    const isNegative = this.byte() !== 0;
    let value = 0;
    for (const [index, byte] of this.bytes(this.intBytes).entries()) value += byte * 256 ** index;
    return isNegative ? -value : value;
  }

  /** A string: its length, then its bytes; a length of -1 is no string. Kept byte by byte, whatever the encoding. */
  string() {
    const length = this.int();
    return length < 0 ? null : this.bytes(length).toString('latin1');
  }
}

const preData = 2;
const data = 3;

/**
 * Reads the head of a custom-format archive, up to its data:
 *
 *   "PGDMP", version (3 bytes), bytes of an integer, bytes of an offset, format (1 is custom)
 *   compression: before version 1.15 an integer, from then on one byte; 0 is none
 *   7 integers of time; names of database, server version, pg_dump version
 *   number of entries, then each: dump id, whether it has data, two oids, tag, kind, section (1 none, 2 pre-data, 3 data,
 *   4 post-data), definition, DROP statement, COPY statement, schema, tablespace, table access method, from 1.16 on relkind,
 *   owner, "true" or "false", ids it depends on up to a missing string, state and offset of the data
 *
 * The data follows, in the order of the entries: a byte (1 data, 3 large objects) and the dump id. Data is pieces, each an
 * integer of its length and its bytes, ended by a length of 0. Large objects are oid and data, ended by an oid of 0.
 * (src/bin/pg_dump/pg_backup_archiver.c and pg_backup_custom.c of PostgreSQL.)
 *
 * @param {ArchiveReader} reader
 * @returns {Entry[]}
 */
function readArchive(reader) {
  check(
    reader.bytes(5).toString('latin1') === 'PGDMP',
    'the schema archive does not begin like one of pg_dump',
  );
  const [major, minor] = [reader.byte(), reader.byte()];
  reader.byte();
  check(
    major === 1 && minor >= 14 && minor <= 16,
    `the schema archive is of version ${major}.${minor}; this script knows 1.14 to 1.16 (PostgreSQL 12 to 18)`,
  );
  reader.intBytes = reader.byte();
  reader.offsetBytes = reader.byte();
  check(
    reader.intBytes <= 8 && reader.offsetBytes <= 8,
    'the schema archive is damaged: its integers are too long',
  );
  check(reader.byte() === 1, 'the schema archive is not in custom format');
  check((minor >= 15 ? reader.byte() : reader.int()) === 0, 'the schema archive is compressed');
  for (let times = 0; times < 7; times++) reader.int();
  for (let strings = 0; strings < 3; strings++) reader.string();
  const entries = [];
  for (let missing = reader.int(); missing > 0; missing--) entries.push(readEntry(reader, minor));
  return entries;
}

/** @param {ArchiveReader} reader @param {number} minor of the archive's version @returns {Entry} */
function readEntry(reader, minor) {
  const dumpId = reader.int();
  const hasData = reader.int() !== 0;
  reader.string();
  reader.string();
  const tag = reader.string() ?? '';
  const kind = reader.string() ?? '';
  const section = reader.int();
  const definition = reader.string() ?? '';
  const drop = reader.string() ?? '';
  const copy = reader.string() ?? '';
  const schema = reader.string();
  const tablespace = reader.string();
  const accessMethod = reader.string();
  const relkind = minor >= 16 ? String.fromCharCode(reader.int()) : '';
  const owner = reader.string() ?? '';
  reader.string();
  const dependsOn = [];
  for (let id = reader.string(); id !== null; id = reader.string()) dependsOn.push(Number(id));
  reader.bytes(1 + reader.offsetBytes);
  return {
    ...{ dumpId, hasData, tag, kind, section, definition, drop, copy, schema },
    ...{ tablespace, accessMethod, relkind, owner, dependsOn },
  };
}

/** The pieces of one run of data. @param {ArchiveReader} reader */
function* readData(reader) {
  for (let length = reader.int(); length !== 0; length = reader.int()) {
    check(length > 0, 'the schema archive is damaged: a piece of data has a negative length');
    for (let missing = length; missing > 0; ) {
      const part = reader.some(missing);
      check(part.length > 0, 'the schema archive is cut off');
      yield part;
      missing -= part.length;
    }
  }
}

/** @param {Entry} entry */
function isPrivilege({ kind }) {
  return kind === 'ACL' || kind === 'DEFAULT ACL';
}

/** What comes last of all: it would act upon, or may need, everything else. @param {Entry} entry */
function isLast({ kind, tag, section }) {
  if (kind === 'EVENT TRIGGER' || kind === 'MATERIALIZED VIEW DATA') return true;
  if (kind === 'STATISTICS DATA') return section !== preData && section !== data;
  return (kind === 'COMMENT' || kind === 'SECURITY LABEL') && tag.startsWith('EVENT TRIGGER ');
}

/**
 * Leaves out what is not for this restore: what is said elsewhere, and what refers to tables that a backup of some tables
 * does not hold.
 * @param {Entry[]} entries @param {Manifest} manifest @param {Choices} choices
 */
function chooseEntries(entries, manifest, choices) {
  const { schemas, excludeSchemas, tables, excludeTables } = manifest.options;
  const missing = manifest.leftOut.filter(entry => entry.missing);
  for (const { schema, name, reason } of missing)
    warn(`the backup lacks ${schema === '' ? name : `${schema}.${name}`}: ${reason}`);
  const isPartial =
    missing.length > 0 ||
    [schemas, excludeSchemas, tables, excludeTables].some(patterns => patterns.length > 0);
  // What needs something that is missing.
  const gone = new Set(manifest.archive.unrestorable ?? []);
  const kinds = new Map(
    entries.filter(({ dumpId }) => !gone.has(dumpId)).map(({ dumpId, kind }) => [dumpId, kind]),
  );
  for (const entry of isPartial ? entries : []) {
    if (gone.has(entry.dumpId)) continue;
    const needed = [...new Set(entry.dependsOn)].map(id => kinds.get(id) ?? '');
    const count = (/** @type {string[]} */ ...wanted) => needed.filter(kind => wanted.includes(kind)).length;
    const isDangling =
      (entry.kind === 'FK CONSTRAINT' && count('INDEX', 'CONSTRAINT') === 0) ||
      (entry.kind === 'TABLE ATTACH' && count('TABLE', 'FOREIGN TABLE') < 2) ||
      (entry.kind === 'INDEX ATTACH' && count('INDEX', 'CONSTRAINT') < 2);
    if (!isDangling) continue;
    gone.add(entry.dumpId);
    warn(`left out, as it needs a table that is not in the backup: ${entry.kind} ${utf8(entry.tag)}`);
  }
  return entries.filter(entry => {
    const { dumpId, kind, tag, dependsOn } = entry;
    if (['ENCODING', 'STDSTRINGS', 'SEARCHPATH', 'DATABASE', 'DATABASE PROPERTIES'].includes(kind))
      return false;
    const isAboutAnother = ['ACL', 'COMMENT', 'SECURITY LABEL'].includes(kind);
    if (isAboutAnother && tag.startsWith('DATABASE ')) return false;
    if (gone.has(dumpId) || (isAboutAnother && dependsOn.some(id => gone.has(id)))) return false;
    // pg_dump creates it when --schema names it, although every database has it.
    if (kind === 'SCHEMA' && tag === 'public' && schemas.length > 0) return false;
    // Extensions may belong to the provider of the server.
    if (!choices.owner && kind === 'COMMENT' && tag.startsWith('EXTENSION ')) return false;
    return choices.privileges || !isPrivilege(entry);
  });
}

// --- SQL --------------------------------------------------------------------------------------------------------------

/** @param {string} name */
function quoteName(name) {
  return `"${name.replaceAll('"', '""')}"`;
}

/** @param {string} text */
function quoteLiteral(text) {
  const quoted = `'${text.replaceAll("'", "''").replaceAll('\\', '\\\\')}'`;
  return text.includes('\\') ? ` E${quoted}` : quoted;
}

/** Bytes that are kept one by one, as text. @param {string} bytes */
function utf8(bytes) {
  return Buffer.from(bytes, 'latin1').toString('utf8');
}

/** A comment; line ends in it do not end it. @param {string} text */
function comment(text) {
  return `-- ${text.replaceAll(/\r\n|\r|\n/g, '\n-- ')}\n`;
}

/** Kinds whose owner is set by ALTER <kind> <name> OWNER TO. */
const ownedByName = new Set([
  ...[
    'COLLATION',
    'CONVERSION',
    'DOMAIN',
    'FOREIGN TABLE',
    'MATERIALIZED VIEW',
    'SEQUENCE',
    'STATISTICS',
    'TABLE',
  ],
  ...['TEXT SEARCH DICTIONARY', 'TEXT SEARCH CONFIGURATION', 'TYPE', 'VIEW', 'PROCEDURAL LANGUAGE', 'SCHEMA'],
  ...['EVENT TRIGGER', 'FOREIGN DATA WRAPPER', 'SERVER', 'PUBLICATION', 'SUBSCRIPTION'],
]);
/** Kinds named with arguments or more: as their DROP statement names them. */
const ownedAsDropped = new Set([
  'AGGREGATE',
  'FUNCTION',
  'OPERATOR',
  'OPERATOR CLASS',
  'OPERATOR FAMILY',
  'PROCEDURE',
]);

/** Writes entries of the archive as statements; remembers what the session is set to. */
class Definitions {
  #choices;
  /** Of groups of large objects, by dump id. @type {Map<number, string[]>} */
  #largeObjects;
  /** @type {string | undefined} */
  #tablespace;
  /** @type {string | undefined} */
  #accessMethod;

  /** @param {Entry[]} entries @param {Choices} choices */
  constructor(entries, choices) {
    this.#choices = choices;
    this.#largeObjects = new Map(
      entries
        .filter(({ kind }) => kind === 'BLOB METADATA')
        .map(({ dumpId, definition }) => [dumpId, definition.split('\n').filter(oid => /^\d+$/.test(oid))]),
    );
  }

  /** @param {Entry} entry @returns {string} bytes as in the archive */
  of(entry) {
    return (
      this.#settings(entry) +
      this.#definition(entry) +
      this.#owner(entry) +
      this.#partitionedAccessMethod(entry)
    );
  }

  /** @param {Entry} entry */
  #settings({ tablespace, accessMethod, relkind }) {
    let sql = '';
    if (this.#choices.tablespaces && tablespace !== null && tablespace !== this.#tablespace) {
      this.#tablespace = tablespace;
      sql += `SET default_tablespace = ${tablespace === '' ? "''" : quoteName(tablespace)};\n`;
    }
    if (accessMethod !== null && accessMethod !== this.#accessMethod && relkind !== 'p') {
      this.#accessMethod = accessMethod;
      sql += `SET default_table_access_method = ${quoteName(accessMethod)};\n`;
    }
    return sql;
  }

  /** @param {Entry} entry */
  #definition(entry) {
    const { kind, tag, definition, dumpId, dependsOn } = entry;
    if (kind === 'BLOB METADATA') {
      return this.#each(dumpId, oid => `SELECT pg_catalog.lo_create('${oid}');\n`);
    }
    if (kind === 'ACL' && tag.startsWith('LARGE OBJECTS')) {
      // Written for one of the group; holds for all.
      return this.#each(dependsOn[0] ?? 0, oid =>
        definition.replaceAll(
          /("(?:[^"]|"")*")|LARGE OBJECT \d+/g,
          (_, name) => name ?? `LARGE OBJECT ${oid}`,
        ),
      );
    }
    if (!this.#choices.owner && kind === 'SCHEMA' && !definition.startsWith('--')) {
      return `CREATE SCHEMA ${quoteName(tag)};\n\n`;
    }
    return definition === '' ? '' : `${definition}\n\n`;
  }

  /** @param {Entry} entry */
  #owner({ kind, tag, schema, owner, drop, dumpId }) {
    // What has no DROP statement cannot be owned.
    if (!this.#choices.owner || owner === '' || drop === '') return '';
    const to = `OWNER TO ${quoteName(owner)};\n\n`;
    if (kind === 'BLOB METADATA') return this.#each(dumpId, oid => `ALTER LARGE OBJECT ${oid} ${to}`);
    if (kind === 'BLOB') return `ALTER LARGE OBJECT ${tag} ${to}`;
    if (ownedAsDropped.has(kind)) return `ALTER ${drop.slice('DROP '.length).replace(/[;\n]+$/, '')} ${to}`;
    if (!ownedByName.has(kind)) return '';
    const name = schema === null || schema === '' ? quoteName(tag) : `${quoteName(schema)}.${quoteName(tag)}`;
    return `ALTER ${kind} ${name} ${to}`;
  }

  /** A partitioned table takes its access method only by ALTER TABLE. @param {Entry} entry */
  #partitionedAccessMethod({ relkind, accessMethod, schema, tag }) {
    if (relkind !== 'p' || accessMethod === null) return '';
    return `ALTER TABLE ${quoteName(schema ?? '')}.${quoteName(tag)} SET ACCESS METHOD ${quoteName(accessMethod)};\n\n`;
  }

  /** @param {number} dumpId of a group of large objects @param {(oid: string) => string} statement */
  #each(dumpId, statement) {
    const oids = this.#largeObjects.get(dumpId);
    check(oids, `the schema archive is damaged: entry ${dumpId} is no group of large objects`);
    return oids.map(statement).join('');
  }
}

/** @param {Manifest} manifest @param {Choices} choices */
function neededRoles({ roles }, choices) {
  return roles
    .filter(role => role.isNamed || (role.owns && choices.owner) || (role.isGranted && choices.privileges))
    .map(role => role.name);
}

/** @param {Role} role */
function roleStatements({
  name,
  attributes,
  connectionLimit,
  validUntil,
  password,
  comment: text,
  settings,
}) {
  const words = [...attributes];
  if (connectionLimit >= 0) words.push(`CONNECTION LIMIT ${connectionLimit}`);
  if (validUntil !== null) words.push(`VALID UNTIL ${quoteLiteral(validUntil)}`);
  if (password !== undefined) words.push(`PASSWORD ${quoteLiteral(password)}`);
  return [
    `CREATE ROLE ${quoteName(name)} WITH ${words.join(' ')}`,
    ...(text === null ? [] : [`COMMENT ON ROLE ${quoteName(name)} IS ${quoteLiteral(text)}`]),
    ...settings
      .filter(({ inThisDatabase }) => !inThisDatabase)
      .flatMap(({ values }) => values.map(value => `ALTER ROLE ${quoteName(name)} ${settingClause(value)}`)),
  ];
}

/** @param {Membership} membership */
function membershipStatement({ role, member, adminOption, inheritOption, setOption }) {
  const isOld = inheritOption === undefined;
  const options = isOld
    ? [...(adminOption ? ['ADMIN OPTION'] : [])]
    : [
        ...(adminOption ? ['ADMIN TRUE'] : []),
        `INHERIT ${inheritOption}`.toUpperCase(),
        `SET ${setOption ?? true}`.toUpperCase(),
      ];
  const clause = options.length === 0 ? '' : ` WITH ${options.join(', ')}`;
  return `GRANT ${quoteName(role)} TO ${quoteName(member)}${clause}`;
}

/** The roles that the backup names, each unless it exists, and what they are members of. @param {Manifest} manifest @param {Choices} choices */
function roleScript(manifest, choices) {
  const { globals } = manifest;
  if ('missing' in globals)
    throw new Failure(`the backup holds no roles (${globals.missing}); create them by hand`);
  const names = new Set(neededRoles(manifest, choices));
  const blocks = globals.roles
    .filter(({ name }) => names.has(name))
    .map(role => {
      const exists = `EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = ${quoteLiteral(role.name)})`;
      const statements = roleStatements(role).map(statement => `${statement};`);
      return `DO ${quoteLiteral(`BEGIN IF NOT ${exists} THEN ${statements.join(' ')} END IF; END`)};\n`;
    });
  const isThere = (/** @type {string} */ name) => names.has(name) || name.startsWith('pg_');
  const memberships = globals.memberships
    .filter(({ role, member }) => isThere(role) && isThere(member))
    .map(membership => `${membershipStatement(membership)};\n`);
  return `${comment('Roles, where they are missing.')}${[...blocks, ...memberships].join('')}\n`;
}

/** Settings whose value is a list of names. */
const listSettings =
  /^(search_path|temp_tablespaces|local_preload_libraries|session_preload_libraries|shared_preload_libraries|unix_socket_directories)$/i;

/** @param {string} setting name=value, as the catalog holds it */
function settingClause(setting) {
  const equals = setting.indexOf('=');
  const [name, value] = [setting.slice(0, equals), setting.slice(equals + 1)];
  const values = listSettings.test(name)
    ? [...value.matchAll(/"((?:[^"]|"")*)"|([^",\s]+)/g)].map(([, quoted, plain]) =>
        quoteLiteral(quoted?.replaceAll('""', '"') ?? plain ?? ''),
      )
    : [quoteLiteral(value)];
  return `SET ${quoteName(name)} TO ${values.length === 0 ? "''" : values.join(', ')}`;
}

/** @param {Manifest} manifest */
function createDatabase({ database, server }) {
  const { name, encoding, collate, ctype, localeProvider, locale, icuRules } = database;
  const literal = (/** @type {string} */ word, /** @type {string | null} */ value) =>
    value === null ? '' : ` ${word} ${quoteLiteral(value)}`;
  const provider = {
    // Not said, it is that of template0 on the new server, which may sort otherwise. Older ones know no other.
    libc: Number.parseInt(server.version, 10) >= 15 ? ' LOCALE_PROVIDER libc' : '',
    icu: ` LOCALE_PROVIDER icu${literal('ICU_LOCALE', locale)}${literal('ICU_RULES', icuRules)}`,
    builtin: ` LOCALE_PROVIDER builtin${literal('BUILTIN_LOCALE', locale)}`,
  };
  const clause = Object.entries(provider).find(([known]) => known === localeProvider)?.[1] ?? '';
  return `CREATE DATABASE ${quoteName(name)} TEMPLATE template0${literal('ENCODING', encoding)}${literal('LC_COLLATE', collate)}${literal('LC_CTYPE', ctype)}${clause};`;
}

/** @param {Manifest} manifest @param {Choices} choices */
function introduction(manifest, choices) {
  const { database, globals } = manifest;
  const name = quoteName(database.name);
  const described = 'missing' in globals ? [] : globals.roles;
  const needed = new Set(neededRoles(manifest, choices));
  const roles = described.filter(role => needed.has(role.name));
  const properties = [
    ...(database.comment === null
      ? []
      : [`COMMENT ON DATABASE ${name} IS ${quoteLiteral(database.comment)};`]),
    ...database.settings.map(setting => `ALTER DATABASE ${name} ${settingClause(setting)};`),
    ...roles.flatMap(role =>
      role.settings
        .filter(({ inThisDatabase }) => inThisDatabase)
        .flatMap(({ values }) => values)
        .map(value => `ALTER ROLE ${quoteName(role.name)} IN DATABASE ${name} ${settingClause(value)};`),
    ),
    ...(database.connectionLimit < 0
      ? []
      : [`ALTER DATABASE ${name} CONNECTION LIMIT ${database.connectionLimit};`]),
    ...(choices.owner ? [`ALTER DATABASE ${name} OWNER TO ${quoteName(database.owner)};`] : []),
  ];
  const extensions = manifest.extensions.map(extension => `${extension.name} ${extension.version}`);
  const lines = [
    `Database ${name} of PostgreSQL ${manifest.server.version}, as it was at ${manifest.snapshot.takenAt}.`,
    `Written from ${manifest.backup} by the recovery kit of pgkeep.`,
    '',
    'Make an empty database, and restore this into it with psql:',
    '',
    `  ${createDatabase(manifest)}`,
    '',
    '  psql -X -q -o /dev/null -v ON_ERROR_STOP=1 -d <database> -f <this file>',
    '',
    ...(extensions.length === 0
      ? []
      : [`The server must have these extensions installed: ${extensions.join(', ')}.`]),
    ...(choices.roles
      ? []
      : [`Roles that it names (--roles creates them): ${[...needed].map(quoteName).join(', ')}.`]),
    'Properties of the database, which this script does not set:',
    ...properties.map(property => `  ${property}`),
  ];
  return `${lines.map(comment).join('')}\n`;
}

// --- The script -------------------------------------------------------------------------------------------------------

/** Where the script goes. Bytes are handed on before more are made. */
class Output {
  /** @type {number | undefined} */
  #file;
  /** @type {string | undefined} */
  #path;

  /** @param {string | undefined} file */
  constructor(file) {
    this.#path = file;
    if (file === undefined) {
      process.stdout.on('error', error => {
        process.stderr.write(
          `pgkeep-recover: the reader of the script went away before its end (${error.message})\n`,
        );
        process.exit(1);
      });
      return;
    }
    check(!fs.existsSync(file), `${file} exists already; name a new file`);
    // Under another name until it is whole.
    this.#file = fs.openSync(`${file}.unfinished`, 'w', 0o600);
  }

  /** @param {Buffer | string} bytes a string is text in UTF-8 */
  async write(bytes) {
    const buffer = typeof bytes === 'string' ? Buffer.from(bytes) : bytes;
    if (this.#file === undefined) {
      if (!process.stdout.write(buffer)) await once(process.stdout, 'drain');
      return;
    }
    for (let at = 0; at < buffer.length; ) at += fs.writeSync(this.#file, buffer, at);
  }

  finish() {
    if (this.#file === undefined || this.#path === undefined) return;
    fs.fsyncSync(this.#file);
    fs.closeSync(this.#file);
    fs.renameSync(`${this.#path}.unfinished`, this.#path);
  }
}

/** @param {Repository} repository @param {Manifest} manifest @param {Choices} choices @param {Output} output */
async function writeScript(repository, manifest, choices, output) {
  let bytes = 0;
  const pieces = (function* () {
    for (const reference of manifest.archive.segments) {
      const piece = repository.segment(reference);
      bytes += piece.length;
      yield piece;
    }
    check(
      bytes === manifest.archive.bytes,
      `the schema archive has ${bytes} bytes, not ${manifest.archive.bytes}`,
    );
  })();
  const reader = new ArchiveReader(pieces);
  const all = readArchive(reader);
  const entries = chooseEntries(all, manifest, choices);
  const definitions = new Definitions(all, choices);
  const write = (/** @type {Entry} */ entry) => output.write(Buffer.from(definitions.of(entry), 'latin1'));
  // An entry without a section is of the same as the one before it.
  let section = preData;
  /** @type {Map<Entry, number>} */
  const sections = new Map();
  for (const entry of all) {
    if (entry.section > 1) section = entry.section;
    sections.set(entry, section);
  }
  const ordinary = entries.filter(entry => !isPrivilege(entry) && !isLast(entry));

  await output.write(introduction(manifest, choices));
  await output.write(sessionSettings(all));
  if (choices.roles) await output.write(roleScript(manifest, choices));
  if (manifest.options.tables.length > 0) {
    // A backup of single tables lacks the schemas they are in.
    const schemas = new Set([...manifest.tables, ...manifest.partitioned].map(table => table.schema));
    for (const schema of schemas) await output.write(`CREATE SCHEMA IF NOT EXISTS ${quoteName(schema)};\n`);
  }
  for (const entry of ordinary) if (sections.get(entry) === preData) await write(entry);

  await output.write(comment('Data.') + rowSettings.map(setting => `SET ${setting};\n`).join(''));
  const chosen = new Set(ordinary);
  for (const entry of all) {
    if (sections.get(entry) !== data) continue;
    // Data that is not wanted has to be read over.
    if (entry.hasData) await writeData(reader, entry, chosen.has(entry) ? output : null);
    else if (chosen.has(entry)) await write(entry);
  }
  check(reader.some(1).length === 0, 'the schema archive holds more than its table of contents says');
  for (const table of manifest.tables) await writeRows(repository, table, manifest.database.encoding, output);
  await output.write(rowSettings.map(setting => `RESET ${setting.replace(/ =.*/, '')};\n`).join(''));

  await output.write(`\n${comment('Indexes, constraints, triggers; privileges; materialized views.')}`);
  for (const entry of ordinary) if ((sections.get(entry) ?? 0) > data) await write(entry);
  for (const entry of entries) if (isPrivilege(entry)) await write(entry);
  for (const entry of entries) if (isLast(entry)) await write(entry);
  await output.write(comment('The end.'));
}

/** Settings under which the text of rows was written, and so is read. */
const rowSettings = ['DateStyle = ISO', 'IntervalStyle = postgres', "lc_monetary = 'C'", "TimeZone = 'UTC'"];

/** @param {Entry[]} entries */
function sessionSettings(entries) {
  const said = (/** @type {string} */ kind) => entries.find(entry => entry.kind === kind)?.definition ?? '';
  return `SET default_transaction_read_only = off;
SET transaction_read_only = off;
SET synchronous_commit = off;
SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout';
SET array_nulls = on;
SET transform_null_equals = off;
${said('ENCODING')}${said('STDSTRINGS')}${said('SEARCHPATH')}SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET escape_string_warning = off;
SET row_security = off;

`;
}

/**
 * The data of one entry: rows of an extension's configuration table, or large objects.
 * @param {ArchiveReader} reader @param {Entry} entry @param {Output | null} output null passes over it
 */
async function writeData(reader, entry, output) {
  const what = `the data of ${entry.kind} ${utf8(entry.tag)} in the schema archive`;
  const block = reader.some(1)[0];
  check(block !== undefined, `${what} is missing`);
  check(reader.int() === entry.dumpId, `${what} is not where it should be`);
  check(block === (entry.kind === 'BLOBS' ? 3 : 1), `${what} is of an unknown kind`);
  if (block === 1) {
    await output?.write(Buffer.from(entry.copy, 'latin1'));
    // With the line that ends it.
    for (const bytes of readData(reader)) await output?.write(bytes);
    return;
  }
  // Oids beyond 2,147,483,647 were written as negative numbers.
  for (let oid = reader.int() >>> 0; oid !== 0; oid = reader.int() >>> 0) {
    let offset = 0;
    for (const bytes of readData(reader)) {
      const contents = `pg_catalog.decode('${bytes.toString('hex')}', 'hex')`;
      await output?.write(`SELECT pg_catalog.lo_put(${oid}, ${offset}, ${contents});\n`);
      offset += bytes.length;
    }
  }
  await output?.write('\n');
}

/** The rows in the text of a page range: the lines that are not gone. */
class RemainingLines {
  /** Runs of lines that are gone: the first, and the one behind the last. @type {[number, number][]} */
  #gone = [];
  #run = 0;
  /** The line that was reached, counted from 0. */
  #line = 0;
  rows = 0;

  /**
   * @param {Buffer[]} gone a number list: how many runs, and of each its distance from the end of the one before and its length;
   *   seven bits a byte, the lowest first, the high bit set but in the last. Without any, no line is gone.
   * @param {string} name of the table
   */
  constructor(gone, name) {
    if (gone.length === 0) return;
    const list = Buffer.concat(gone);
    let at = 0;
    const next = () => {
      let number = 0;
      for (let factor = 1; ; factor *= 128) {
        const byte = list[at++];
        check(byte !== undefined, `${name}: a list of lines that are gone is cut off`);
        number += (byte % 128) * factor;
        if (byte < 128) return number;
      }
    };
    let end = 0;
    for (let runs = next(); runs > 0; runs--) {
      const first = end + next();
      end = first + next();
      this.#gone.push([first, end]);
    }
    check(at === list.length, `${name}: a list of lines that are gone does not end where it should`);
  }

  /** Whether all lines that are gone were there. */
  get isAtEnd() {
    return this.#run === this.#gone.length;
  }

  /** What is left of the next bytes of the text. @param {Buffer} text */
  of(text) {
    /** @type {Buffer[]} */
    const kept = [];
    for (let at = 0; at < text.length; ) {
      const [first, end] = this.#gone[this.#run] ?? [Infinity, Infinity];
      const isGone = this.#line >= first;
      const [start, startLine] = [at, this.#line];
      while (at < text.length && this.#line < (isGone ? end : first)) {
        const feed = text.indexOf(10, at);
        if (feed >= 0) this.#line++;
        at = feed < 0 ? text.length : feed + 1;
      }
      if (!isGone) {
        kept.push(text.subarray(start, at));
        this.rows += this.#line - startLine;
      } else if (this.#line === end) {
        this.#run++;
      }
    }
    const [only, ...more] = kept;
    return only !== undefined && more.length === 0 ? only : Buffer.concat(kept);
  }
}

const endOfRows = Buffer.from('\n\\.\n');

/** @param {Repository} repository @param {Table} table @param {string} encoding @param {Output} output */
async function writeRows(repository, table, encoding, output) {
  const name = `table ${table.schema}.${table.name}`;
  const into = table.loadVia ?? table;
  const columns = table.columns.length === 0 ? '' : ` (${table.columns.map(quoteName).join(', ')})`;
  const ranges = repository.ranges(table);
  let [rows, bytes] = [0, 0];
  let before = Buffer.from('\n');
  if (table.rows > 0) {
    const target = `${quoteName(into.schema)}.${quoteName(into.name)}`;
    await output.write(`COPY ${target}${columns} FROM STDIN WITH (ENCODING '${encoding}');\n`);
  }
  for (const [index, range] of ranges.entries()) {
    const lines = new RemainingLines(
      (range.gone ?? []).map(slice => repository.slice(slice, name)),
      name,
    );
    let rangeBytes = 0;
    for (const slice of range.slices) {
      rangeBytes += slice.bytes;
      const text = lines.of(repository.slice(slice, name));
      // Backslashes in values are doubled, so this cannot be in the text of rows.
      const seam = Buffer.concat([before, text.subarray(0, endOfRows.length)]);
      check(
        !seam.includes(endOfRows) && !text.includes(endOfRows),
        `${name} has a line that ends COPY for psql`,
      );
      before = Buffer.from(
        Buffer.concat([before, text.subarray(-endOfRows.length)]).subarray(1 - endOfRows.length),
      );
      await output.write(text);
    }
    check(
      lines.isAtEnd && lines.rows === range.rows && rangeBytes === range.bytes,
      `${name}: range ${index} has ${lines.rows} rows in ${rangeBytes} bytes, not ${range.rows} in ${range.bytes}`,
    );
    rows += lines.rows;
    bytes += rangeBytes;
  }
  check(
    rows === table.rows && bytes === table.bytes && before.at(-1) === 10,
    `${name} has ${rows} rows in ${bytes} bytes, not ${table.rows} in ${table.bytes}`,
  );
  if (rows > 0) await output.write('\\.\n\n');
}

// --- The command line -------------------------------------------------------------------------------------------------

/** @param {string} message */
function warn(message) {
  process.stderr.write(`warning: ${message}\n`);
}

/** @param {string | undefined} file @returns {Buffer} */
function readKey(file) {
  const text = file === undefined ? process.env.BACKUP_ENCRYPTION_KEY : fs.readFileSync(file, 'utf8');
  check(text, 'the repository is encrypted: set BACKUP_ENCRYPTION_KEY, or name a file with --key-file');
  check(/^[0-9a-fA-F]{64}$/.test(text.trim()), 'the key must be 64 hexadecimal digits');
  return Buffer.from(text.trim(), 'hex');
}

/** What a backup holds that is not whole. @param {Metadata} backup */
function partOf({ part }) {
  return part && `a part of the database (${part.options ? JSON.stringify(part.options) : part.id})`;
}

/**
 * The newest whole backup, else the newest part, of the database that is named, else of the one last backed up.
 * @param {Metadata[]} backups newest first @param {string | undefined} database
 */
function findLatest(backups, database) {
  const complete = backups.filter(one => one.complete);
  const own = complete.filter(one => one.database === (database ?? complete[0]?.database));
  const latest = own.find(one => one.part === undefined) ?? own[0];
  const [newest] = own;
  if (newest && newest !== latest)
    warn(`${newest.id} is newer than the latest whole backup, and holds ${partOf(newest)}`);
  const servers = new Set(own.map(one => one.server));
  if (servers.size > 1)
    warn(
      `there are backups of ${latest?.database} from ${servers.size} servers; the latest is of ${latest?.server}`,
    );
  return latest;
}

/** @param {Metadata[]} backups @param {string} backup @param {string | undefined} database */
function findBackup(backups, backup, database) {
  const found = backup === 'latest' ? findLatest(backups, database) : backups.find(one => one.id === backup);
  check(
    found,
    `there is no backup ${backup}${database === undefined ? '' : ` of database ${database}`}; see --list`,
  );
  return found;
}

async function main() {
  check(
    typeof zlib.zstdDecompressSync === 'function',
    `this is Node.js ${process.versions.node}, which has no zstd: take Node.js 22.15 or newer, from https://nodejs.org`,
  );
  const { values } = parseArgs({
    allowNegative: true,
    options: {
      repository: { type: 'string', default: path.dirname(path.dirname(fileURLToPath(import.meta.url))) },
      backup: { type: 'string', default: 'latest' },
      database: { type: 'string' },
      output: { type: 'string' },
      'key-file': { type: 'string' },
      list: { type: 'boolean', default: false },
      roles: { type: 'boolean', default: false },
      owner: { type: 'boolean', default: true },
      privileges: { type: 'boolean', default: true },
      tablespaces: { type: 'boolean', default: true },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(usage);
    return;
  }
  const backups = Repository.list(values.repository);
  if (values.list) {
    const isOfSeveral = new Set(backups.map(one => one.server)).size > 1;
    for (const backup of backups) {
      const { id, timestamp, database, tableCount, recordCount, complete, server } = backup;
      const part = partOf(backup);
      const note = `${isOfSeveral ? `  server ${server}` : ''}${complete ? '' : '  NOT COMPLETE'}${part ? `  ${part}` : ''}`;
      process.stdout.write(
        `${id}  ${timestamp}  ${database}  ${tableCount} tables  ${recordCount} rows${note}\n`,
      );
    }
    return;
  }
  const metadata = findBackup(backups, values.backup, values.database);
  const part = partOf(metadata);
  if (part) warn(`${metadata.id} holds ${part}`);
  const repository = new Repository(values.repository, () => readKey(values['key-file']));
  const manifest = repository.manifest(metadata);
  const output = new Output(values.output);
  await writeScript(repository, manifest, values, output);
  output.finish();
  const rows = manifest.tables.reduce((sum, table) => sum + table.rows, 0);
  process.stderr.write(
    `${metadata.id} of ${metadata.database}: ${manifest.tables.length} tables, ${rows} rows, all checked\n`,
  );
}

try {
  await main();
} catch (error) {
  const isOurs = error instanceof Failure || (error instanceof Error && 'code' in error);
  process.stderr.write(
    `pgkeep-recover: ${isOurs ? error.message : error instanceof Error ? error.stack : error}\n`,
  );
  process.stderr.write('The script that was written so far, if any, is not whole: do not use it.\n');
  process.exitCode = 1;
}
