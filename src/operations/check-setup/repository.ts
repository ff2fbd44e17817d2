// Checks of the repository and the storage below it: there, of a known format, opened by the key, writable, with room.
import { formatBytes, formatDuration, formatQuantity } from '../../base/units.ts';
import { parseKey } from '../../crypto/key.ts';
import { inspectRepository, Repository, readAllMetadata } from '../../repository/repository.ts';
import { chooseLatest } from '../../repository/series.ts';
import type { Storage } from '../../storage/storage.ts';
import { Checklist, within } from '../checklist.ts';
import { checkRights } from '../probe-storage/rights.ts';
import { type Left, removeScratch, Scratch, whyOf } from '../probe-storage/scratch.ts';
import type { DatabaseFound } from './database.ts';

export interface RepositoryCheckOptions {
  /** Opens the storage; fails for an address that no backend serves. */
  open: () => Promise<Storage>;
  /** Finds the key; fails when the file that should hold it cannot be read. */
  readKey: () => string | undefined;
  /** `false`: the user wants none. */
  encryption: boolean | undefined;
  database: DatabaseFound | undefined;
}

/** For each call of the storage. */
const storageTimeoutMs = 30_000;
/** For all that is tried by objects. */
const rightsTimeoutMs = 60_000;
const maxBackupAgeMs = 48 * 3_600_000;
const seeRepository = 'check what --repository (BACKUP_STORAGE_PATH) names, and its permissions';
const minFreeBytes = 64 * 1024 * 1024;

export async function checkRepository(list: Checklist, options: RepositoryCheckOptions): Promise<void> {
  let storage: Storage;
  try {
    storage = await options.open();
  } catch (error) {
    list.failWith('repository', error, seeRepository);
    list.skip(['key', 'storage', 'storage-clock', 'free-space', 'newest-backup'], 'the storage is not known');
    return;
  }
  try {
    const found = await checkDescriptor(list, storage);
    if (found === 'failed') list.skip(['key'], 'the repository could not be read');
    else await checkKey(list, storage, found, options);
    await checkStorage(list, storage);
    await checkFreeSpace(list, storage, options.database);
    if (found === 'failed') list.skip(['newest-backup'], 'the repository could not be read');
    else await checkNewest(list, storage, found !== undefined, options.database);
  } finally {
    await storage.close();
  }
}

type Inspected = Awaited<ReturnType<typeof inspectRepository>>;

async function checkDescriptor(list: Checklist, storage: Storage): Promise<Inspected | 'failed'> {
  try {
    const found = await within(storageTimeoutMs, 'reading the repository', inspectRepository(storage));
    if (found === undefined)
      list.ok('repository', `there is none yet at ${storage.location}; the first pgkeep create makes it`);
    else
      list.ok(
        'repository',
        `${storage.location}, format 1, ${found.encrypted ? 'encrypted' : 'not encrypted'}`,
      );
    return found;
  } catch (error) {
    list.failWith('repository', error, seeRepository);
    return 'failed';
  }
}

async function checkKey(
  list: Checklist,
  storage: Storage,
  found: Inspected,
  options: RepositoryCheckOptions,
): Promise<void> {
  try {
    const key = options.readKey();
    if (found === undefined) checkNewKey(list, key, options.encryption);
    else if (found.encrypted) {
      await within(storageTimeoutMs, 'opening the repository', Repository.open(storage, key));
      list.ok('key', 'the key opens the repository; keep a copy apart from server and backups');
    } else if (key !== undefined && options.encryption !== false) {
      list.fail(
        'key',
        'a key was given, but the repository was made without encryption',
        'choose another repository, or pass --no-encryption (PGKEEP_ENCRYPTION=false) to go on without',
      );
    } else list.ok('key', 'none is needed: the repository was made without encryption');
  } catch (error) {
    list.failWith(
      'key',
      error,
      'set BACKUP_ENCRYPTION_KEY, or BACKUP_ENCRYPTION_KEY_FILE, to the key of this repository',
    );
  }
}

function checkNewKey(list: Checklist, key: string | undefined, encryption: boolean | undefined): void {
  if (encryption === false) {
    list.ok('key', 'none is wanted: the new repository would not be encrypted');
  } else if (key === undefined) {
    list.fail(
      'key',
      'a new repository is encrypted, and no key was given',
      'pgkeep key generate --output pgkeep.key, then set BACKUP_ENCRYPTION_KEY_FILE=pgkeep.key',
    );
  } else {
    parseKey(key);
    list.ok('key', 'the key is well formed; keep a copy apart from server and backups');
  }
}

/** Writes, reads, lists and removes objects of its own, as `pgkeep storage probe` does before it looks closer. */
async function checkStorage(list: Checklist, storage: Storage): Promise<void> {
  const scratch = new Scratch(storage, false);
  const tried = new Checklist();
  const begunAt = Date.now();
  let stale: readonly string[] = [];
  try {
    ({ stale } = await within(rightsTimeoutMs, 'trying the storage', checkRights(tried, scratch)));
  } catch (error) {
    tried.failWith('reachable', error, seeRepository);
  }
  const duration = formatDuration(Date.now() - begunAt);
  const left = await removeProbes(scratch, stale);
  const { checks } = tried;
  const failure = checks.find(({ status }) => status === 'failure');
  const did = `objects were written, read and listed in ${duration}`;
  const some = formatQuantity(left.names.length, 'object');
  const stay = `${some} ${left.names.length === 1 ? 'stays' : 'stay'} below ${scratch.folder}`;
  if (failure !== undefined) list.fail('storage', failure.message, failure.remedy ?? seeRepository);
  else if (left.code === 'INTERNAL') {
    list.fail('storage', `${did}, and removing them failed: ${left.reason}`, 'report it with this message');
  } else if (left.names.length === 0)
    list.ok('storage', `objects were written, read, listed and removed in ${duration}`);
  else if (left.code === 'STORAGE_DENIED') {
    list.warn(
      'storage',
      `${did}, and may not be removed: ${stay}`,
      'nothing for whoever only takes backups; run pgkeep cleanup as a user who may remove objects',
    );
  } else {
    list.fail(
      'storage',
      `${did}, and could not be removed: ${left.reason}; ${stay}`,
      'see whether the storage is in order; a later doctor removes them once they are a day old',
    );
  }
  const clock = checks.find(({ name }) => name === 'clock');
  if (clock === undefined) list.skip(['storage-clock'], 'the storage could not be reached');
  else list.checks.push({ ...clock, name: 'storage-clock' });
}

/** What this one stored, and what earlier ones left when they were killed. @returns what of its own could not be removed, and why. */
async function removeProbes({ storage, folder, tried }: Scratch, stale: readonly string[]): Promise<Left> {
  const remove = (from: string, names: readonly string[]) =>
    within(storageTimeoutMs, 'removing', removeScratch(storage, from, names, false));
  if (tried.length === 0) return { names: [], reason: 'nothing was stored' };
  try {
    const left = await remove(folder, tried);
    for (const old of left.names.length === 0 ? stale : []) await remove(old, []);
    return left;
  } catch (error) {
    // No answer in time.
    return { names: [...tried], ...whyOf(error) };
  }
}

export async function checkFreeSpace(
  list: Checklist,
  storage: Storage,
  database: DatabaseFound | undefined,
): Promise<void> {
  const name = 'free-space';
  try {
    const asked = storage.freeBytes?.();
    const free = asked && (await within(storageTimeoutMs, 'asking for the free space', asked));
    if (free === undefined) {
      list.ok(name, 'this storage has no limit that could be asked for');
      return;
    }
    const size = database?.sizeBytes;
    const against = size === undefined ? '' : `; the database has ${formatBytes(size)}`;
    const remedy = 'free space there, or choose another place with --repository';
    if (free < minFreeBytes) list.fail(name, `only ${formatBytes(free)} are free${against}`, remedy);
    else if (size !== undefined && free < size)
      list.warn(
        name,
        `${formatBytes(free)} are free${against}, of which a first backup stores about a third`,
        remedy,
      );
    else list.ok(name, `${formatBytes(free)} are free${against}`);
  } catch (error) {
    list.failWith(name, error, seeRepository);
  }
}

async function checkNewest(
  list: Checklist,
  storage: Storage,
  isThere: boolean,
  database: DatabaseFound | undefined,
): Promise<void> {
  const name = 'newest-backup';
  const of = database === undefined ? '' : ` of ${database.name}`;
  const make = 'pgkeep create';
  if (!isThere) {
    list.warn(name, `there is no backup${of} yet`, make);
    return;
  }
  try {
    const { backups, damaged } = await within(storageTimeoutMs, 'reading the list', readAllMetadata(storage));
    const own = backups.filter(
      backup =>
        database === undefined ||
        (backup.database === database.name &&
          (database.server === undefined || [undefined, database.server].includes(backup.server))),
    );
    const newest = chooseLatest(own, database?.name)?.latest;
    if (damaged.length > 0)
      list.warn(
        name,
        `the metadata of ${damaged.map(({ id }) => id).join(', ')} are damaged`,
        `pgkeep verify ${damaged[0]?.id}`,
      );
    if (newest === undefined) {
      const only = own.length > 0 ? 'complete ' : '';
      list.warn(name, `there is no ${only}backup${of} yet`, make);
      return;
    }
    const ageMs = Date.now() - Date.parse(newest.timestamp);
    const what = newest.part === undefined ? 'newest complete backup' : 'newest backup, a part,';
    const message = `the ${what}${of} is ${newest.id}, ${formatDuration(Math.max(0, ageMs))} old`;
    if (ageMs <= maxBackupAgeMs) list.ok(name, message);
    else list.warn(name, message, `${make}; and see whether the job that should run it still does`);
  } catch (error) {
    list.failWith(name, error, seeRepository);
  }
}
