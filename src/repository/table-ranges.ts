// The ranges of a table in a backup, from the manifest or from the table's index.
import { freeBuffer } from '../base/free-buffer.ts';
import { type Manifest, parseRanges, type RangeEntry, type TableEntry } from './manifest.ts';
import type { Repository } from './repository.ts';

/**
 * The ranges of a table, one after the other; of an index a segment is in memory at a time.
 * @throws PgkeepError OBJECT_MISSING, OBJECT_DAMAGED; at the end, when the ranges are not those of the table.
 */
export async function* rangesOf(
  repository: Repository,
  { keys }: Pick<Manifest, 'keys'>,
  table: TableEntry,
): AsyncGenerator<RangeEntry, void> {
  if (table.ranges !== undefined) yield* table.ranges;
  else yield* parseRanges(table, passing(repository.readSegments(table.index ?? [])), keys);
}

/** Of megabytes that pass, those that have been read are given back at once. */
async function* passing(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void> {
  for await (const piece of pieces) {
    yield piece;
    freeBuffer(piece);
  }
}
