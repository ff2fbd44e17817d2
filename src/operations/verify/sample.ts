// Chooses the segments of a sample: at random, but the same ones for every backup of a run, as far as they share them.
import { createHash } from 'node:crypto';

/**
 * @param share more than 0, at most 1; at least one is chosen when there is any.
 * @param seed of the run.
 */
export function chooseSample(ids: readonly string[], share: number, seed: string): Set<string> {
  const count = Math.ceil(ids.length * share);
  const ranked = ids.map(id => ({ id, rank: createHash('sha256').update(seed).update(id).digest('hex') }));
  ranked.sort((a, b) => (a.rank < b.rank ? -1 : 1));
  return new Set(ranked.slice(0, count).map(({ id }) => id));
}
