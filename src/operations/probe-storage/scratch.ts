// Where a probe stores its objects: a folder below the repository that is its own. Remembers what it has stored, bounds the
// time of every request, and takes everything back.
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorCode, errorToData, PgkeepError } from '../../base/errors.ts';
import { scratchFolder, scratchFolderOf, scratchPrefix } from '../../repository/layout.ts';
import type { GetOptions, PutOptions, Storage, StoredObject } from '../../storage/storage.ts';
import { within } from '../checklist.ts';

/** For a request that moves little, and for one that moves an object of 16 MiB. */
const smallTimeoutMs = 30_000;
const largeTimeoutMs = 600_000;
const largeBytes = 1024 * 1024;
/** How long requests that were ended may take to say so. */
const settleMs = 5_000;
/** A probe takes minutes: what is older belongs to one that was killed. */
const staleMs = 24 * 3_600_000;

export class Scratch {
  readonly storage: Storage;
  /** Ends at a slash. */
  readonly folder = scratchFolder(Date.now(), randomBytes(4).toString('hex'));
  readonly #tried = new Set<string>();
  readonly #underWay = new Set<Promise<unknown>>();

  readonly #smallTimeoutMs: number;

  /** @param isLimited whether a small request may have to wait until the time of a large one is used up. */
  constructor(storage: Storage, isLimited: boolean) {
    this.storage = storage;
    this.#smallTimeoutMs = isLimited ? largeTimeoutMs : smallTimeoutMs;
  }

  /** The whole name of an object of this probe. */
  name(part: string): string {
    return this.folder + part;
  }

  /** The names by which something may have been stored. */
  get tried(): readonly string[] {
    return [...this.#tried];
  }

  put(part: string, bytes: Buffer, options?: PutOptions): Promise<'stored' | 'exists'> {
    const name = this.name(part);
    this.#tried.add(name);
    const limit = bytes.length > largeBytes ? largeTimeoutMs : this.#smallTimeoutMs;
    return this.#within('storing an object', this.storage.put(name, bytes, options), limit);
  }

  /** @param sizeBytes of the object, as far as it is known. */
  get(part: string, options?: GetOptions, sizeBytes = 0): Promise<Buffer> {
    const limit = sizeBytes > largeBytes ? largeTimeoutMs : this.#smallTimeoutMs;
    return this.#within('reading an object', this.storage.get(this.name(part), options), limit);
  }

  stat(part: string): Promise<StoredObject | undefined> {
    return this.#within('looking for an object', this.storage.stat(this.name(part)));
  }

  /** What is listed in a folder of this probe: the parts of the names that follow the probe's folder. */
  async list(part = ''): Promise<Set<string>> {
    const objects = await this.#within('listing', listAll(this.storage, this.name(part)));
    return new Set(objects.map(({ name }) => name.slice(this.folder.length)));
  }

  /** What probes have stored, this one and others. */
  listProbes(): Promise<StoredObject[]> {
    return this.#within('listing', listAll(this.storage, scratchPrefix));
  }

  /** The name of some object that is there, of no probe; undefined where there is none, or no listing. */
  async findForeign(): Promise<string | undefined> {
    const find = async () => {
      for await (const { name } of this.storage.list('')) if (!name.startsWith(scratchPrefix)) return name;
      return undefined;
    };
    return await this.#within('listing', find()).catch(() => undefined);
  }

  /** The first byte of such an object. */
  getForeign(name: string): Promise<Buffer> {
    return this.#within('reading an object', this.storage.get(name, { firstBytes: 1 }));
  }

  remove(parts: readonly string[]): Promise<void> {
    const names = parts.map(part => this.name(part));
    return this.#within('removing objects', this.storage.remove(names));
  }

  async examine(part: string): Promise<Awaited<ReturnType<NonNullable<Storage['examine']>>>> {
    const name = this.name(part);
    if (this.storage.examine === undefined) return {};
    this.#tried.add(name);
    return await this.#within('trying conditions and checksums', this.storage.examine(name));
  }

  /** Waits for requests that were ended, or went on unheard after their time. */
  async settle(): Promise<void> {
    await Promise.race([Promise.allSettled(this.#underWay), sleep(settleMs, undefined, { ref: false })]);
  }

  #within<T>(what: string, request: Promise<T>, limitMs = this.#smallTimeoutMs): Promise<T> {
    this.#underWay.add(request);
    const forget = () => this.#underWay.delete(request);
    request.then(forget, forget);
    return within(limitMs, what, request);
  }
}

/** The folders of probes that were killed long ago, by the storage's own clock. */
export function staleFolders(probes: readonly StoredObject[], now: Date): string[] {
  const youngest = new Map<string, number>();
  for (const { name, modified } of probes) {
    const folder = scratchFolderOf(name);
    if (folder === undefined) continue;
    youngest.set(folder, Math.max(youngest.get(folder) ?? 0, modified.getTime()));
  }
  return [...youngest].filter(([, time]) => now.getTime() - time > staleMs).map(([folder]) => folder);
}

/** What could not be removed, and why. */
export interface Left {
  names: string[];
  reason: string;
  /** Of what kept it from being removed; `undefined` when nothing did, and it is there all the same. */
  code?: ErrorCode;
}

/**
 * Removes what lies in a scratch folder.
 * @param tried names that may be there although a listing does not show them.
 * @param isCutOff whether requests were ended, which the storage may carry out all the same.
 */
export async function removeScratch(
  storage: Storage,
  folder: string,
  tried: readonly string[],
  isCutOff: boolean,
): Promise<Left> {
  let why: Omit<Left, 'names'> = { reason: 'they are listed although they were removed' };
  let unseen = tried;
  try {
    await removeEach(storage, tried);
    unseen = [];
    if (isCutOff) await sleep(1_000);
    const late = (await listAll(storage, folder)).map(({ name }) => name);
    await removeEach(storage, late);
    await storage.removeFolder?.(folder);
  } catch (error) {
    why = whyOf(error);
  }
  try {
    return { names: (await listAll(storage, folder)).map(({ name }) => name).sort(), ...why };
  } catch {
    return { names: [...unseen].sort(), ...why };
  }
}

export function whyOf(error: unknown): Omit<Left, 'names'> {
  const { message, code } = errorToData(error);
  return { reason: message, code };
}

/** One that cannot be removed does not keep the others, unless nothing may be. */
async function removeEach(storage: Storage, names: readonly string[]): Promise<void> {
  try {
    if (names.length > 0) await storage.remove(names);
  } catch (error) {
    if (!isDenied(error)) for (const name of names) await storage.remove([name]).catch(() => undefined);
    throw error;
  }
}

export function isDenied(error: unknown): error is PgkeepError {
  return error instanceof PgkeepError && error.code === 'STORAGE_DENIED';
}

async function listAll(storage: Storage, prefix: string): Promise<StoredObject[]> {
  const objects: StoredObject[] = [];
  for await (const object of storage.list(prefix)) objects.push(object);
  return objects;
}
