// Storage in a folder of an SFTP server: each object a file, written beside its place, synced, then linked or renamed
// into place. A connection that was lost is made again at the next call; repeating what failed is the caller's matter.
import { randomBytes } from 'node:crypto';
import { posix as path } from 'node:path';
import { PgkeepError } from '../../base/errors.ts';
import { forEachAtOnce } from '../../base/for-each-at-once.ts';
import { objectMissing, objectTooLarge, requireObjectSize } from '../object-errors.ts';
import { isObjectName, requireObjectName } from '../object-name.ts';
import { PagedListing } from '../paged-listing.ts';
import {
  type GetOptions,
  maxObjectBytes,
  type PutOptions,
  type Storage,
  type StorageFacts,
  type StoredObject,
} from '../storage.ts';
import type { SftpOptions } from '../storage-options.ts';
import { TransientError } from '../transient-error.ts';
import { parseSftpAddress, type SftpAddress } from './sftp-address.ts';
import { SftpConnection, sftpStatus } from './sftp-connection.ts';

const foldersAtOnce = 16;
const removalsAtOnce = 16;

export class SftpStorage implements Storage {
  readonly location: string;
  readonly #address: SftpAddress;
  readonly #options: SftpOptions;
  readonly #signal: AbortSignal | undefined;
  /** Folders known to exist. */
  readonly #folders = new Map<string, Promise<void>>();
  /** Unfinished files that a lost connection has left on the server. */
  readonly #leavings = new Set<string>();
  #connection: Promise<SftpConnection> | undefined;
  #isClosed = false;

  /**
   * Connects at the first call.
   * @param signal ends requests under way.
   * @throws PgkeepError OPTION_INVALID for an address that is none.
   */
  constructor(address: string, options: SftpOptions = {}, signal?: AbortSignal) {
    this.#address = parseSftpAddress(address);
    this.#options = options;
    this.#signal = signal;
    this.location = address.replace(/\/+$/, '');
  }

  async put(name: string, bytes: Buffer, options: PutOptions = {}): Promise<'stored' | 'exists'> {
    const target = this.#pathOf(name);
    requireObjectSize(name, bytes);
    const connection = await this.#connect();
    requireAtomicNames(connection, this.location);
    const folder = path.dirname(target);
    // The dot keeps the unfinished file out of listings.
    const beside = path.join(folder, `.${path.basename(target)}.${randomBytes(6).toString('hex')}.tmp`);
    try {
      await this.#ensureFolder(connection, folder);
      await connection.writeNew(beside, bytes);
      let isFirst = true;
      if (!options.ifAbsent) await connection.rename(beside, target);
      else isFirst = await linkIfAbsent(connection, beside, target);
      await Promise.all([
        options.ifAbsent && connection.removeFile(beside),
        isFirst && connection.syncFolder(folder),
      ]);
      return isFirst ? 'stored' : 'exists';
    } catch (error) {
      // The folder may have been removed by somebody since it was made.
      this.#folders.delete(folder);
      await this.#removeLeaving(connection, beside);
      throw await this.#translateWrite(connection, error, folder, target, bytes.length);
    }
  }

  async get(name: string, { firstBytes }: GetOptions = {}): Promise<Buffer> {
    const target = this.#pathOf(name);
    const connection = await this.#connect();
    const found = await connection.read(target, maxObjectBytes, firstBytes).catch((error: unknown) => {
      if (statusOf(error) === sftpStatus.noSuchFile) return undefined;
      throw translate(error, target);
    });
    if (found === undefined) throw objectMissing(name, this.location);
    if (typeof found === 'number') throw objectTooLarge(name, found);
    return found;
  }

  async stat(name: string): Promise<StoredObject | undefined> {
    const target = this.#pathOf(name);
    const connection = await this.#connect();
    try {
      const { size, modified, isFile } = await connection.stat(target);
      return isFile ? { name, sizeBytes: size, modified } : undefined;
    } catch (error) {
      if (statusOf(error) === sftpStatus.noSuchFile) return undefined;
      throw translate(error, target);
    }
  }

  /** A page is a few folders; the next begins with those that are left, and those found in them. */
  list(prefix: string): PagedListing<string[]> {
    return new PagedListing([prefix.replace(/\/$/, '')], async folders => {
      const connection = await this.#connect();
      const some = folders.slice(-foldersAtOnce);
      const contents = await Promise.all(some.map(folder => this.#readFolder(connection, folder)));
      const left = [...folders.slice(0, -foldersAtOnce), ...contents.flatMap(({ subfolders }) => subfolders)];
      return {
        objects: contents.flatMap(({ objects }) => objects),
        next: left.length > 0 ? left : undefined,
      };
    });
  }

  async remove(names: readonly string[]): Promise<void> {
    const targets = names.map(name => this.#pathOf(name));
    if (targets.length === 0) return;
    const connection = await this.#connect();
    await forEachAtOnce(targets, target => removeOne(connection, target), removalsAtOnce);
    for (const folder of new Set(targets.map(target => path.dirname(target)))) {
      await connection.syncFolder(folder);
    }
  }

  async removeFolder(prefix: string): Promise<void> {
    const name = prefix.replace(/\/$/, '');
    const folder = this.#pathOf(name);
    const connection = await this.#connect();
    await removeTree(connection, folder).catch((error: unknown) => {
      if (statusOf(error) !== sftpStatus.noSuchFile) throw translate(error, folder);
    });
    this.#folders.clear();
    for (let parent = path.dirname(name); parent !== '.'; parent = path.dirname(parent)) {
      // Where there is something in it still, it stays.
      const failed = await connection.removeFolder(this.#pathOf(parent)).catch((error: unknown) => error);
      if (failed !== undefined) break;
    }
  }

  async examine(): Promise<StorageFacts> {
    return { transport: { host: this.#address.host, isEncrypted: true } };
  }

  /** What the server's file system has left for the account. */
  async freeBytes(): Promise<number | undefined> {
    const connection = await this.#connect();
    for (let { folder } = this.#address; ; folder = path.dirname(folder)) {
      try {
        return await connection.freeBytes(folder);
      } catch (error) {
        // Before the first backup the folder may not be there.
        if (statusOf(error) !== sftpStatus.noSuchFile || folder === path.dirname(folder))
          throw translate(error, folder);
      }
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const connection = await this.#connection?.catch(() => undefined);
    await connection?.close();
  }

  /** The connection, made anew when there is none or it was lost; one for all who ask at once. */
  async #connect(): Promise<SftpConnection> {
    for (;;) {
      const present = this.#connection;
      const connection = await present?.catch(() => undefined);
      if (connection !== undefined && !connection.isLost) return connection;
      if (this.#isClosed) throw new PgkeepError('INTERNAL', `the storage ${this.location} was closed`);
      // Unless another call has begun a new one meanwhile.
      if (this.#connection !== present) continue;
      this.#connection = SftpConnection.open(this.#address, this.#options, this.#signal);
      const opened = await this.#connection;
      await Promise.all([...this.#leavings].map(file => this.#removeLeaving(opened, file)));
      return opened;
    }
  }

  /** Removes an unfinished file, or has the next connection do it. */
  async #removeLeaving(connection: SftpConnection, file: string): Promise<void> {
    this.#leavings.add(file);
    await connection.removeLeaving(file).catch(() => undefined);
    if (!connection.isLost) this.#leavings.delete(file);
  }

  async #readFolder(
    connection: SftpConnection,
    relative: string,
  ): Promise<{ objects: StoredObject[]; subfolders: string[] }> {
    const folder = path.join(this.#address.folder, relative);
    const entries = await connection.readFolder(folder).catch((error: unknown) => {
      if (statusOf(error) === sftpStatus.noSuchFile) return [];
      throw translate(error, folder);
    });
    const objects: StoredObject[] = [];
    const subfolders: string[] = [];
    for (const { name: entry, size, modified, isFile, isFolder } of entries) {
      const name = relative === '' ? entry : `${relative}/${entry}`;
      if (!isObjectName(name)) continue;
      if (isFolder) subfolders.push(name);
      else if (isFile) objects.push({ name, sizeBytes: size, modified });
    }
    return { objects, subfolders };
  }

  #pathOf(name: string): string {
    requireObjectName(name);
    return path.join(this.#address.folder, name);
  }

  #ensureFolder(connection: SftpConnection, folder: string): Promise<void> {
    let ready = this.#folders.get(folder);
    if (ready === undefined) {
      ready = this.#makeFolder(connection, folder);
      this.#folders.set(folder, ready);
      // A failure is not remembered: the next put tries again.
      ready.catch(() => this.#folders.delete(folder));
    }
    return ready;
  }

  async #makeFolder(connection: SftpConnection, folder: string): Promise<void> {
    const parent = path.dirname(folder);
    try {
      await connection.makeFolder(folder);
    } catch (error) {
      if (statusOf(error) === sftpStatus.noSuchFile && parent !== folder) {
        await this.#ensureFolder(connection, parent);
        await connection.makeFolder(folder).catch(async (again: unknown) => {
          if (!(await isFolder(connection, folder))) throw again;
        });
      } else if (!(await isFolder(connection, folder))) {
        throw error;
      }
    }
    await connection.syncFolder(parent);
  }

  /** Tells a full disk from other failures, for which the protocol has no code. */
  async #translateWrite(
    connection: SftpConnection,
    error: unknown,
    folder: string,
    target: string,
    neededBytes: number,
  ): Promise<PgkeepError> {
    if (statusOf(error) === sftpStatus.failure && !connection.isLost) {
      const free = await connection.freeBytes(folder).catch(() => undefined);
      if (free !== undefined && free < neededBytes + blockBytes) {
        return new PgkeepError('STORAGE_FULL', `no space left to write ${target} on ${this.#address.host}`, {
          hint: 'free space or choose another repository, then run again: what was stored is reused',
          cause: error,
        });
      }
    }
    return translate(error, target);
  }
}

/** What a file system may round a file up to. */
const blockBytes = 64 * 1024;

async function removeTree(connection: SftpConnection, folder: string): Promise<void> {
  for (const entry of await connection.readFolder(folder)) {
    // Servers list these two as well.
    if (entry.name === '.' || entry.name === '..') continue;
    const inside = path.join(folder, entry.name);
    await (entry.isFolder ? removeTree(connection, inside) : connection.removeFile(inside));
  }
  await connection.removeFolder(folder);
}

async function removeOne(connection: SftpConnection, target: string): Promise<void> {
  try {
    await connection.removeFile(target);
  } catch (error) {
    if (statusOf(error) === sftpStatus.noSuchFile || (await isFolder(connection, target))) return;
    throw translate(error, target);
  }
}

/** @returns whether it was this file that got the name: of several only one does. */
async function linkIfAbsent(connection: SftpConnection, beside: string, target: string): Promise<boolean> {
  try {
    await connection.link(beside, target);
    return true;
  } catch (error) {
    // Version 3 of the protocol has one code for most failures, so a look has to tell.
    if (statusOf(error) !== sftpStatus.failure || !(await exists(connection, target))) throw error;
    return false;
  }
}

async function exists(connection: SftpConnection, target: string): Promise<boolean> {
  return await connection.stat(target).then(
    () => true,
    (error: unknown) => {
      if (statusOf(error) === sftpStatus.noSuchFile) return false;
      throw error;
    },
  );
}

async function isFolder(connection: SftpConnection, target: string): Promise<boolean> {
  return await connection.stat(target).then(
    found => found.isFolder,
    (error: unknown) => {
      if (error instanceof PgkeepError) throw error;
      return false;
    },
  );
}

/**
 * Plain renaming either replaces or does not, as the server pleases, and a file opened as new is seen half written:
 * only these two extensions keep the contract.
 */
function requireAtomicNames(connection: SftpConnection, location: string): void {
  const missing = (['hardlink', 'posix-rename'] as const).filter(
    extension => !connection.supports(extension),
  );
  if (missing.length === 0) return;
  const extensions = missing.map(extension => `${extension}@openssh.com`).join(' and ');
  throw new PgkeepError('STORAGE_UNFIT', `the SFTP server of ${location} lacks ${extensions}`, {
    hint: 'without it two runs could overwrite each other, or a reader see half an object; use OpenSSH or a server with its extensions',
  });
}

/** The status of a request that the server refused; undefined for everything else. */
function statusOf(error: unknown): number | undefined {
  if (error instanceof PgkeepError || typeof error !== 'object' || error === null) return undefined;
  return 'code' in error && typeof error.code === 'number' ? error.code : undefined;
}

function translate(error: unknown, where: string): PgkeepError {
  if (error instanceof PgkeepError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const details = { context: { path: where, status: statusOf(error) ?? -1 }, cause: error };
  if (statusOf(error) === sftpStatus.permissionDenied) {
    return new PgkeepError('STORAGE_DENIED', `access to ${where} was refused`, {
      ...details,
      hint: 'check owner and permissions of the repository folder on the server',
    });
  }
  return statusOf(error) === undefined
    ? new TransientError(`${where} could not be used: ${message}`, details)
    : new PgkeepError('STORAGE_UNREACHABLE', `${where} could not be used: ${message}`, details);
}
