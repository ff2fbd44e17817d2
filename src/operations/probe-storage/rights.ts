// What the credentials may do, each right by one request, and what it is needed for.
import { randomBytes } from 'node:crypto';
import { errorToData, PgkeepError } from '../../base/errors.ts';
import type { StoredObject } from '../../storage/storage.ts';
import { type Checklist, checkClock, clockSkewMs } from '../checklist.ts';
import { isDenied, type Scratch, staleFolders } from './scratch.ts';

export interface Rights {
  /** Whether there is any sense in trying more: objects can be stored, read and listed. */
  areEnough: boolean;
  mayPut: boolean;
  mayRemove: boolean;
  /** Folders of probes that were killed long ago. */
  stale: string[];
}

export const rightNames = ['list', 'put', 'get', 'stat', 'remove', 'clock'] as const;
const seeStorage = 'check what --repository names, the credentials, and what they may do there';

/** @throws PgkeepError when the storage cannot be reached at all. */
export async function checkRights(list: Checklist, scratch: Scratch): Promise<Rights> {
  const probes = await checkList(list, scratch);
  const bytes = randomBytes(1024);
  const before = Date.now();
  const mayPut = await attempt(list, 'put', 'create and cleanup cannot work, a restore can', async () => {
    await scratch.put('first', bytes);
    list.ok('put', 'objects can be stored');
  });
  const after = Date.now();
  if (!mayPut) {
    await checkReading(list, scratch);
    list.skip(['remove', 'clock'], 'nothing could be stored');
    return { areEnough: false, mayPut, mayRemove: false, stale: [] };
  }
  const mayGet = await attempt(list, 'get', 'nothing could be restored, nor verified', async () => {
    requireSame('first', bytes, await scratch.get('first'));
    list.ok('get', 'what was stored is read again');
  });
  let stored: StoredObject | undefined;
  const mayStat = await attempt(list, 'stat', 'create cannot tell what it may reuse', async () => {
    stored = await scratch.stat('first');
    if (stored?.sizeBytes !== bytes.length)
      throw new PgkeepError(
        'STORAGE_UNFIT',
        `an object of ${bytes.length} bytes was stored, and ${toldOf(stored)}`,
      );
    list.ok('stat', 'size and time of an object can be asked for');
  });
  const mayRemove = await checkRemoval(list, scratch, mayGet && mayStat && probes !== undefined);
  // Some storages tell whole seconds.
  if (stored === undefined) list.skip(['clock'], 'the storage told no time');
  else checkClock(list, 'clock', 'the storage', clockSkewMs(stored.modified.getTime(), before - 1000, after));
  return {
    areEnough: mayGet && mayStat && probes !== undefined,
    mayPut,
    mayRemove,
    stale: stored === undefined ? [] : staleFolders(probes ?? [], stored.modified),
  };
}

/** @returns what probes have left; undefined when there is no listing. */
async function checkList(list: Checklist, scratch: Scratch): Promise<StoredObject[] | undefined> {
  try {
    const probes = await scratch.listProbes();
    list.ok('reachable', `${scratch.storage.location} answers`);
    list.ok('list', 'objects can be listed');
    return probes;
  } catch (error) {
    if (!isDenied(error)) {
      // Another request tells whether it is the listing alone that fails.
      await scratch.stat('none').catch(other => {
        if (!isDenied(other)) throw error;
      });
    }
    list.ok('reachable', `${scratch.storage.location} answers`);
    fail(list, 'list', error, 'nothing can be created, restored or cleaned up without a listing');
    return undefined;
  }
}

/** Where nothing can be stored: whether a restore would work, by what is there, or by asking for what is not. */
async function checkReading(list: Checklist, scratch: Scratch): Promise<void> {
  const name = (await scratch.findForeign()) ?? scratch.name('none');
  await attempt(list, 'get', 'nothing could be restored, nor verified', async () => {
    await scratch.getForeign(name).catch(error => {
      if (!(error instanceof PgkeepError) || error.code !== 'OBJECT_MISSING') throw error;
    });
    list.ok('get', 'objects can be read');
  });
  await attempt(list, 'stat', 'restores and verifications cannot tell what is there', async () => {
    await scratch.stat('none');
    list.ok('stat', 'size and time of an object can be asked for');
  });
}

/** @returns whether objects may be removed. @param canLook whether what was removed can be looked for. */
async function checkRemoval(list: Checklist, scratch: Scratch, canLook: boolean): Promise<boolean> {
  const name = 'remove';
  try {
    await scratch.put('removed', Buffer.from('x'));
    await scratch.remove(['removed']);
    await scratch.remove(['never-there']);
    if (canLook) {
      const isSeen = (await scratch.stat('removed')) !== undefined;
      if (isSeen || (await scratch.list()).has('removed')) {
        const message = 'an object that was removed still shows; a cleanup may count what is gone';
        list.fail(name, message, 'use a store whose listings are current');
        return true;
      }
      await requireMissing(scratch, 'removed');
    }
    list.ok(name, 'objects can be removed, and are gone at once; those that are not there are passed over');
    return true;
  } catch (error) {
    if (!isDenied(error)) {
      fail(list, name, error, 'cleanup and delete cannot work');
      return false;
    }
    list.warn(
      name,
      `${error.message}: create and restore work, cleanup and delete need other credentials`,
      'nothing for whoever only takes backups, as a stolen key then cannot destroy them; run pgkeep cleanup as a user who may remove objects',
    );
    return false;
  }
}

/** @throws PgkeepError unless the storage says that the object is missing. */
export async function requireMissing(scratch: Scratch, part: string): Promise<void> {
  const found = await scratch.get(part).catch(error => {
    if (error instanceof PgkeepError && error.code === 'OBJECT_MISSING') return undefined;
    throw error;
  });
  if (found !== undefined)
    throw new PgkeepError('STORAGE_UNFIT', `${scratch.name(part)} is not there, and was read all the same`);
}

/** @throws PgkeepError OBJECT_DAMAGED. */
export function requireSame(part: string, stored: Buffer, read: Buffer): void {
  if (stored.equals(read)) return;
  throw new PgkeepError('OBJECT_DAMAGED', `${part} was read with other contents than were stored`);
}

function toldOf(stored: StoredObject | undefined): string {
  return stored === undefined ? 'is said not to be there' : `is said to have ${stored.sizeBytes}`;
}

/** @returns whether it worked; if not, that is an entry, with what it means. */
async function attempt(
  list: Checklist,
  name: string,
  meaning: string,
  request: () => Promise<void>,
): Promise<boolean> {
  try {
    await request();
    return true;
  } catch (error) {
    fail(list, name, error, meaning);
    return false;
  }
}

function fail(list: Checklist, name: string, error: unknown, meaning: string): void {
  const { message, hint } = errorToData(error);
  list.fail(name, `${message}: ${meaning}`, hint ?? seeStorage);
}
