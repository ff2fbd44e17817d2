// What an earlier backup knows that a new one can use: its segments, the page ranges of its tables, and what is in them.
import { type ErrorCode, PgkeepError } from '../../base/errors.ts';
import { quoteQualified } from '../../postgres/identifiers.ts';
import { type Manifest, type RangeEntry, slicesOf } from '../../repository/manifest.ts';
import type { Repository } from '../../repository/repository.ts';
import type { SegmentStore } from '../../repository/segment-store.ts';
import { packRanges } from '../table-index.ts';
import { isComparable, type Parent, parseSnapshot } from './parent.ts';
import type { EarlierTable } from './read-tables.ts';

/** What is known from one earlier backup. */
export interface Learned {
  /** Pages of a range, by the quoted, qualified name of the table. */
  rangePages: ReadonlyMap<string, number>;
  /** Those that can be built on, if the backup can. */
  tables: Parent['tables'];
}

/** What an earlier backup that is no use to this one fails with. */
const useless = new Set<ErrorCode>([
  'BACKUP_NOT_FOUND',
  'OBJECT_MISSING',
  'OBJECT_DAMAGED',
  'REPOSITORY_MISMATCH',
  'REPOSITORY_UNSUPPORTED',
  'RECIPIENT_UNSUPPORTED',
]);

/** Whether an error says that an earlier backup cannot be read, and nothing worse. */
export function isUnreadable(error: unknown): error is PgkeepError {
  return error instanceof PgkeepError && useless.has(error.code);
}

/** Has the store know the segments of a backup. @throws PgkeepError OBJECT_MISSING, OBJECT_DAMAGED. */
export async function learnBackup(
  repository: Repository,
  store: SegmentStore,
  manifest: Manifest,
): Promise<Learned> {
  const rangePages = new Map<string, number>();
  const tables: Parent['tables'] = new Map();
  store.learn(manifest, manifest.archive.segments);
  for (const table of manifest.tables) {
    store.learn(manifest, table.index ?? []);
    const ranges = await packRanges(repository, manifest, table, store.ids);
    for (const range of ranges) store.learn(manifest, slicesOf(range));
    rangePages.set(quoteQualified(table.schema, table.name), table.rangePages);
    if (table.source !== undefined)
      tables.set(table.oid, { source: table.source, rangePages: table.rangePages, ranges });
  }
  return { rangePages, tables };
}

/**
 * What the parent has of a table, as far as this snapshot's server can compare with it.
 * @param xids of this snapshot.
 */
export function rangesInReach(
  { manifest, tables }: Parent,
  oid: string,
  xids: string,
): EarlierTable | undefined {
  const table = tables.get(oid);
  const then = parseSnapshot(manifest.snapshot.xids);
  const now = parseSnapshot(xids);
  if (table === undefined || then === undefined || now === undefined) return undefined;
  const isInReach = (range: RangeEntry) =>
    range.base === undefined || isComparable(BigInt(range.base.xmin), now.xmax);
  const range = (index: number) => {
    const found = table.ranges.at(index);
    return found !== undefined && isInReach(found) ? found : undefined;
  };
  return { range, xmin: String(then.xmin) };
}
