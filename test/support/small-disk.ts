// A disk that is soon full: a tmpfs of a few megabytes in a mount namespace of its own, reached through /proc. It is
// gone when the process that holds it is.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { killAfterExit } from './after-exit.ts';
import { makeTempFolder } from './temp-folder.ts';

export interface SmallDisk extends AsyncDisposable {
  /** The disk's root folder. */
  readonly path: string;
}

/** @throws Error when this system lets nobody mount: containers need the capability SYS_ADMIN for it. */
export async function mountSmallDisk(sizeBytes: number): Promise<SmallDisk> {
  const folder = makeTempFolder('disk');
  const script = 'mount -t tmpfs -o "size=$1" none "$2" && echo mounted && exec sleep 3600';
  const asRoot = process.getuid?.() === 0 ? [] : ['--user', '--map-root-user'];
  const holder = spawn(
    'unshare',
    ['--mount', ...asRoot, 'sh', '-c', script, 'sh', String(sizeBytes), folder.path],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let said = '';
  holder.stderr.setEncoding('utf8').on('data', text => {
    said += text;
  });
  const ended = once(holder, 'close');
  const isMounted = await Promise.race([
    once(holder.stdout, 'data').then(() => true),
    ended.then(() => false),
  ]);
  if (!isMounted || holder.pid === undefined) {
    throw new Error(
      `no small disk could be mounted: ${said.trim()}; run as root, in a container with --cap-add SYS_ADMIN`,
    );
  }
  const forget = killAfterExit(holder.pid);
  return {
    path: join('/proc', String(holder.pid), 'root', folder.path),
    async [Symbol.asyncDispose]() {
      holder.kill('SIGKILL');
      await ended;
      forget();
      await folder.remove();
    },
  };
}
