// Which rows a worker loads next. Two COPYs into one table wait for each other where the server makes the table longer
// and writes its log, so workers take tables of their own for as long as there are any.
import type { PlannedLoad } from './load-plan.ts';

/** Items of one table, the next one last. */
type TableItems = PlannedLoad[][];

/** Items of work, of which each is handed out once. */
export class LoadQueue {
  /** Tables nobody has begun, the first one last. */
  readonly #waiting: TableItems[];
  readonly #begun = new Map<number, TableItems>();

  /** @param items as they were planned: tables are begun in the order of their first items. */
  constructor(items: readonly PlannedLoad[][]) {
    this.#waiting = [...Map.groupBy(items, tableOf).values()].map(ofTable => ofTable.reverse()).reverse();
  }

  /**
   * The next item: of the table the worker is at, else of the next one that nobody is at, else of the one with most
   * left.
   * @param table of the worker's item before, as its number in the plan.
   */
  next(table: number | undefined): PlannedLoad[] | undefined {
    const own = table === undefined ? undefined : this.#begun.get(table);
    const items = own ?? this.#waiting.pop() ?? this.#longest();
    const item = items?.pop();
    if (items === undefined || item === undefined) return undefined;
    if (items.length > 0) this.#begun.set(tableOf(item), items);
    else this.#begun.delete(tableOf(item));
    return item;
  }

  #longest(): TableItems | undefined {
    let longest: TableItems | undefined;
    for (const items of this.#begun.values()) if (items.length > (longest?.length ?? 0)) longest = items;
    return longest;
  }
}

/** Of small tables that share a segment, the first. */
function tableOf([first]: PlannedLoad[]): number {
  if (first === undefined) throw new RangeError('an item of work has no rows to load');
  return first.table;
}
