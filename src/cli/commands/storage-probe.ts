// pgkeep storage probe: what does the storage do, and what does that mean? A line for each check on stdout.
import { probeStorage } from '../../operations/probe-storage.ts';
import { printChecks } from '../output/checks.ts';
import { startProgress } from '../output/progress.ts';
import { storageOptions } from '../storage-options.ts';
import type { Invocation } from './command.ts';

export async function run({ options, signal, io }: Invocation<'storage probe'>): Promise<void> {
  const progress = await startProgress(io.stderr.isTTY !== true, io);
  try {
    const result = await probeStorage({
      repository: options.repository,
      storage: storageOptions(options),
      thorough: options.thorough,
      signal,
      onEvent: progress.onEvent,
    });
    progress.stop();
    await printChecks(result, 'pgkeep storage probe', options.json, io);
  } finally {
    progress.stop();
  }
}
