// A PgBouncer between a test and a server: the pooler that most installations have, in each of its modes.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ensurePgbouncer } from '../services/install-pgbouncer.ts';
import { killAfterExit } from './after-exit.ts';
import { freePort } from './free-port.ts';
import type { Server } from './postgres-server.ts';
import { waitFor } from './processes.ts';
import { serverAccount } from './server-account.ts';
import { makeTempFolder } from './temp-folder.ts';

export interface Pgbouncer extends AsyncDisposable {
  /** The same connection string, through the pooler. */
  through(url: string): string;
}

/** @param poolSize connections to the server that it keeps for each pair of user and database. */
export async function startPgbouncer(
  server: Server,
  mode: 'session' | 'transaction' | 'statement',
  poolSize = 10,
): Promise<Pgbouncer> {
  const program = await ensurePgbouncer();
  const account = serverAccount();
  const folder = makeTempFolder('pgbouncer', account);
  const port = await freePort();
  const users = join(folder.path, 'users.txt');
  const configuration = join(folder.path, 'pgbouncer.ini');
  await writeFile(users, '"postgres" ""\n', { mode: 0o644 });
  await writeFile(
    configuration,
    `[databases]
* = host=127.0.0.1 port=${server.port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
auth_file = ${users}
pool_mode = ${mode}
default_pool_size = ${poolSize}
`,
    { mode: 0o644 },
  );
  const child = spawn(program, [configuration], {
    ...account.ids,
    cwd: folder.path,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  if (child.pid === undefined) throw new Error(`${program} did not start`);
  const forget = killAfterExit(child.pid);
  const ended = once(child, 'close');
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', text => {
    said += text;
  });
  await waitFor(`PgBouncer to listen`, () => {
    if (child.exitCode !== null) throw new Error(`PgBouncer ended: ${said}`);
    return said.includes('process up');
  });
  return {
    through: url => url.replace(`127.0.0.1:${server.port}/`, `127.0.0.1:${port}/`),
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await ended;
      forget();
      await folder.remove();
    },
  };
}
