// The public summary of a backup, readable without any key. A backup exists exactly when this object exists.
import { PgkeepError } from '../base/errors.ts';
import {
  fields,
  isCount,
  isFlag,
  isText,
  isTime,
  isWhole,
  listOf,
  optional,
  orNull,
  parseJson,
} from './checked-json.ts';

export interface BackupMetadata {
  id: string;
  /** When the snapshot was taken, ISO 8601. */
  timestamp: string;
  /** The version of pgkeep that wrote it. */
  version: string;
  type: 'database';
  database: string;
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

const metadataShape = fields({
  id: isText,
  timestamp: isTime,
  version: isText,
  type: isText,
  database: isText,
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
