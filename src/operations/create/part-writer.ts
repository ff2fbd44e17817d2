// One attempt at a shard's part: passes on the ranges in pieces, as they are done.
import { randomBytes } from 'node:crypto';
import type { DataKey } from '../../crypto/seal.ts';
import { type RangeEntry, slicesOf } from '../../repository/manifest.ts';
import type { SegmentStore } from '../../repository/segment-store.ts';
import type { ShardPart, ShardRange, ShardsFolder } from '../../repository/shards.ts';
import type { RangeTaker } from './collected-ranges.ts';
import type { RangeOrigin } from './copy-worker.ts';

export interface PartWriterOptions {
  folder: ShardsFolder;
  shard: number;
  store: SegmentStore;
  key: DataKey | null;
}

/** Some megabytes of JSON: of ranges of long values, slices are many. */
const slicesPerPiece = 20_000;
const rangesPerPiece = 5_000;

export class PartWriter implements RangeTaker {
  readonly #options: PartWriterOptions;
  readonly #attempt = randomBytes(8).toString('hex');
  readonly #puts: Promise<void>[] = [];
  #piece: ShardRange[] = [];
  #slices = 0;
  #ranges = 0;
  rows = 0;
  bytes = 0;

  constructor(options: PartWriterOptions) {
    this.#options = options;
  }

  async take(origin: RangeOrigin, entry: RangeEntry): Promise<void> {
    const { store } = this.#options;
    const slices = [...slicesOf(entry)];
    const stored = slices.flatMap(({ id }, index) => (store.isNew(id) ? [index] : []));
    const { table, range, kind } = origin;
    const added = kind === 'delta' ? { added: origin.added } : {};
    this.#piece.push({ table, range, kind, entry, ...added, stored });
    this.#ranges++;
    this.#slices += slices.length;
    this.rows += entry.rows;
    this.bytes += entry.bytes;
    if (this.#piece.length >= rangesPerPiece || this.#slices >= slicesPerPiece) await this.#putPiece();
  }

  /** Says that the part is done, once all of it is stored. */
  async finish(
    said: Pick<ShardPart, 'backup' | 'plan' | 'mismatches' | 'damaged' | 'warnings' | 'traffic'>,
  ): Promise<void> {
    const { folder, shard, store, key } = this.#options;
    if (this.#piece.length > 0) void this.#putPiece();
    await Promise.all(this.#puts);
    await folder.putPart(
      {
        format: 1,
        shard,
        attempt: this.#attempt,
        pieces: this.#puts.length,
        ranges: this.#ranges,
        keys: store.keys,
        ...said,
      },
      key,
    );
  }

  #putPiece(): Promise<void> {
    const { folder, shard, key } = this.#options;
    const ranges = this.#piece;
    this.#piece = [];
    this.#slices = 0;
    const put = folder.putPiece({ shard, attempt: this.#attempt }, this.#puts.length, ranges, key);
    // Awaited at the end, too.
    put.catch(() => undefined);
    this.#puts.push(put);
    return put;
  }
}
