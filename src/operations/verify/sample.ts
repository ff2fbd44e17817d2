// Chooses the segments of a sample: at random, but the same ones for every backup of a run, as far as they share them.
import { createHash } from 'node:crypto';

/**
 * @param share more than 0, at most 1; at least one is chosen when there is any.
 * @param seed of the run.
 */
export function chooseSample(ids: readonly string[], share: number, seed: string): Set<string> {
  const count = Math.ceil(ids.length * share);
  const ranks = Float64Array.from(ids, id => rankOf(id, seed));
  const last = ranks.toSorted()[count - 1] ?? -1;
  return new Set(ids.filter((_, index) => (ranks[index] ?? 0) <= last));
}

/** Below 2^48: two of millions are hardly ever the same. */
function rankOf(id: string, seed: string): number {
  return createHash('sha256').update(seed).update(id).digest().readUIntBE(0, 6);
}
