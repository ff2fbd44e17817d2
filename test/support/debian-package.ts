// Programs that some tests need and Debian has: installed when this is root on Debian, else named in the failure.

import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { runProgram } from '../services/debian-packages.ts';

/** @throws Error that names the command to run, when the program is missing and cannot be installed from here. */
export async function ensureProgram(program: string, debianPackage = program): Promise<void> {
  if (isOnPath(program)) return;
  const command = `apt-get install -y --no-install-recommends ${debianPackage}`;
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) {
    throw new Error(`this test needs ${program}; install it with: sudo ${command}`);
  }
  const [aptGet = '', ...args] = command.split(' ');
  const environment = { DEBIAN_FRONTEND: 'noninteractive' };
  await runProgram(aptGet, ['update', '-q'], environment);
  await runProgram(aptGet, args, environment);
}

function isOnPath(program: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some(folder => existsSync(join(folder, program)));
}
