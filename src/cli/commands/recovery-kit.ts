// pgkeep recovery-kit: puts the script that restores without pgkeep, and its page, into the repository.
import { type WriteRecoveryKitResult, writeRecoveryKit } from '../../operations/write-recovery-kit.ts';
import { printJson } from '../output/json.ts';
import { storageOptions } from '../storage-options.ts';
import type { Invocation } from './command.ts';

export async function run({ options, signal, io }: Invocation<'recovery-kit'>): Promise<void> {
  const result = await writeRecoveryKit({
    repository: options.repository,
    storage: storageOptions(options),
    signal,
  });
  if (options.json) printJson(result, io);
  if (!options.quiet) io.stderr.write(recoveryKitText(result));
}

/** What people read at the end. */
export function recoveryKitText({ repository, objects }: WriteRecoveryKitResult): string {
  const lines = objects.map(({ name, state }) => `${name}: ${state}\n`).join('');
  return `The recovery kit in ${repository}:\n${lines}recovery/README.txt says how to use it. Of an encrypted repository it needs the key, which is not in it.\n`;
}
