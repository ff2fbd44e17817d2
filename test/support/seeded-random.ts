// Chance that can be repeated: the same numbers for the same seed.

/** Numbers from 0 to below 1 (mulberry32). */
export type Random = () => number;

export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A whole number from 0 to below `limit`. */
export function below(random: Random, limit: number): number {
  return Math.floor(random() * limit);
}

export function pick<T>(random: Random, items: readonly T[]): T {
  const item = items[below(random, items.length)];
  if (item === undefined) throw new Error('there is nothing to pick from');
  return item;
}

/** The seed of a run: PGKEEP_TEST_SEED, or another each time. Tests print it. */
export function chosenSeed(): number {
  const chosen = process.env.PGKEEP_TEST_SEED;
  return chosen === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(chosen);
}
