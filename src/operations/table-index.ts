// The ranges of a table in a backup, from the manifest or from the table's index.
import {
  formatRanges,
  inlineRanges,
  type Manifest,
  parseRanges,
  type RangeEntry,
  type SegmentRef,
  type TableEntry,
} from '../repository/manifest.ts';
import type { Repository } from '../repository/repository.ts';
import { segmentBytes } from '../repository/segment.ts';
import type { SegmentStore } from '../repository/segment-store.ts';

/** @throws PgkeepError OBJECT_MISSING, OBJECT_DAMAGED. */
export async function readRanges(
  repository: Repository,
  { keys }: Pick<Manifest, 'keys'>,
  table: TableEntry,
): Promise<RangeEntry[]> {
  if (table.ranges !== undefined) return table.ranges;
  const pieces: Buffer[] = [];
  for await (const piece of repository.readSegments(table.index ?? [])) pieces.push(piece);
  return parseRanges(table, Buffer.concat(pieces), keys);
}

/** The `ranges` or `index` field of a table's manifest entry; long lists are stored as segments. */
export async function storeRanges(
  store: SegmentStore,
  ranges: RangeEntry[],
): Promise<Pick<TableEntry, 'ranges' | 'index'>> {
  if (ranges.length <= inlineRanges) return { ranges };
  const text = Buffer.from(formatRanges(ranges, store.keys));
  const index: SegmentRef[] = [];
  for (let at = 0; at < text.length; at += segmentBytes) {
    index.push(await store.store(text.subarray(at, at + segmentBytes)));
  }
  return { index };
}
