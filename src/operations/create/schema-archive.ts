// Everything that is not row data of an ordinary table, as a pg_dump custom-format archive of the same snapshot,
// streamed into segments.
import type { Readable } from 'node:stream';
import { runProgram } from '../../base/child-process.ts';
import { PgkeepError } from '../../base/errors.ts';
import { ArchiveScan, type LargeObjectGroup } from '../../postgres/archive-scan.ts';
import type { Relation, Selection } from '../../postgres/catalog.ts';
import { patternsForTables } from '../../postgres/pattern.ts';
import type { Program } from '../../postgres/programs.ts';
import { serverProgramFailure } from '../../postgres/server-error.ts';
import type { SegmentRef } from '../../repository/manifest.ts';
import type { SegmentStore } from '../../repository/segment-store.ts';

export interface SchemaArchiveOptions {
  program: Program;
  env: Readonly<Record<string, string>>;
  /** Of the database. */
  encoding: string;
  snapshotId: string;
  selection: Selection;
  schemaOnly: boolean;
  /** Relations that the role may not even define. */
  without: readonly Relation[];
  /** Relations whose rows are read elsewhere, or may not be read. */
  withoutData: readonly Relation[];
  /** All relations of the database, those among them. */
  relations: readonly Relation[];
  /** All of them, though some may not be readable. */
  withoutLargeObjects: boolean;
  /** Whether the archive is to end in front of their contents. */
  cutsLargeObjects: boolean;
  /** How long pg_dump waits for locks of its own: on what belongs to extensions. */
  lockWaitMs: number;
  /** What pg_dump says without failing, such as subscriptions it may not read. */
  onWarning: (message: string) => void;
  store: SegmentStore;
  /** Nothing is stored before this is fulfilled; when it fails, that is the failure. */
  storeAfter: Promise<unknown>;
  signal: AbortSignal;
}

export interface StoredArchive {
  bytes: number;
  segments: SegmentRef[];
  /** Whether all came that its table of contents names, but for the contents of `largeObjects`. */
  isWhole: boolean;
  /** Large objects whose contents are to follow it: see large-objects.ts. */
  largeObjects: readonly LargeObjectGroup[];
}

/** Argument lists beyond this do not start on Linux (a quarter of the usual 8 MiB stack). */
const maxArgumentBytes = 1_900_000;

/**
 * Ends pg_dump where the contents of large objects begin: others read these at once, which pg_dump reads one by one.
 * @throws PgkeepError PROGRAM_FAILED with what pg_dump said, STANDBY_CONFLICT, DATABASE_CONNECTION_LOST; INTERRUPTED.
 */
export async function storeSchemaArchive(options: SchemaArchiveOptions): Promise<StoredArchive> {
  const { program, store } = options;
  const args = dumpArguments(options);
  // It may fail before pg_dump has written anything and somebody waits for it.
  options.storeAfter.catch(() => undefined);
  const scan = new ArchiveScan(options.cutsLargeObjects);
  let stored: { bytes: number; segments: SegmentRef[] } = { bytes: 0, segments: [] };
  const result = await runProgram({
    file: program.file,
    args,
    // Patterns go to the server in the client's encoding, and ours are UTF-8. SQL_ASCII says nothing about its bytes.
    env: { ...options.env, PGCLIENTENCODING: options.encoding === 'SQL_ASCII' ? 'SQL_ASCII' : 'UTF8' },
    signal: options.signal,
    onStdout: async (stdout: Readable) => {
      stored = await store.storeStream(heldBack(scan.pass(stdout), options.storeAfter));
    },
  });
  // Output already written proves nothing: only a clean end makes the archive whole. A pg_dump whose output was closed
  // has written all that was wanted of it, and what becomes of it then is no matter.
  if (result.status !== 0 && !scan.isCut)
    throw serverProgramFailure(program.file, result, 'dumping the schema');
  for (const line of result.stderr.split('\n'))
    if (line.includes(': warning: ')) options.onWarning(line.trim());
  return { ...stored, isWhole: scan.isWhole, largeObjects: scan.largeObjects };
}

/**
 * Reads one chunk ahead and no more, so that a program which writes on waits. It must not be none: what nobody has begun to
 * read when a program ends, Node throws away.
 */
async function* heldBack(source: AsyncIterable<Buffer>, until: Promise<unknown>): AsyncIterable<Buffer> {
  for await (const chunk of source) {
    await until;
    yield chunk;
  }
}

function dumpArguments(options: SchemaArchiveOptions): string[] {
  const { selection, relations, without, withoutData } = options;
  const args = [
    '--format=custom',
    '--compress=0',
    `--snapshot=${options.snapshotId}`,
    `--lock-wait-timeout=${options.lockWaitMs}`,
  ];
  args.push(...selection.schemas.map(pattern => `--schema=${pattern}`));
  args.push(...selection.excludeSchemas.map(pattern => `--exclude-schema=${pattern}`));
  args.push(...selection.tables.map(pattern => `--table=${pattern}`));
  const excludeTables = [
    ...selection.excludeTables,
    ...patternsForTables(without, others(relations, without)),
  ];
  args.push(...excludeTables.map(pattern => `--exclude-table=${pattern}`));
  // The short form, as the long one was renamed.
  if (options.withoutLargeObjects) args.push('-B');
  if (options.schemaOnly) {
    args.push('--schema-only');
  } else {
    const withData = others(relations, withoutData).filter(({ kind }) => !isWithoutData(kind));
    const excluded = [...selection.excludeTableData, ...patternsForTables(withoutData, withData)];
    args.push(...excluded.map(pattern => `--exclude-table-data=${pattern}`));
  }
  if (args.reduce((bytes, arg) => bytes + Buffer.byteLength(arg) + 9, 0) > maxArgumentBytes) {
    throw new PgkeepError(
      'PROGRAM_FAILED',
      `${without.length + withoutData.length} tables are too many for one call of pg_dump`,
      {
        hint: 'make several backups with --schema',
      },
    );
  }
  return args;
}

function others(relations: readonly Relation[], named: readonly Relation[]): Relation[] {
  const oids = new Set(named.map(({ oid }) => oid));
  return relations.filter(({ oid }) => !oids.has(oid));
}

/** Of these pg_dump dumps no data, whether it is excluded or not: views, partitioned and foreign tables. */
function isWithoutData(kind: string): boolean {
  return ['v', 'p', 'f'].includes(kind);
}
