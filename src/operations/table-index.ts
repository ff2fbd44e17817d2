// The ranges of a table in a backup: read into memory, and stored, in the manifest or as a table index.
import { freeBuffer } from '../base/free-buffer.ts';
import {
  formatRanges,
  inlineRanges,
  inlineSlices,
  type Manifest,
  type Ranges,
  type SegmentRef,
  slicesOf,
  type TableEntry,
} from '../repository/manifest.ts';
import { RangeList } from '../repository/range-list.ts';
import type { Repository } from '../repository/repository.ts';
import { segmentBytes } from '../repository/segment.ts';
import type { SegmentIds } from '../repository/segment-ids.ts';
import type { SegmentStore } from '../repository/segment-store.ts';
import { rangesOf } from '../repository/table-ranges.ts';

/** Packed. @param ids as of {@link RangeList}. @throws PgkeepError OBJECT_MISSING, OBJECT_DAMAGED. */
export async function packRanges(
  repository: Repository,
  manifest: Pick<Manifest, 'keys'>,
  table: TableEntry,
  ids: SegmentIds,
): Promise<Ranges> {
  // The manifest holds them anyway.
  if (table.ranges !== undefined) return table.ranges;
  const list = new RangeList(ids);
  for await (const range of rangesOf(repository, manifest, table)) list.push(range);
  return list;
}

/** The `ranges` or `index` field of a table's manifest entry; long lists are stored as segments. */
export async function storeRanges(
  store: SegmentStore,
  ranges: Ranges,
): Promise<Pick<TableEntry, 'ranges' | 'index'>> {
  if (ranges.length <= inlineRanges && isShort(ranges)) return { ranges: [...ranges] };
  const index: SegmentRef[] = [];
  const piece = Buffer.allocUnsafeSlow(segmentBytes);
  let filled = 0;
  for (const line of formatRanges(ranges, store.keys)) {
    for (let rest = Buffer.from(line); rest.length > 0; ) {
      const copied = rest.copy(piece, filled);
      rest = rest.subarray(copied);
      filled += copied;
      if (filled < piece.length) continue;
      index.push(await store.store(piece));
      filled = 0;
    }
  }
  if (filled > 0) index.push(await store.store(piece.subarray(0, filled)));
  freeBuffer(piece);
  return { index };
}

/** Ranges with deltas consist of many slices, and a manifest holds those of all tables. */
function isShort(ranges: Ranges): boolean {
  let slices = 0;
  for (const range of ranges) slices += [...slicesOf(range)].length;
  return slices <= inlineSlices;
}
