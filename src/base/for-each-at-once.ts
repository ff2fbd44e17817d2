// Work on many items, some of them at the same time: requests to a storage wait more than they work.

const usuallyAtOnce = 32;

/** Calls `work` for every item, several at once. The first failure is thrown when what was under way has ended. */
export async function forEachAtOnce<T>(
  items: Iterable<T> | AsyncIterable<T>,
  work: (item: T) => Promise<void>,
  atOnce = usuallyAtOnce,
): Promise<void> {
  const running = new Set<Promise<void>>();
  const failures: unknown[] = [];
  try {
    for await (const item of items) {
      const task: Promise<void> = work(item)
        .catch(error => {
          failures.push(error);
        })
        .finally(() => running.delete(task));
      running.add(task);
      if (running.size >= atOnce) await Promise.race(running);
      if (failures.length > 0) break;
    }
  } finally {
    // Also when the items themselves cannot be told: nothing goes on behind the caller's back.
    await Promise.all(running);
  }
  if (failures.length > 0) throw failures[0];
}
