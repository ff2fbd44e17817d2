// One connection to an SFTP server: many requests under way at once, calls as promises that end when the connection
// does, objects written and read in chunks.
import { connect, type Socket } from 'node:net';
import type { Client, FileEntryWithStats, SFTPWrapper, Stats } from 'ssh2';
import { PgkeepError, throwIfAborted } from '../../base/errors.ts';
import type { SftpOptions } from '../storage-options.ts';
import { TransientError } from '../transient-error.ts';
import { HostCheck } from './host-check.ts';
import { type Login, prepareLogin } from './login.ts';
import type { SftpAddress } from './sftp-address.ts';

/** Codes of SFTP version 3 that are told apart here. */
export const sftpStatus = { eof: 1, noSuchFile: 2, permissionDenied: 3, failure: 4, unsupported: 8 } as const;

/** What every server takes in one request, and how many requests an object has under way. */
const chunkBytes = 32 * 1024;
const chunksAtOnce = 32;

const defaultConnectMs = 20_000;
const defaultSilenceMs = 60_000;
/** So that a connection that is not used for a while is not forgotten by routers on the way. */
const keepAliveMs = 30_000;

type Done<T> = (error: Error | null | undefined, value?: T) => void;

/** Free and usable space as statvfs has it. */
interface FileSystemSpace {
  f_frsize: number;
  f_blocks: number;
  f_files: number;
  f_bavail: number;
  f_favail: number;
}

export class SftpConnection {
  readonly #client: Client;
  readonly #sftp: SFTPWrapper;
  readonly #place: string;
  readonly #signal: AbortSignal | undefined;
  /** How the calls under way are told that the connection is gone. */
  readonly #underWay = new Set<(error: unknown) => void>();
  #lost: PgkeepError | undefined;

  private constructor(
    client: Client,
    socket: Socket,
    sftp: SFTPWrapper,
    place: string,
    signal: AbortSignal | undefined,
  ) {
    this.#client = client;
    this.#sftp = sftp;
    this.#place = place;
    this.#signal = signal;
    signal?.addEventListener('abort', this.#interrupt);
    client.on('error', error => this.#lose(error));
    socket.on('timeout', () => {
      const seconds = (socket.timeout ?? 0) / 1000;
      if (this.#underWay.size > 0) this.#lose(new Error(`nothing was heard for ${seconds} s`));
    });
    client.on('close', () => this.#lose());
    sftp.on('close', () => this.#lose());
    sftp.on('error', (error: unknown) => this.#lose(error));
  }

  /**
   * Connects, but to no host whose key is not known.
   * @param signal ends what is under way, now and later.
   * @throws PgkeepError HOST_KEY_UNKNOWN, HOST_KEY_CHANGED, STORAGE_CREDENTIALS for a login that is refused or a key that
   * cannot be read, STORAGE_UNREACHABLE.
   */
  static async open(
    address: SftpAddress,
    options: SftpOptions,
    signal: AbortSignal | undefined,
  ): Promise<SftpConnection> {
    throwIfAborted(signal);
    const { default: ssh2 } = await import('ssh2');
    const place = `${address.host}:${address.port}`;
    const hostCheck = await HostCheck.prepare(address, options.knownHostsFile);
    const login = await prepareLogin(ssh2, address, options);
    const client = new ssh2.Client();
    const socket = connect({
      host: address.host,
      port: address.port,
      // Otherwise a small request waits until the one before has been acknowledged: 40 ms each.
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: keepAliveMs,
    });
    // Of ssh2's own ways this one alone sees that a slow transfer goes on.
    socket.setTimeout(options.timeoutMs ?? defaultSilenceMs);
    const interrupt = () => socket.destroy();
    signal?.addEventListener('abort', interrupt);
    try {
      const sftp = await new Promise<SFTPWrapper>((resolve, reject) => {
        client.on('error', error => {
          // An agent that does not answer is passed over: another way to log in may follow.
          if (levelOf(error) !== 'agent') reject(error);
        });
        client.on('close', () => reject(new Error('the server closed the connection')));
        client.on('ready', () => client.sftp((error, channel) => (error ? reject(error) : resolve(channel))));
        client.connect({
          sock: socket,
          username: login.user,
          authHandler: login.methods,
          hostVerifier: (key: Buffer) => hostCheck.accepts(key),
          algorithms: hostCheck.algorithms,
          readyTimeout: options.timeoutMs ?? defaultConnectMs,
        });
      });
      return new SftpConnection(client, socket, sftp, place, signal);
    } catch (error) {
      // Late events of a connection that was given up must not end the process.
      client.on('error', () => undefined);
      socket.destroy();
      throwIfAborted(signal);
      throw hostCheck.refusal ?? connectError(error, place, login);
    } finally {
      signal?.removeEventListener('abort', interrupt);
    }
  }

  get isLost(): boolean {
    return this.#lost !== undefined;
  }

  async close(): Promise<void> {
    if (this.#lost !== undefined) return;
    const closed = new Promise<void>(resolve => this.#client.once('close', () => resolve()));
    this.#lost = new TransientError(`the connection to ${this.#place} was closed`);
    this.#signal?.removeEventListener('abort', this.#interrupt);
    this.#client.end();
    const late = setTimeout(() => this.#client.destroy(), 1000);
    await closed;
    clearTimeout(late);
  }

  /** Whether the server offers an extension of OpenSSH's, all of which ssh2 refuses to send otherwise. */
  supports(extension: 'hardlink' | 'posix-rename' | 'fsync' | 'statvfs'): boolean {
    const { _extensions: extensions } = this.#sftp as unknown as { _extensions?: Record<string, string> };
    return extensions?.[`${extension}@openssh.com`] !== undefined;
  }

  /** Writes a file that must not exist yet, for its owner alone, and has it reach the disk where the server can. */
  async writeNew(file: string, bytes: Buffer): Promise<void> {
    const handle = await this.#call<Buffer>(done => this.#sftp.open(file, 'wx', { mode: 0o600 }, done));
    let closed: Promise<void> | undefined;
    // Sent behind the last chunk without waiting for its answer: each wait is a round trip.
    const finish = async () => {
      const synced = this.supports('fsync')
        ? this.#call(done => this.#sftp.ext_openssh_fsync(handle, done))
        : undefined;
      closed = this.#call(done => this.#sftp.close(handle, done));
      await Promise.all([synced, closed]);
    };
    try {
      await this.#inChunks(
        bytes.length,
        (start, length) => this.#call(done => this.#sftp.write(handle, bytes, start, length, start, done)),
        finish,
      );
    } finally {
      if (closed === undefined) await this.#close(handle);
    }
  }

  /**
   * Reads a file whole.
   * @returns its size alone when that is more than `maxBytes`; undefined for what is no file.
   */
  async read(file: string, maxBytes: number, firstBytes = maxBytes): Promise<Buffer | number | undefined> {
    const handle = await this.#call<Buffer>(done => this.#sftp.open(file, 'r', done));
    try {
      const { size, isFile } = await this.#fileFacts(done => this.#sftp.fstat(handle, done));
      if (!isFile) return undefined;
      if (size > maxBytes) return size;
      const wanted = Math.min(size, firstBytes);
      const bytes = Buffer.allocUnsafeSlow(wanted);
      await this.#inChunks(wanted, async (start, length) => {
        let got = 0;
        // A server may give less than was asked for.
        while (got < length) {
          const count = await this.#call<number>(done =>
            this.#sftp.read(handle, bytes, start + got, length - got, start + got, done),
          );
          if (count === undefined || count === 0) throw new TransientError(`${file} ended before its end`);
          got += count;
        }
      });
      return bytes;
    } finally {
      await this.#close(handle);
    }
  }

  async stat(file: string): Promise<{ size: number; modified: Date; isFile: boolean; isFolder: boolean }> {
    return await this.#fileFacts(done => this.#sftp.stat(file, done));
  }

  /** The entries of a folder, `.` and `..` left out. */
  async readFolder(
    folder: string,
  ): Promise<{ name: string; size: number; modified: Date; isFile: boolean; isFolder: boolean }[]> {
    const entries = await this.#call<FileEntryWithStats[]>(done => this.#sftp.readdir(folder, done));
    return entries.map(({ filename, attrs }) => ({ name: filename, ...facts(attrs) }));
  }

  async makeFolder(folder: string): Promise<void> {
    await this.#call(done => this.#sftp.mkdir(folder, { mode: 0o700 }, done));
  }

  /** Fails unless it is empty. */
  async removeFolder(folder: string): Promise<void> {
    await this.#call(done => this.#sftp.rmdir(folder, done));
  }

  async removeFile(file: string): Promise<void> {
    await this.#call(done => this.#sftp.unlink(file, done));
  }

  /** Like `removeFile`, but also once everything else has been ended by the signal. */
  async removeLeaving(file: string): Promise<void> {
    await this.#request(done => this.#sftp.unlink(file, done));
  }

  /** Fails when there is something of the new name. */
  async link(file: string, newName: string): Promise<void> {
    await this.#call(done => this.#sftp.ext_openssh_hardlink(file, newName, done));
  }

  /** Replaces what is of the new name, in one step. */
  async rename(file: string, newName: string): Promise<void> {
    await this.#call(done => this.#sftp.ext_openssh_rename(file, newName, done));
  }

  /**
   * Has the entries of a folder reach the disk. A server that opens folders like files, as OpenSSH's does, can do
   * that; one that cannot is passed over.
   */
  async syncFolder(folder: string): Promise<void> {
    if (!this.supports('fsync')) return;
    try {
      const handle = await this.#call<Buffer>(done => this.#sftp.open(folder, 'r', done));
      try {
        await this.#call(done => this.#sftp.ext_openssh_fsync(handle, done));
      } finally {
        // Nobody waits for that.
        void this.#close(handle);
      }
    } catch (error) {
      if (error instanceof PgkeepError) throw error;
    }
  }

  /** Bytes that may still be written beside a file of that folder; undefined where the server does not tell. */
  async freeBytes(folder: string): Promise<number | undefined> {
    if (!this.supports('statvfs')) return undefined;
    const space = await this.#call<FileSystemSpace>(done => this.#sftp.ext_openssh_statvfs(folder, done));
    // File systems without a fixed number of files give zero for it, and some servers for everything.
    if (space.f_blocks === 0) return undefined;
    return space.f_files > 0 && space.f_favail === 0 ? 0 : space.f_bavail * space.f_frsize;
  }

  /** A handle that cannot be closed is given up: the server closes it with the connection. */
  async #close(handle: Buffer): Promise<void> {
    await this.#call(done => this.#sftp.close(handle, done)).catch(() => undefined);
  }

  async #fileFacts(start: (done: Done<Stats>) => void): Promise<ReturnType<typeof facts>> {
    return facts(await this.#call(start));
  }

  /**
   * Has several chunks under way; the first failure is thrown once none is under way any longer.
   * @param finish called when the last chunk has been sent, not when it has been answered.
   */
  async #inChunks(
    totalBytes: number,
    transfer: (start: number, length: number) => Promise<unknown>,
    finish: () => Promise<unknown> = async () => undefined,
  ): Promise<void> {
    let next = 0;
    let failure: unknown;
    const note = (error: unknown) => {
      failure ??= error;
    };
    let finished = totalBytes === 0 ? finish().catch(note) : undefined;
    const lane = async () => {
      while (next < totalBytes && failure === undefined) {
        const start = next;
        next += chunkBytes;
        const transferred = transfer(start, Math.min(chunkBytes, totalBytes - start)).catch(note);
        if (next >= totalBytes) finished = finish().catch(note);
        await transferred;
      }
    };
    await Promise.all(Array.from({ length: chunksAtOnce }, lane));
    await finished;
    if (failure !== undefined) throw failure;
  }

  async #call<T = void>(start: (done: Done<T>) => void): Promise<T> {
    throwIfAborted(this.#signal);
    return await this.#request(start);
  }

  async #request<T = void>(start: (done: Done<T>) => void): Promise<T> {
    if (this.#lost !== undefined) throw this.#lost;
    return await new Promise<T>((resolve, reject) => {
      this.#underWay.add(reject);
      start((error, value) => {
        this.#underWay.delete(reject);
        // The library reports a connection that is gone as an error without a code.
        if (error && !('code' in error)) this.#lose(error);
        if (error) reject(this.#lost ?? error);
        else resolve(value as T);
      });
    });
  }

  /** The connection stays, so that what was begun can be removed. */
  readonly #interrupt = (): void => {
    try {
      throwIfAborted(this.#signal);
    } catch (error) {
      for (const reject of this.#underWay) reject(error);
      this.#underWay.clear();
    }
  };

  #lose(cause?: unknown): void {
    if (this.#lost !== undefined) return;
    const reason = cause instanceof Error ? `: ${cause.message}` : '';
    this.#lost = new TransientError(`the connection to ${this.#place} was lost${reason}`, { cause });
    for (const reject of this.#underWay) reject(this.#lost);
    this.#underWay.clear();
    this.#signal?.removeEventListener('abort', this.#interrupt);
    this.#client.destroy();
  }
}

function facts(stats: Stats): { size: number; modified: Date; isFile: boolean; isFolder: boolean } {
  const { size, mtime } = stats;
  return { size, modified: new Date(mtime * 1000), isFile: stats.isFile(), isFolder: stats.isDirectory() };
}

/** Where in ssh2 an error arose. */
function levelOf(error: unknown): string | undefined {
  return error instanceof Error && 'level' in error ? String(error.level) : undefined;
}

function connectError(error: unknown, place: string, login: Login): PgkeepError {
  if (error instanceof PgkeepError) return error;
  const message = error instanceof Error ? error.message : String(error);
  if (levelOf(error) === 'client-authentication') {
    return new PgkeepError(
      'STORAGE_CREDENTIALS',
      `the SFTP server ${place} refused the login of ${login.user}`,
      {
        hint: `tried: ${login.description}; set SFTP_KEY_FILE, SFTP_PASSWORD, or SSH_AUTH_SOCK for an agent, and check the user`,
        cause: error,
      },
    );
  }
  return new TransientError(`the SFTP server ${place} could not be reached: ${message}`, {
    hint: 'check host, port and network',
    cause: error,
  });
}
