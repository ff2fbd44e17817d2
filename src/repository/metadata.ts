// The public summary of a backup, readable without any key. A backup exists exactly when this object exists.
import { isDeepStrictEqual } from 'node:util';
import { PgkeepError } from '../base/errors.ts';
import {
  fields,
  isCount,
  isFlag,
  isText,
  isTime,
  isWhole,
  listOf,
  matching,
  oneOf,
  optional,
  orNull,
  parseJson,
} from './checked-json.ts';
import { leftOutLabel, type Manifest } from './manifest.ts';
import { type Part, partOf } from './series.ts';

export interface BackupMetadata {
  id: string;
  /** When the snapshot was taken, ISO 8601. */
  timestamp: string;
  /** The version of pgkeep that wrote it. */
  version: string;
  type: 'database';
  database: string;
  /** The system identifier of the server; `null` where it does not tell. Missing when somebody changed it. */
  server?: string | null;
  /** Missing when nothing was left out by choice. */
  part?: Part;
  /** `schema.name` of every table with rows in the backup; left out with --private-metadata. */
  tables?: string[];
  tableCount: number;
  recordCount: number;
  /** SHA-256 of the sealed manifest object, hex. */
  checksum: string;
  encrypted: boolean;
  compressed: boolean;
  /** Plain bytes. */
  sizeBytes: number;
  /** Bytes of all objects the backup needs, shared ones included. */
  storedBytes: number;
  /** Bytes of the objects this run added. */
  newBytes: number;
  durationMs: number;
  tags: string[];
  reason: string | null;
  /** Whether it holds all that was asked for. */
  complete: boolean;
  /** Of an incomplete one: how many relations and other objects are missing, and their names unless these are private. */
  missingCount?: number;
  missing?: string[];
}

const texts = optional(listOf(isText));

const part = fields({
  id: matching(/^[0-9a-f]{16}$/),
  options: optional(
    fields({
      schemas: texts,
      excludeSchemas: texts,
      tables: texts,
      excludeTables: texts,
      excludeTableData: texts,
      schemaOnly: optional(oneOf(true)),
    }),
  ),
});

const metadataShape = fields({
  id: isText,
  timestamp: isTime,
  version: isText,
  type: isText,
  database: isText,
  server: optional(orNull(matching(/^\d{1,20}$/))),
  part: optional(part),
  tables: optional(listOf(isText)),
  tableCount: isCount,
  recordCount: isCount,
  checksum: isText,
  encrypted: isFlag,
  compressed: isFlag,
  sizeBytes: isCount,
  storedBytes: isCount,
  newBytes: isCount,
  durationMs: isWhole,
  tags: listOf(isText),
  reason: orNull(isText),
  complete: isFlag,
  missingCount: optional(isCount),
  missing: optional(listOf(isText)),
});

/** @throws PgkeepError OBJECT_DAMAGED when the object is not a metadata of the backup it is named for. */
export function parseMetadata(name: string, id: string, bytes: Buffer): BackupMetadata {
  const metadata = parseJson(name, bytes, metadataShape) as BackupMetadata;
  if (metadata.id !== id) {
    throw new PgkeepError('OBJECT_DAMAGED', `${name} is damaged: it is not the metadata of ${id}`, {
      context: { object: name },
    });
  }
  return metadata;
}

/**
 * The fields that anybody may have changed since: those that are not what the manifest says, which only holders of the key
 * can write.
 * @param manifestBytes size of the manifest's object.
 */
export function changedFields(
  metadata: BackupMetadata,
  manifest: Manifest,
  manifestBytes: number,
  { encrypted, secret }: { encrypted: boolean; secret: Buffer },
): string[] {
  const missing = manifest.leftOut.filter(entry => entry.missing);
  const isPrivate = metadata.tables === undefined;
  const told: { [Field in keyof BackupMetadata]?: unknown } = {
    timestamp: manifest.snapshot.takenAt,
    version: manifest.tool.replace(/^pgkeep /, ''),
    type: 'database',
    database: manifest.database.name,
    server: manifest.server.systemIdentifier,
    part: partOf(manifest.options, { secret, isPrivate }),
    tables: isPrivate ? undefined : manifest.tables.map(table => `${table.schema}.${table.name}`),
    tableCount: manifest.tables.length,
    recordCount: manifest.tables.reduce((sum, table) => sum + table.rows, 0),
    encrypted,
    compressed: true,
    sizeBytes: manifest.tables.reduce((sum, table) => sum + table.bytes, manifest.archive.bytes),
    storedBytes: manifest.newBytes + manifest.reusedBytes + manifestBytes,
    newBytes: manifest.newBytes + manifestBytes,
    complete: missing.length === 0,
    missingCount: missing.length === 0 ? undefined : missing.length,
    missing: isPrivate || missing.length === 0 ? undefined : missing.map(leftOutLabel),
    tags: manifest.tags ?? metadata.tags,
    reason: manifest.reason === undefined ? metadata.reason : manifest.reason,
  };
  return Object.entries(told)
    .filter(([field, value]) => !isDeepStrictEqual(metadata[field as keyof BackupMetadata], value))
    .map(([field]) => field);
}
