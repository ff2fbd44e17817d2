// Which ranges of a plan are whose, and which of them have come: a few bytes of each.
import { type CopyPlan, divideItems } from './copy-plan.ts';

export class ShardLedger {
  /** Of each table: the number of its first range, counted through all tables. */
  readonly #firstRange: Float64Array;
  /** Of each table: the item of its first range; and whether the next range is the next item's. */
  readonly #firstItem: Uint32Array;
  readonly #isDivided: Uint8Array;
  /** Of each item, from 1. */
  readonly #shardOf: Uint8Array;
  readonly #hasCome: Uint8Array;
  readonly #plan: CopyPlan;
  /** Of each shard, from 1: how many ranges have not come. */
  readonly #left: Float64Array;

  constructor(plan: CopyPlan, shards: number) {
    this.#plan = plan;
    this.#firstRange = new Float64Array(plan.tables.length);
    let ranges = 0;
    for (const [table, planned] of plan.tables.entries()) {
      this.#firstRange[table] = ranges;
      ranges += planned.ranges;
    }
    this.#hasCome = new Uint8Array(ranges);
    this.#firstItem = new Uint32Array(plan.tables.length);
    this.#isDivided = new Uint8Array(plan.tables.length);
    for (const { tables, firstItem } of plan.groups) {
      for (const table of tables) {
        this.#firstItem[table] = firstItem;
        this.#isDivided[table] = tables.length === 1 ? 1 : 0;
      }
    }
    this.#shardOf = new Uint8Array(plan.items);
    for (const [index, items] of divideItems(plan, shards).entries())
      for (const item of items) this.#shardOf[item] = index + 1;
    this.#left = new Float64Array(shards + 1);
    for (const [table, planned] of plan.tables.entries())
      for (let range = 0; range < planned.ranges; range++) this.#add(this.#ownerOf(table, range), 1);
  }

  /** How many of a shard's ranges have not come. */
  left(shard: number): number {
    return this.#left[shard] ?? 0;
  }

  /** A table of which a range of the shard has not come. */
  tableLeft(shard: number): number | undefined {
    for (const [table, { ranges }] of this.#plan.tables.entries()) {
      for (let range = 0; range < ranges; range++) {
        if (this.#ownerOf(table, range) === shard && this.#hasCome[this.#indexOf(table, range)] === 0)
          return table;
      }
    }
    return undefined;
  }

  /** Notes that a range has come from a shard. @returns its item; `undefined` when it is not the shard's, or had come. */
  note(shard: number, table: number, range: number): number | undefined {
    const index = this.#indexOf(table, range);
    if (range >= (this.#plan.tables[table]?.ranges ?? 0) || this.#hasCome[index] !== 0) return undefined;
    if (this.#ownerOf(table, range) !== shard) return undefined;
    this.#hasCome[index] = 1;
    this.#add(shard, -1);
    return this.#itemOf(table, range);
  }

  #add(shard: number, ranges: number): void {
    this.#left[shard] = (this.#left[shard] ?? 0) + ranges;
  }

  #indexOf(table: number, range: number): number {
    return (this.#firstRange[table] ?? 0) + range;
  }

  #itemOf(table: number, range: number): number {
    return (this.#firstItem[table] ?? 0) + (this.#isDivided[table] === 1 ? range : 0);
  }

  #ownerOf(table: number, range: number): number {
    return this.#shardOf[this.#itemOf(table, range)] ?? 0;
  }
}
