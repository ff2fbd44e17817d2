// Storage in a folder: each object a file, written beside its place, synced, linked into place, the folder synced.
import { randomBytes } from 'node:crypto';
import { link, mkdir, open, readdir, rename, rm, rmdir, stat, statfs } from 'node:fs/promises';
import path from 'node:path';
import { foreignCode, PgkeepError } from '../../base/errors.ts';
import { objectMissing, objectTooLarge, requireObjectSize } from '../object-errors.ts';
import { requireObjectName } from '../object-name.ts';
import {
  type GetOptions,
  maxObjectBytes,
  type PutOptions,
  type Storage,
  type StoredObject,
} from '../storage.ts';

/** Of files of a folder that is listed. */
const statsAtOnce = 64;

export class LocalStorage implements Storage {
  readonly location: string;
  /** Folders known to exist and to have been synced into their parents. */
  readonly #folders = new Map<string, Promise<void>>();

  constructor(folder: string) {
    this.location = path.resolve(folder);
  }

  async put(name: string, bytes: Buffer, options: PutOptions = {}): Promise<'stored' | 'exists'> {
    const target = this.#pathOf(name);
    requireObjectSize(name, bytes);
    const folder = path.dirname(target);
    // The dot keeps the unfinished file out of listings.
    const beside = path.join(folder, `.${path.basename(target)}.${randomBytes(6).toString('hex')}.tmp`);
    try {
      await this.#ensureFolder(folder);
      await writeSynced(beside, bytes);
      try {
        if (options.ifAbsent) {
          // A hard link is the atomic "create if absent": exactly one of several succeeds.
          await link(beside, target);
          await rm(beside);
        } else {
          await rename(beside, target);
        }
      } catch (error) {
        await rm(beside, { force: true });
        if (options.ifAbsent && foreignCode(error) === 'EEXIST') return 'exists';
        if (options.ifAbsent && noHardLinks.has(foreignCode(error) ?? ''))
          throw unfit(folder, 'has no hard links', error);
        if (!options.ifAbsent && noReplacing.has(foreignCode(error) ?? ''))
          throw unfit(folder, 'does not replace a file by renaming another', error);
        throw error;
      }
      await syncFolder(folder);
      return 'stored';
    } catch (error) {
      await rm(beside, { force: true }).catch(() => undefined);
      throw translate(error, target);
    }
  }

  async get(name: string, { firstBytes }: GetOptions = {}): Promise<Buffer> {
    const target = this.#pathOf(name);
    try {
      await using handle = await open(target, 'r');
      const { size } = await handle.stat();
      if (size > maxObjectBytes) {
        throw objectTooLarge(name, size);
      }
      if (firstBytes === undefined) return await handle.readFile();
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(firstBytes), 0, firstBytes, 0);
      return buffer.subarray(0, bytesRead);
    } catch (error) {
      if (isAbsence(error)) {
        throw objectMissing(name, this.location);
      }
      throw translate(error, target);
    }
  }

  async stat(name: string): Promise<StoredObject | undefined> {
    const target = this.#pathOf(name);
    try {
      const found = await stat(target);
      return found.isFile() ? { name, sizeBytes: found.size, modified: found.mtime } : undefined;
    } catch (error) {
      if (isAbsence(error)) return undefined;
      throw translate(error, target);
    }
  }

  async *list(prefix: string): AsyncIterable<StoredObject> {
    yield* this.#walk(prefix === '' ? '' : prefix.replace(/\/$/, ''));
  }

  async remove(names: readonly string[]): Promise<void> {
    const targets = names.map(name => this.#pathOf(name));
    for (const target of targets) {
      await rm(target, { force: true }).catch(error => {
        if (!isAbsence(error)) throw translate(error, target);
      });
    }
    for (const folder of new Set(targets.map(target => path.dirname(target)))) {
      await syncFolder(folder).catch(error => {
        if (!isAbsence(error)) throw translate(error, folder);
      });
    }
  }

  /** What the file system has left for users without privileges. */
  async freeBytes(): Promise<number | undefined> {
    for (let folder = this.location; ; folder = path.dirname(folder)) {
      try {
        const { blocks, bavail, bsize } = await statfs(folder);
        // Shares that keep it to themselves give zeros.
        return blocks === 0 ? undefined : bavail * bsize;
      } catch (error) {
        // Before the first backup the folder may not be there.
        if (foreignCode(error) !== 'ENOENT' || folder === path.dirname(folder))
          throw translate(error, folder);
      }
    }
  }

  async removeFolder(prefix: string): Promise<void> {
    const name = prefix.replace(/\/$/, '');
    const folder = this.#pathOf(name);
    await rm(folder, { recursive: true, force: true }).catch(error => {
      throw translate(error, folder);
    });
    this.#folders.clear();
    for (let parent = path.dirname(name); parent !== '.'; parent = path.dirname(parent)) {
      // Where there is something in it still, it stays.
      const failed = await rmdir(path.join(this.location, parent)).catch((error: unknown) => error);
      if (failed !== undefined) break;
    }
  }

  async close(): Promise<void> {}

  async *#walk(relative: string): AsyncIterable<StoredObject> {
    const folder = path.join(this.location, relative);
    let entries: import('node:fs').Dirent[];
    try {
      entries = await readdir(folder, { withFileTypes: true });
    } catch (error) {
      if (foreignCode(error) === 'ENOENT') return;
      throw translate(error, folder);
    }
    for (let first = 0; first < entries.length; first += statsAtOnce) {
      const some = entries
        .slice(first, first + statsAtOnce)
        .filter(entry => !entry.name.startsWith('.'))
        .map(entry => ({ entry, name: relative === '' ? entry.name : `${relative}/${entry.name}` }));
      const objects = await Promise.all(
        some.map(({ entry, name }) => (entry.isFile() ? this.stat(name) : undefined)),
      );
      for (const [index, { entry, name }] of some.entries()) {
        const object = objects[index];
        if (entry.isDirectory()) yield* this.#walk(name);
        // Undefined also when it was removed since the folder was read.
        else if (object !== undefined) yield object;
      }
    }
  }

  #pathOf(name: string): string {
    requireObjectName(name);
    return path.join(this.location, name);
  }

  #ensureFolder(folder: string): Promise<void> {
    let ready = this.#folders.get(folder);
    if (ready === undefined) {
      ready = makeFolder(folder);
      this.#folders.set(folder, ready);
      // A failure is not remembered: the next put tries again.
      ready.catch(() => this.#folders.delete(folder));
    }
    return ready;
  }
}

/** Whether an error says that there is no file of that name: nothing, or a folder, or a file where a folder would be. */
function isAbsence(error: unknown): boolean {
  return ['ENOENT', 'ENOTDIR', 'EISDIR', 'ERR_FS_EISDIR'].includes(foreignCode(error) ?? '');
}

/** Makes a folder and its parents (mode 0700) and syncs every folder that gained an entry. */
async function makeFolder(folder: string): Promise<void> {
  const first = await mkdir(folder, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  for (let made = folder; made.length >= first.length; made = path.dirname(made)) {
    await syncFolder(path.dirname(made));
  }
}

async function writeSynced(file: string, bytes: Buffer): Promise<void> {
  const handle = await open(file, 'wx', 0o600);
  try {
    await handle.writeFile(bytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** What syncing a folder fails with on shares that know it for files alone. */
const noFolderSync = new Set(['EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EBADF']);

/** Makes the folder's entries durable, where the file system lets a folder be synced. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync().catch((error: unknown) => {
      if (!noFolderSync.has(foreignCode(error) ?? '')) throw error;
    });
  } finally {
    await handle.close();
  }
}

/** What linking a file just written fails with where links do not exist. */
const noHardLinks = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']);

/** What renaming fails with where it does not replace. */
const noReplacing = new Set(['EEXIST', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EXDEV']);

function unfit(folder: string, what: string, cause: unknown): PgkeepError {
  return new PgkeepError('STORAGE_UNFIT', `the file system of ${folder} ${what}`, {
    hint: 'without it two runs could overwrite each other, or a reader see half an object; keep the repository on another file system (not exFAT or some network shares)',
    cause,
  });
}

function translate(error: unknown, where: string): PgkeepError {
  if (error instanceof PgkeepError) return error;
  const code = foreignCode(error);
  const details = { context: { path: where, errno: code ?? 'unknown' }, cause: error };
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new PgkeepError('STORAGE_FULL', `no space left to write ${where}`, {
        ...details,
        hint: 'free space or choose another repository, then run again: what was stored is reused',
      });
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new PgkeepError('STORAGE_DENIED', `access to ${where} was refused (${code})`, {
        ...details,
        hint: 'check owner and permissions of the repository folder',
      });
    default:
      return new PgkeepError(
        'STORAGE_UNREACHABLE',
        `${where} could not be used (${code ?? (error instanceof Error ? error.message : String(error))})`,
        details,
      );
  }
}
