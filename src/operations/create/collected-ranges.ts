// The ranges of a backup as they come in, from workers of this process or from other processes, and what became of them.
import type { IncrementalFacts, RangeEntry, Ranges } from '../../repository/manifest.ts';
import { RangeList } from '../../repository/range-list.ts';
import type { SegmentStore } from '../../repository/segment-store.ts';
import type { CopyPlan } from './copy-plan.ts';
import type { RangeOrigin } from './copy-worker.ts';

/** How ranges came into the backup. */
export type RangeShares = Pick<IncrementalFacts, 'unread' | 'deltas' | 'equal' | 'stored'>;

/** Takes ranges in any order. */
export interface RangeTaker {
  /** @param entry with references of the run's own store, which knows the segments by now. */
  take(origin: RangeOrigin, entry: RangeEntry): Promise<void>;
}

export class CollectedRanges implements RangeTaker {
  readonly shares: RangeShares = noShares();
  readonly #plan: CopyPlan;
  readonly #store: SegmentStore;
  readonly #ranges: RangeList[];

  constructor(plan: CopyPlan, store: SegmentStore) {
    this.#plan = plan;
    this.#store = store;
    this.#ranges = plan.tables.map(table => new RangeList(store.ids, table.ranges));
  }

  has(table: number, range: number): boolean {
    return this.#ranges[table]?.has(range) ?? false;
  }

  async take(origin: RangeOrigin, entry: RangeEntry): Promise<void> {
    const entries = this.#ranges[origin.table];
    if (entries === undefined) return;
    entries.set(origin.range, entry);
    count(this.shares, this.#store, origin, entry);
  }

  /** The ranges of each table of the plan, in order. A hole would be rows lost without a word: it throws. */
  whole(): readonly Ranges[] {
    const hole = this.#ranges.findIndex(entries => !entries.isWhole);
    if (hole >= 0) throw new Error(`a range of ${this.#plan.tables[hole]?.from} was not read`);
    return this.#ranges;
  }
}

function noShares(): RangeShares {
  const none = () => ({ ranges: 0, rows: 0, bytes: 0 });
  return { unread: none(), deltas: none(), equal: none(), stored: none() };
}

function count(shares: RangeShares, store: SegmentStore, origin: RangeOrigin, entry: RangeEntry): void {
  const add = (share: keyof RangeShares, { rows, bytes }: { rows: number; bytes: number }) => {
    shares[share].ranges++;
    shares[share].rows += rows;
    shares[share].bytes += bytes;
  };
  if (origin.kind === 'unread') add('unread', entry);
  else if (origin.kind === 'delta') add('deltas', origin.added);
  else add(entry.slices.some(({ id }) => store.isNew(id)) ? 'stored' : 'equal', entry);
}
