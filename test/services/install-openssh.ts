// Provides OpenSSH for the tests of SFTP: the server unpacked from Debian's packages into the test cache, or the
// system's; the client's tools by the system's package. By itself: npx node test/services/install-openssh.ts

import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ensureProgram } from '../support/debian-package.ts';
import { testCache } from '../support/test-cache.ts';
import { canUnpackDebianPackages, unpackDebianPackages } from './debian-packages.ts';

/** The newest release whose server is one program, and so does not look for others at paths of its own. */
const suite = 'bookworm';

/**
 * @returns the path of sshd.
 * @throws Error naming what to install, when it is missing and cannot be unpacked here.
 */
export async function ensureOpenSsh(say: (line: string) => void = () => {}): Promise<string> {
  await ensureProgram('ssh-keygen', 'openssh-client');
  if (!canUnpackDebianPackages()) {
    const installed = '/usr/sbin/sshd';
    if (existsSync(installed)) return installed;
    throw new Error('the OpenSSH server is missing; install it with: apt-get install -y openssh-server');
  }
  const folder = join(testCache(), `openssh-${suite}`);
  const sshd = join(folder, 'usr/sbin/sshd');
  if (await runs(sshd)) return sshd;
  say(`fetching the OpenSSH server from Debian ${suite}; later runs find it in ${folder}`);
  await rm(folder, { recursive: true, force: true });
  await unpackDebianPackages({
    suite,
    packages: ['openssh-server'],
    folder,
    programFolders: ['usr/sbin'],
    without: ['usr/share', 'usr/bin/perl*', 'usr/lib/systemd'],
  });
  if (await runs(sshd)) return sshd;
  throw new Error(`the OpenSSH server was unpacked to ${folder}, but does not run there`);
}

/** Programs of a cache that was moved do not find their libraries. */
async function runs(sshd: string): Promise<boolean> {
  if (!existsSync(sshd)) return false;
  // It knows no option that only prints something and succeeds: an unknown one makes it name its version.
  const said = await promisify(execFile)(sshd, ['-V']).then(
    ({ stderr }) => stderr,
    (error: unknown) => (error instanceof Error && 'stderr' in error ? String(error.stderr) : ''),
  );
  return said.includes('OpenSSH');
}

if (import.meta.main) await ensureOpenSsh(line => process.stderr.write(`${line}\n`));
