// Counts the numbers of number lists.
import { PgkeepError } from '../../base/errors.ts';
import { readNumberList } from '../../repository/number-list.ts';

export interface CountedList {
  count: number;
  /** One more than the last number; 0 without any. */
  end: number;
}

/** A range has one for its base, and one for each of a few deltas. */
const maxLists = 1000;

/** @returns each of the lists that the bytes are; `null` when they are no whole lists. */
export function countNumbers(bytes: Buffer): CountedList[] | null {
  const lists: CountedList[] = [];
  try {
    for (let at = 0; at < bytes.length; ) {
      const list = { count: 0, end: 0 };
      const runs = readNumberList(bytes, 'a list', at);
      let run = runs.next();
      for (; !run.done; run = runs.next()) {
        list.count += run.value.count;
        list.end = run.value.first + run.value.count;
      }
      at = run.value;
      if (lists.push(list) > maxLists) return null;
    }
  } catch (error) {
    if (error instanceof PgkeepError && error.code === 'OBJECT_DAMAGED') return null;
    throw error;
  }
  return lists;
}
