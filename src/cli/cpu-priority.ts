// --nice: the CPU priority of this process, its threads and the programs it starts.
import { existsSync, readdirSync } from 'node:fs';
import { getPriority, setPriority } from 'node:os';
import { PgkeepError } from '../base/errors.ts';

const ownThreads = '/proc/self/task';

/**
 * Lowers the priority of what runs; threads and programs started from then on inherit it. One that is lower already stays.
 * @param nice 0 leaves everything as it is; 19 is the lowest priority.
 * @throws PgkeepError OPTION_INVALID where the system knows no such priorities.
 */
export function lowerPriority(nice: number, platform: NodeJS.Platform): void {
  if (nice === 0) return;
  if (platform === 'win32') {
    throw new PgkeepError('OPTION_INVALID', '--nice: Windows has classes of priority and no such numbers', {
      hint: 'leave it out, and start pgkeep as in: start /belownormal /b pgkeep create',
    });
  }
  // To Linux every thread has a priority of its own, and Node has started some by now.
  const ids = existsSync(ownThreads) ? readdirSync(ownThreads).map(Number) : [process.pid];
  for (const id of ids) if (getPriority(id) < nice) setPriority(id, nice);
}
