// Programs that some tests need and Debian has: installed when this is root on Debian, else named in the failure.

import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { runProgram } from '../services/debian-packages.ts';

/**
 * @param isThere whether it can be used as it is; on PATH, without it.
 * @throws Error that names the command to run, when the program is missing and cannot be installed from here.
 */
export async function ensureProgram(
  program: string,
  debianPackage = program,
  isThere = () => isOnPath(program),
): Promise<void> {
  if (isThere()) return;
  const command = `apt-get install -y --no-install-recommends ${debianPackage}`;
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) {
    throw new Error(`this test needs ${program}; install it with: sudo ${command}`);
  }
  // Of two test files that install something at once, apt-get would refuse the second.
  const inTurn = [join(tmpdir(), 'pgkeep-apt-get.lock'), 'sh', '-c', `apt-get update -q && ${command}`];
  await runProgram('flock', inTurn, { DEBIAN_FRONTEND: 'noninteractive' });
}

function isOnPath(program: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some(folder => existsSync(join(folder, program)));
}
