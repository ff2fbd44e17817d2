// Chooses the segments of a sample: at random, but the same ones for every backup of a run, as far as they share them.
import { createHash } from 'node:crypto';

/**
 * @param share more than 0, at most 1; at least one is chosen when there is any.
 * @param seed of the run.
 * @returns whether one of the ids is chosen.
 */
export function chooseSample(ids: Iterable<string>, share: number, seed: string): (id: string) => boolean {
  const ranks = Float64Array.from(ids, id => rankOf(id, seed)).sort();
  const last = ranks[Math.ceil(ranks.length * share) - 1] ?? -1;
  return id => rankOf(id, seed) <= last;
}

/** Below 2^48: two of millions are hardly ever the same. */
function rankOf(id: string, seed: string): number {
  return createHash('sha256').update(seed).update(id).digest().readUIntBE(0, 6);
}
