// What runs keep in memory of each segment, measured: the structures of create, restore, replicate and others, filled as these fill
// them. `measureStructures` runs this as a program, which prints the bytes of one of them.

import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { fillZeros } from '../../src/base/fill-zeros.ts';
import { planLoads, wholeTableTask } from '../../src/operations/restore/load-plan.ts';
import { CountedParts, type PartKind } from '../../src/operations/verify/counted-parts.ts';
import { type Slice, slicesOf, type TableEntry } from '../../src/repository/manifest.ts';
import { RangeList } from '../../src/repository/range-list.ts';
import { SegmentIdMap } from '../../src/repository/segment-id-map.ts';
import { SegmentIdSet } from '../../src/repository/segment-id-set.ts';
import { SegmentIds } from '../../src/repository/segment-ids.ts';
import { SegmentTable } from '../../src/repository/segment-table.ts';
import { startModule } from './pgkeep-process.ts';
import { MadeUpRanges } from './scale-repository.ts';

/** @returns bytes of memory for each segment, heap and all else together. */
export async function measureStructures(segments: number): Promise<Record<string, number>> {
  const bytes: Record<string, number> = {};
  // Each in a process of its own: what the one before has left is nowhere.
  for (const what of Object.keys(structures(segments))) {
    const { exitCode, out, err } = await startModule(import.meta.filename, { segments, what }).ended;
    if (exitCode !== 0) throw new Error(`measuring ended with ${exitCode}: ${err}`);
    bytes[what] = Number(out);
  }
  return bytes;
}

const tableCount = 8;

function structures(segments: number): Record<string, () => unknown> {
  const tables = Array.from(
    { length: tableCount },
    (_, table) => new MadeUpRanges(table, Math.ceil(segments / tableCount)),
  );
  function* refs() {
    for (const ranges of tables) for (const range of ranges) yield* slicesOf(range);
  }
  const lists = (ids: SegmentIds, look: (id: string) => void) =>
    tables.map(ranges => {
      const list = new RangeList(ids, ranges.length);
      let index = 0;
      for (const range of ranges) {
        for (const { id } of slicesOf(range)) look(id);
        list.set(index++, range);
      }
      return list;
    });
  const facts = { keyId: 'ab'.repeat(16), plainBytes: 4_200_000, storedBytes: 1_300_000, isNew: false };
  const create = (hasParent: boolean) => {
    const ids = new SegmentIds();
    const table = new SegmentTable(ids);
    const parent = hasParent ? lists(ids, id => table.set(id, 'known', facts)) : [];
    return [table, parent, lists(ids, id => table.set(id, 'used', facts))];
  };
  return {
    'cleanup: what is named': () => {
      const ids = new SegmentIdSet();
      for (const { id } of refs()) ids.add(id);
      return ids;
    },
    'verify, level metadata: sizes': () => {
      const sizes = new SegmentIdMap();
      for (const { id, storedBytes } of refs()) sizes.set(id, storedBytes);
      return sizes;
    },
    'create, first backup': () => create(false),
    'create, second backup': () => create(true),
    restore: () => {
      const packed = lists(new SegmentIds(), () => undefined);
      const entries = packed.map((_, oid) => entryOf(oid));
      return [packed, planLoads(entries, packed, 'UTF8')];
    },
    'export, restore --data-only': () => {
      const packed = lists(new SegmentIds(), () => undefined);
      return packed.map((ranges, oid) => wholeTableTask(oid, entryOf(oid), ranges, 'UTF8'));
    },
    'verify, level data': () => {
      const ids = new SegmentIds();
      const packed = lists(ids, () => undefined);
      const parts = new CountedParts();
      const places = new Set<number>();
      const [wanted, read]: [number[], number[]] = [[], []];
      const want = (slice: Slice, kind: PartKind) => {
        const place = ids.add(slice.id);
        places.add(place);
        parts.want(place, slice, kind);
        for (const bytes of [wanted, read]) {
          fillZeros(bytes, place);
          bytes[place] = slice.plainBytes;
        }
      };
      for (const ranges of packed) {
        for (const { slices, ctids = [] } of ranges) {
          for (const slice of slices) want(slice, 'text');
          for (const slice of ctids) want(slice, 'lists');
        }
      }
      for (const place of places) {
        for (const part of parts.toCount(place, 'text').parts)
          parts.noteText(part, { rows: 20_000, isClosed: true });
        for (const part of parts.toCount(place, 'lists').parts)
          parts.noteLists(part, [{ count: 20_000, end: 2 ** 40 }]);
      }
      return [packed, parts, places, wanted, read];
    },
    replicate: () => {
      const [segments, found, placed, missing] = [
        new SegmentIdMap(),
        new SegmentIdMap(),
        new SegmentIdMap(),
        new SegmentIdSet(),
      ];
      let number = 0;
      for (const { id, storedBytes } of refs()) {
        // Half of them are there.
        if (segments.set(id, storedBytes) && number++ % 2 === 0) found.set(id, storedBytes);
        else missing.add(id);
        placed.set(id, 0);
      }
      return [segments, found, placed, missing];
    },
  };
}

function entryOf(oid: number): TableEntry {
  return {
    oid: String(oid),
    schema: 'public',
    name: `table_${oid}`,
    parents: [],
    columns: ['id', 'payload'],
    rows: 0,
    bytes: 0,
    rangePages: 1024,
    index: [],
  };
}

async function main(argument: string): Promise<void> {
  const { segments, what } = JSON.parse(argument) as { segments: number; what: string };
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const used = async () => {
    // Memory outside the heap is given back a while after what held it.
    for (let round = 0; round < 3; round++) {
      collect();
      await sleep(50);
    }
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  const before = await used();
  const kept = structures(segments)[what]?.();
  const after = await used();
  if (kept === undefined) throw new Error(`nothing was made of ${what}`);
  process.stdout.write(String((after - before) / segments));
}

if (process.argv[1] === resolve(import.meta.filename)) await main(process.argv[2] ?? '');
