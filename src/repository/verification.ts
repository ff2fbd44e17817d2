// The last verification of a backup: an object of its own beside the metadata, readable without any key and replaced
// by the next verification. It never holds row data, nor what a server or program said, which may quote some.
import { type ErrorCode, PgkeepError } from '../base/errors.ts';
import { forEachAtOnce } from '../base/for-each-at-once.ts';
import type { Storage } from '../storage/storage.ts';
import { isBackupId } from './backup-id.ts';
import {
  fields,
  isCount,
  isFlag,
  isText,
  isTime,
  listOf,
  oneOf,
  optional,
  orNull,
  parseJson,
  type Shape,
} from './checked-json.ts';
import { verifiedName, verifiedPrefix } from './layout.ts';
import type { BackupMetadata } from './metadata.ts';

/** How deep a verification looks; each level does what the ones before it do. */
export const verifyLevels = ['metadata', 'data', 'restore'] as const;
export type VerifyLevel = (typeof verifyLevels)[number];

/** The share of a backup's segments that was read, when not all were asked for. */
export interface Sample {
  /** What was asked for: more than 0, at most 100. */
  percent: number;
  segments: number;
  ofSegments: number;
}

/** Page ranges of a table that follow each other. */
export interface RangeSpan {
  /** Numbers of the first and the last range, counted from 0 in the order of the manifest. */
  first: number;
  last: number;
  /** Their pages in the source; `null` for a table that was read as one, and at the open end of the last range. */
  firstPage: number | null;
  lastPage: number | null;
}

/** A table that a problem concerns; without ranges all of it. */
export interface ConcernedTable {
  schema: string;
  name: string;
  ranges?: RangeSpan[];
}

/** A problem as it is remembered: without its message. */
export interface RememberedProblem {
  code: ErrorCode;
  /** The object that is damaged, missing or contradicts others. */
  object?: string;
  /** Missing where the backup's metadata keep table names private. */
  tables?: ConcernedTable[];
}

export interface VerificationRecord {
  backupId: string;
  /** The manifest's, as the metadata named it: a verification says nothing about another manifest. */
  checksum: string | null;
  level: VerifyLevel;
  valid: boolean;
  checksumValid: boolean;
  encryptionValid: boolean;
  sizeValid: boolean;
  rowsCompared: number;
  /** `null` when everything was read that the level reads. */
  sample: Sample | null;
  /** The last time all of it was read, or restored, and found valid, and nothing has been found wrong since. */
  lastFull: { level: 'data' | 'restore'; verifiedAt: string } | null;
  /** How many problems there were; `errors` holds the first hundred. */
  errorCount: number;
  errors: RememberedProblem[];
  /** ISO 8601, by the clock of the machine that verified. */
  verifiedAt: string;
  /** The version of pgkeep that verified. */
  version: string;
}

const page = orNull(isCount);
const isNumber: Shape = value => (typeof value === 'number' ? undefined : '');

const recordShape = fields({
  backupId: isText,
  checksum: orNull(isText),
  level: oneOf(...verifyLevels),
  valid: isFlag,
  checksumValid: isFlag,
  encryptionValid: isFlag,
  sizeValid: isFlag,
  rowsCompared: isCount,
  sample: orNull(fields({ percent: isNumber, segments: isCount, ofSegments: isCount })),
  lastFull: orNull(fields({ level: oneOf('data', 'restore'), verifiedAt: isTime })),
  errorCount: isCount,
  errors: listOf(
    fields({
      // Codes of a later version are welcome: they are only shown.
      code: isText,
      object: optional(isText),
      tables: optional(
        listOf(
          fields({
            schema: isText,
            name: isText,
            ranges: optional(
              listOf(fields({ first: isCount, last: isCount, firstPage: page, lastPage: page })),
            ),
          }),
        ),
      ),
    }),
  ),
  verifiedAt: isTime,
  version: isText,
});

/**
 * Whether a backup counts as verified: all of its data was read or restored, and nothing was found wrong since. A
 * verification of the metadata alone, or of a sample, does not make it so.
 */
export function countsAsVerified(
  record: VerificationRecord | undefined,
  metadata: Pick<BackupMetadata, 'checksum'>,
): boolean {
  return record?.valid === true && record.lastFull !== null && record.checksum === metadata.checksum;
}

/** Whether the last verification of a backup found something wrong with it. */
export function wasFoundDamaged(
  record: VerificationRecord | undefined,
  metadata: Pick<BackupMetadata, 'checksum'>,
): boolean {
  return record?.valid === false && record.checksum === metadata.checksum;
}

/** @throws PgkeepError OBJECT_DAMAGED when the object is not the verification of the backup it is named for. */
export function parseVerification(id: string, bytes: Buffer): VerificationRecord {
  const name = verifiedName(id);
  const record = parseJson(name, bytes, recordShape) as VerificationRecord;
  if (record.backupId !== id) {
    throw new PgkeepError('OBJECT_DAMAGED', `${name} is damaged: it is not the verification of ${id}`, {
      hint: 'verify the backup again',
      context: { object: name },
    });
  }
  return record;
}

/**
 * The remembered verifications of backups.
 * @param ids only of these; of all without it.
 * @returns also the damaged ones, as errors: they are worth a warning, and as good as none.
 * @throws PgkeepError STORAGE_UNREACHABLE, STORAGE_DENIED.
 */
export async function readVerifications(
  storage: Storage,
  ids?: ReadonlySet<string>,
): Promise<{ records: Map<string, VerificationRecord>; damaged: PgkeepError[] }> {
  const found: string[] = [];
  for await (const object of storage.list(verifiedPrefix)) {
    const id = object.name.slice(verifiedPrefix.length, -'.json'.length);
    if (isBackupId(id) && object.name === verifiedName(id) && (ids?.has(id) ?? true)) found.push(id);
  }
  const records = new Map<string, VerificationRecord>();
  const damagedRecords: PgkeepError[] = [];
  await forEachAtOnce(found, async id => {
    try {
      records.set(id, parseVerification(id, await storage.get(verifiedName(id))));
    } catch (error) {
      if (!(error instanceof PgkeepError)) throw error;
      if (error.code === 'OBJECT_DAMAGED') damagedRecords.push(error);
      // One that was removed since it was listed went with its backup.
      else if (error.code !== 'OBJECT_MISSING') throw error;
    }
  });
  return { records, damaged: damagedRecords };
}

/** The remembered verification of one backup, as {@link readVerifications} has it. */
export async function readVerification(
  storage: Storage,
  id: string,
): Promise<{ record: VerificationRecord | undefined; damaged: PgkeepError | undefined }> {
  try {
    return { record: parseVerification(id, await storage.get(verifiedName(id))), damaged: undefined };
  } catch (error) {
    if (!(error instanceof PgkeepError)) throw error;
    if (error.code === 'OBJECT_DAMAGED') return { record: undefined, damaged: error };
    if (error.code === 'OBJECT_MISSING') return { record: undefined, damaged: undefined };
    throw error;
  }
}

/** Remembers a verification in place of an earlier one. @throws PgkeepError STORAGE_DENIED, STORAGE_FULL, ... */
export async function writeVerification(storage: Storage, record: VerificationRecord): Promise<void> {
  await storage.put(verifiedName(record.backupId), Buffer.from(`${JSON.stringify(record, null, 2)}\n`));
}
