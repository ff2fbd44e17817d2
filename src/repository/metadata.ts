// The public summary of a backup, readable without any key. A backup exists exactly when this object exists.
import { PgkeepError } from '../base/errors.ts';

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
  complete: boolean;
}

/** @throws PgkeepError OBJECT_DAMAGED when the object is not a metadata of the backup it is named for. */
export function parseMetadata(name: string, id: string, bytes: Buffer): BackupMetadata {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new PgkeepError('OBJECT_DAMAGED', `${name} is damaged: it is not JSON`, {
      context: { object: name },
      cause,
    });
  }
  if (!isMetadata(value) || value.id !== id) {
    throw new PgkeepError('OBJECT_DAMAGED', `${name} is damaged: it is not the metadata of ${id}`, {
      context: { object: name },
    });
  }
  return value;
}

function isMetadata(value: unknown): value is BackupMetadata {
  if (typeof value !== 'object' || value === null) return false;
  const fields = value as Partial<Record<keyof BackupMetadata, unknown>>;
  return (
    typeof fields.id === 'string' &&
    typeof fields.timestamp === 'string' &&
    !Number.isNaN(Date.parse(fields.timestamp)) &&
    typeof fields.database === 'string' &&
    typeof fields.checksum === 'string' &&
    typeof fields.recordCount === 'number' &&
    typeof fields.sizeBytes === 'number' &&
    Array.isArray(fields.tags) &&
    typeof fields.complete === 'boolean'
  );
}
