// Enumerations that take minutes are gone through by every third of their steps, beginning with another one each time;
// whole with PGKEEP_TEST_THOROUGH=1, as `npm run test:thorough` sets it.
import { chosenSeed } from './seeded-random.ts';

export const isThorough = process.env.PGKEEP_TEST_THOROUGH === '1';

const offset = chosenSeed() % 3;
if (!isThorough) console.info(`every third step, from ${offset} (PGKEEP_TEST_SEED=${offset})`);

/** Whether a step, counted from 0, is among those of this run. */
export function isChosen(step: number): boolean {
  return isThorough || step % 3 === offset;
}
