// Makes ranges with deltas by hand: the rows of a backup divided into a base and deltas in every way that chance finds,
// among lines that are gone and would break any restore, in segments cut wherever their end happens to be.

import { storeRanges } from '../../src/operations/table-index.ts';
import type { Manifest, RangeEntry, Slice, TableEntry } from '../../src/repository/manifest.ts';
import { NumberListWriter } from '../../src/repository/number-list.ts';
import type { Repository } from '../../src/repository/repository.ts';
import type { SegmentStore } from '../../src/repository/segment-store.ts';
import { rangesOf } from '../../src/repository/table-ranges.ts';
import { below, type Random } from './seeded-random.ts';

/** Bytes on their way into segments. */
class Packer {
  readonly #pieces: Buffer[] = [];
  #bytes = 0;
  #stored: { start: number; end: number; ref: Omit<Slice, 'offset' | 'bytes'> }[] = [];

  /** @returns the slices, once all is stored. */
  add(bytes: Buffer): () => Slice[] {
    const start = this.#bytes;
    this.#pieces.push(bytes);
    this.#bytes += bytes.length;
    return () => this.#slices(start, start + bytes.length);
  }

  async store(store: SegmentStore, segmentBytes: number): Promise<void> {
    const all = Buffer.concat(this.#pieces);
    for (let start = 0; start < all.length; start += segmentBytes) {
      const end = Math.min(start + segmentBytes, all.length);
      this.#stored.push({ start, end, ref: await store.store(all.subarray(start, end)) });
    }
  }

  #slices(from: number, to: number): Slice[] {
    return this.#stored
      .filter(({ start, end }) => from < to && start < to && end > from)
      .map(({ start, end, ref }) => {
        const offset = Math.max(from, start) - start;
        return { ...ref, offset, bytes: Math.min(to, end) - start - offset };
      });
  }
}

/**
 * Divides every range that has rows.
 * @param maxSegments about how many segments the rows are cut into.
 */
export async function splitRanges(
  manifest: Manifest,
  store: SegmentStore,
  repository: Repository,
  random: Random,
  maxSegments = 150,
): Promise<Partial<Manifest>> {
  const packer = new Packer();
  const split: { table: TableEntry; ranges: (() => RangeEntry)[] }[] = [];
  for (const table of manifest.tables) {
    const ranges: (() => RangeEntry)[] = [];
    for await (const range of rangesOf(repository, manifest, table)) {
      const pieces: Buffer[] = [];
      for (const { id, offset, bytes } of range.slices)
        pieces.push((await repository.readSegment(id)).subarray(offset, offset + bytes));
      const rows = Buffer.concat(pieces).toString('latin1').split('\n').slice(0, -1);
      ranges.push(rows.length === 0 ? () => range : splitRange(rows, packer, random));
    }
    split.push({ table, ranges });
  }
  const bytes = manifest.tables.reduce((sum, table) => sum + table.bytes, 0);
  await packer.store(store, Math.max(1000, Math.ceil((2 * bytes) / maxSegments)));
  const tables: TableEntry[] = [];
  for (const { table, ranges } of split) {
    const entries = ranges.map(make => make());
    const { ranges: _, index: __, ...rest } = table;
    const total = (value: (range: RangeEntry) => number) => entries.reduce((sum, one) => sum + value(one), 0);
    const sums = { rows: total(({ rows }) => rows), bytes: total(range => range.bytes) };
    tables.push({ ...rest, ...sums, ...(await storeRanges(store, entries)) });
  }
  store.learn(manifest, manifest.archive.segments);
  const segments = await Promise.all(
    manifest.archive.segments.map(async ({ id }) => {
      const found = await store.find(id);
      if (found === undefined) throw new Error(`${id} is not there`);
      return found;
    }),
  );
  return { tables, archive: { ...manifest.archive, segments }, keys: store.keys };
}

function splitRange(rows: readonly string[], packer: Packer, random: Random): () => RangeEntry {
  const deltas = below(random, 4);
  // Sometimes there is nothing left of the base, or there was nothing.
  const isBaseLeft = below(random, 5) > 0 || deltas === 0;
  const parts: { text: string; isGone: boolean }[][] = Array.from({ length: deltas + 1 }, () => []);
  const put = (part: number, text: string, isGone: boolean) => parts[part]?.push({ text, isGone });
  for (const text of rows) {
    while (below(random, 4) === 0)
      put(below(random, deltas + 1), `gone${'\t'.repeat(below(random, 30))}`, true);
    put(isBaseLeft ? below(random, deltas + 1) : 1 + below(random, deltas), text, false);
  }
  const gone = new NumberListWriter();
  for (const [number, { isGone }] of parts.flat().entries()) if (isGone) gone.add(number);
  const texts = parts.map(part => Buffer.from(part.map(({ text }) => `${text}\n`).join(''), 'latin1'));
  const places = texts.map(text => packer.add(text));
  const lists = parts.map(part => packer.add(ctidsOf(part.length, random)));
  const goneList = gone.count > 0 ? packer.add(gone.bytes()) : undefined;
  return () => {
    const [base, ...added] = places.map(slices => slices());
    const [baseCtids, ...addedCtids] = lists.map(slices => slices());
    const lines = parts[0]?.length ?? 0;
    return {
      rows: rows.length,
      bytes: texts.reduce((sum, text) => sum + text.length, 0),
      slices: [...(base ?? []), ...added.flat()],
      ctids: [...(baseCtids ?? []), ...addedCtids.flat()],
      ...(goneList && { gone: goneList() }),
      base: {
        rows: lines,
        slices: base?.length ?? 0,
        ctids: baseCtids?.length ?? 0,
        xmin: '700',
        deltas,
        added: parts.flat().length - lines,
      },
    };
  };
}

function ctidsOf(count: number, random: Random): Buffer {
  const list = new NumberListWriter();
  let ctid = 1 + below(random, 2 ** 20);
  for (let left = count; left > 0; left--) {
    list.add(ctid);
    ctid += below(random, 3) === 0 ? 1 + below(random, 2 ** 20) : 1;
  }
  return list.bytes();
}
