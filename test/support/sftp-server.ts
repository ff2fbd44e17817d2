// Throwaway SFTP servers: OpenSSH's sshd on 127.0.0.1 with keys of its own, for one account that logs in by key.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { ensureOpenSsh } from '../services/install-openssh.ts';
import { killAfterExit } from './after-exit.ts';
import { freePort } from './free-port.ts';
import { serverAccount } from './server-account.ts';
import { makeTempFolder, type TempFolder } from './temp-folder.ts';

const run = promisify(execFile);

export interface SftpServerOptions {
  /** Extensions and requests the server shall not know, as in `sftp-server -P`. */
  without?: readonly string[];
  /** Has the repositories on a disk of their own, of this size, which only the server sees. */
  diskBytes?: number;
}

export interface SftpServer extends AsyncDisposable {
  readonly port: number;
  readonly user: string;
  /** A folder of the server's account, to keep repositories in. */
  readonly folder: string;
  /** The address of a repository in that folder; through a proxy with its port. */
  url(name: string, port?: number): string;
  /** How to log in, with the host known at its port and at those of proxies. */
  readonly login: { keyFile: string; knownHostsFile: string };
  /** The public host key, as known_hosts has it behind the host: type and base64. */
  hostKey(type: 'ed25519' | 'rsa'): string;
  /** A path beside the repositories, for keys and known_hosts files of a test's own. */
  file(name: string): string;
  /** What the server has said so far. */
  log(): string;
  stop(): Promise<void>;
  start(): Promise<void>;
}

export async function startSftpServer(options: SftpServerOptions = {}): Promise<SftpServer> {
  const sshd = await ensureOpenSsh();
  const account = serverAccount();
  const folder = makeTempFolder('sshd', account);
  const server = new OpenSshServer(
    sshd,
    folder,
    account.name.startsWith('uid') ? userInfo().username : account.name,
  );
  await server.prepare(options);
  await server.start(options.diskBytes);
  return server;
}

/** Makes a key pair; the public one is in the file with `.pub` at the end. */
export async function makeKey(file: string, type: 'ed25519' | 'rsa', passphrase = ''): Promise<string> {
  await run('ssh-keygen', ['-q', '-t', type, '-N', passphrase, '-C', 'test', '-f', file]);
  return file;
}

class OpenSshServer implements SftpServer {
  readonly user: string;
  readonly folder: string;
  port = 0;
  readonly #sshd: string;
  readonly #temp: TempFolder;
  #process: ChildProcess | undefined;
  #forget: (() => void) | undefined;

  constructor(sshd: string, temp: TempFolder, user: string) {
    this.#sshd = sshd;
    this.#temp = temp;
    this.user = user;
    this.folder = join(temp.path, 'repositories');
  }

  get login(): { keyFile: string; knownHostsFile: string } {
    return { keyFile: this.file('client-key'), knownHostsFile: this.file('known_hosts') };
  }

  url(name: string, port = this.port): string {
    return `sftp://${this.user}@127.0.0.1:${port}${this.folder}/${name}`;
  }

  file(name: string): string {
    return join(this.#temp.path, name);
  }

  hostKey(type: 'ed25519' | 'rsa'): string {
    return readFileSync(this.file(`host-key-${type}.pub`), 'utf8')
      .split(' ')
      .slice(0, 2)
      .join(' ');
  }

  async prepare({ without = [] }: SftpServerOptions): Promise<void> {
    const { ids } = serverAccount();
    mkdirSync(this.folder, { mode: 0o700 });
    await makeKey(this.file('host-key-ed25519'), 'ed25519');
    await makeKey(this.file('host-key-rsa'), 'rsa');
    const key = await makeKey(this.file('client-key'), 'ed25519');
    writeFileSync(this.file('authorized_keys'), readFileSync(`${key}.pub`));
    this.port = await freePort();
    // By any port: a proxy in front of the server has another.
    writeFileSync(this.file('known_hosts'), `127.0.0.1,[127.0.0.1]:* ${this.hostKey('ed25519')}\n`);
    const sftp = ['internal-sftp', ...(without.length > 0 ? ['-P', without.join(',')] : [])].join(' ');
    writeFileSync(
      this.file('sshd_config'),
      [
        `Port ${this.port}`,
        'ListenAddress 127.0.0.1',
        `HostKey ${this.file('host-key-ed25519')}`,
        `HostKey ${this.file('host-key-rsa')}`,
        `AuthorizedKeysFile ${this.file('authorized_keys')}`,
        'PidFile none',
        'StrictModes no',
        'UsePAM no',
        'PasswordAuthentication no',
        'KbdInteractiveAuthentication no',
        'AuthenticationMethods publickey',
        'MaxStartups 100',
        `Subsystem sftp ${sftp}`,
        `ForceCommand ${sftp}`,
      ].join('\n'),
    );
    const { uid, gid } = ids;
    if (uid === undefined || gid === undefined) return;
    for (const name of ['repositories', 'host-key-ed25519', 'host-key-rsa', 'authorized_keys', 'sshd_config'])
      chownSync(this.file(name), uid, gid);
  }

  async start(diskBytes?: number): Promise<void> {
    const log = openSync(this.file('log'), 'a');
    const before = this.log().length;
    const { ids } = serverAccount();
    const command = [this.#sshd, '-D', '-e', '-f', this.file('sshd_config')];
    const [program = '', ...args] =
      diskBytes === undefined ? command : onSmallDisk(this.folder, diskBytes, command);
    const child = spawn(program, args, {
      // Mounting is for root; the account is taken on afterwards.
      ...(diskBytes === undefined && ids),
      cwd: '/',
      env: { PATH: '/usr/bin:/bin' },
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    await once(child, 'spawn');
    child.unref();
    this.#process = child;
    this.#forget = killAfterExit(child.pid ?? 0);
    const deadline = Date.now() + 60_000;
    while (!this.log().slice(before).includes('Server listening')) {
      if (child.exitCode !== null || Date.now() > deadline)
        throw new Error(`sshd did not start:\n${this.log().slice(before)}`);
      await sleep(10);
    }
  }

  /** Ends the server; connections it has accepted go on, as with every restart of sshd. */
  async stop(): Promise<void> {
    const child = this.#process;
    if (child === undefined) return;
    const ended = once(child, 'exit');
    child.ref();
    child.kill('SIGTERM');
    await ended;
    this.#forget?.();
    this.#process = undefined;
  }

  log(): string {
    const file = this.file('log');
    return existsSync(file) ? readFileSync(file, 'utf8') : '';
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.#temp.remove();
  }
}

/** The command in a mount namespace of its own, whose disk at `folder` is gone with it, and run by the servers' account. */
function onSmallDisk(folder: string, sizeBytes: number, command: readonly string[]): string[] {
  const { uid, gid } = serverAccount().ids;
  const isRoot = uid !== undefined && gid !== undefined;
  const owner = isRoot ? `,uid=${uid},gid=${gid}` : '';
  const mount = `mount -t tmpfs -o size=${sizeBytes},mode=700${owner} none "$0" && exec "$@"`;
  const drop = isRoot ? ['setpriv', '--reuid', `${uid}`, '--regid', `${gid}`, '--clear-groups'] : [];
  // Without root a user namespace gives the right to mount.
  const namespace = isRoot ? ['--mount'] : ['--mount', '--map-current-user', '--keep-caps'];
  return ['unshare', ...namespace, 'sh', '-c', mount, folder, ...drop, ...command];
}
