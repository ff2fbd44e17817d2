// A storage between pgkeep and the real one that fails where it is told to: the nth request, or the nth of a kind. It
// counts and names every request, and says which of the planned faults happened.
//
// Operations open their storage themselves. `interceptStorage` puts a wrapper around every storage opened at a folder,
// in this process; test/support/run-under-faults.ts does it in a process of its own, which may also be killed.

import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorCode, PgkeepError } from '../../src/base/errors.ts';
import { LocalStorage } from '../../src/storage/local/local-storage.ts';
import type { PutOptions, Storage, StoredObject } from '../../src/storage/storage.ts';

export type Call = 'put' | 'get' | 'stat' | 'list' | 'remove';

export interface Request {
  /** 1 is the first. */
  number: number;
  call: Call;
  /** The object, the prefix of a listing, or the first of the objects removed. */
  name: string;
}

/** Which requests a fault happens to. Plain data, so that it can be given to another process. */
export interface Where {
  /** The how many-th request of all; 1 is the first. */
  number?: number;
  call?: Call;
  /** The beginning of the name. */
  name?: string;
  /** The how many-th of the requests that match otherwise; 1 is the first. Without it all of them. */
  nth?: number;
}

export type Effect =
  /** The request fails and nothing is done. */
  | { do: 'fail'; code: ErrorCode }
  /** What was asked is done, and then the caller sees STORAGE_UNREACHABLE. */
  | { do: 'lose-acknowledgement' }
  /** Half of a removal is done, or none of another request, and then it fails. */
  | { do: 'fail-half-way'; code: ErrorCode }
  /** A get gives the first bytes alone, without a word. */
  | { do: 'cut'; bytes: number }
  /** A get gives the bytes with one bit changed, without a word. */
  | { do: 'flip'; byte: number }
  | { do: 'delay'; ms: number }
  /** A listing leaves out what was written less than so many milliseconds ago. */
  | { do: 'hide'; withinMs: number }
  /** The process kills itself with SIGKILL: before the request, or once it has been done. */
  | { do: 'die'; when: 'before' | 'after' };

export type Fault = Where & Effect;

export class FaultyStorage implements Storage {
  readonly location: string;
  /** Every request so far, in order. */
  readonly requests: Request[] = [];
  /** The faults that happened, as often as they did. */
  readonly happened: Fault[] = [];
  readonly #inner: Storage;
  readonly #faults: readonly Fault[];
  /** How many requests have matched each fault. */
  readonly #matched = new Map<Fault, number>();

  constructor(inner: Storage, faults: readonly Fault[] = []) {
    this.location = inner.location;
    this.#inner = inner;
    this.#faults = faults;
  }

  async put(name: string, bytes: Buffer, options?: PutOptions): Promise<'stored' | 'exists'> {
    return await this.#request('put', name, () => this.#inner.put(name, bytes, options));
  }

  async get(...args: Parameters<Storage['get']>): Promise<Buffer> {
    const effects = this.#begin('get', args[0]);
    const bytes = await this.#perform(effects, () => this.#inner.get(...args));
    return effects.reduce((read, effect) => {
      if (effect.do === 'cut') return read.subarray(0, effect.bytes);
      if (effect.do !== 'flip') return read;
      const changed = Buffer.from(read);
      changed[effect.byte % read.length] = (changed[effect.byte % read.length] ?? 0) ^ 1;
      return changed;
    }, bytes);
  }

  async stat(name: string): Promise<StoredObject | undefined> {
    return await this.#request('stat', name, () => this.#inner.stat(name));
  }

  async *list(prefix: string): AsyncIterable<StoredObject> {
    const effects = this.#begin('list', prefix);
    const objects = await this.#perform(effects, () => collect(this.#inner.list(prefix)));
    const hide = effects.find(effect => effect.do === 'hide');
    const until = hide === undefined ? Number.POSITIVE_INFINITY : Date.now() - hide.withinMs;
    yield* objects.filter(object => object.modified.getTime() <= until);
  }

  async remove(names: readonly string[]): Promise<void> {
    const effects = this.#begin('remove', names[0] ?? '');
    const half = effects.find(effect => effect.do === 'fail-half-way');
    if (half !== undefined) {
      await this.#inner.remove(names.slice(0, Math.ceil(names.length / 2)));
      throw failure(half.code, `removing ${names[0]}`);
    }
    await this.#perform(effects, () => this.#inner.remove(names));
  }

  async close(): Promise<void> {
    await this.#inner.close();
  }

  async #request<T>(call: Call, name: string, perform: () => Promise<T>): Promise<T> {
    return await this.#perform(this.#begin(call, name), perform);
  }

  /** Counts a request and finds what shall happen to it. */
  #begin(call: Call, name: string): Fault[] {
    const request: Request = { number: this.requests.length + 1, call, name };
    this.requests.push(request);
    const due = this.#faults.filter(fault => this.#isDue(fault, request));
    this.happened.push(...due);
    return due;
  }

  #isDue(fault: Fault, { number, call, name }: Request): boolean {
    if (fault.number !== undefined && fault.number !== number) return false;
    if (fault.call !== undefined && fault.call !== call) return false;
    if (fault.name !== undefined && !name.startsWith(fault.name)) return false;
    const count = (this.#matched.get(fault) ?? 0) + 1;
    this.#matched.set(fault, count);
    return fault.nth === undefined || fault.nth === count;
  }

  async #perform<T>(effects: readonly Fault[], perform: () => Promise<T>): Promise<T> {
    const { call, name } = this.requests.at(-1) ?? { call: 'get', name: '' };
    const what = `${call} ${name}`;
    for (const effect of effects) {
      if (effect.do === 'delay') await sleep(effect.ms);
      if (effect.do === 'die' && effect.when === 'before') await die();
      if (effect.do === 'fail' || effect.do === 'fail-half-way') throw failure(effect.code, what);
    }
    const result = await perform();
    for (const effect of effects) {
      if (effect.do === 'die') await die();
      if (effect.do === 'lose-acknowledgement') throw failure('STORAGE_UNREACHABLE', what);
    }
    return result;
  }
}

async function collect(objects: AsyncIterable<StoredObject>): Promise<StoredObject[]> {
  const all: StoredObject[] = [];
  for await (const object of objects) all.push(object);
  return all;
}

function failure(code: ErrorCode, what: string): PgkeepError {
  return new PgkeepError(code, `a planned fault of the storage: ${what}`);
}

/** Never returns: the signal arrives before anything else happens. */
async function die(): Promise<never> {
  process.kill(process.pid, 'SIGKILL');
  return await new Promise<never>(() => undefined);
}

const untouched = {
  put: LocalStorage.prototype.put,
  get: LocalStorage.prototype.get,
  stat: LocalStorage.prototype.stat,
  list: LocalStorage.prototype.list,
  remove: LocalStorage.prototype.remove,
  close: LocalStorage.prototype.close,
};

/** A storage in a folder as it is without wrappers, which methods that call each other must not pass through either. */
class Untouched extends LocalStorage {}
Object.assign(Untouched.prototype, untouched);

const wrappers = new Map<string, (storage: Storage) => Storage>();
const wrapped = new WeakMap<LocalStorage, Storage>();

/** The wrapper of a storage that an operation opened, made at its first request; itself where nobody asked for one. */
function standIn(opened: LocalStorage): Storage | undefined {
  const wrap = wrappers.get(opened.location);
  if (wrap === undefined) return undefined;
  let storage = wrapped.get(opened);
  if (storage === undefined) {
    storage = wrap(new Untouched(opened.location));
    wrapped.set(opened, storage);
  }
  return storage;
}

Object.assign(LocalStorage.prototype, {
  put(this: LocalStorage, ...args: Parameters<Storage['put']>) {
    return standIn(this)?.put(...args) ?? untouched.put.apply(this, args);
  },
  get(this: LocalStorage, ...args: Parameters<Storage['get']>) {
    return standIn(this)?.get(...args) ?? untouched.get.apply(this, args);
  },
  stat(this: LocalStorage, name: string) {
    return standIn(this)?.stat(name) ?? untouched.stat.call(this, name);
  },
  list(this: LocalStorage, prefix: string) {
    return standIn(this)?.list(prefix) ?? untouched.list.call(this, prefix);
  },
  remove(this: LocalStorage, names: readonly string[]) {
    return standIn(this)?.remove(names) ?? untouched.remove.call(this, names);
  },
} satisfies Partial<Storage>);

/**
 * From now on whatever opens a storage at this folder, in this process, goes through the wrapper. One wrapper is made
 * for each storage that is opened. The result puts an end to it.
 */
export function interceptStorage(folder: string, wrap: (storage: Storage) => Storage): Disposable {
  const { location } = new LocalStorage(folder);
  if (wrappers.has(location)) throw new Error(`${location} has a wrapper already`);
  wrappers.set(location, wrap);
  return { [Symbol.dispose]: () => wrappers.delete(location) };
}

/** Like {@link interceptStorage}, with a new {@link FaultyStorage} for each storage that is opened. */
export function withFaults(
  folder: string,
  faults: readonly Fault[] = [],
): Disposable & {
  /** Of all storages opened since, one after the other. */
  readonly requests: Request[];
  readonly happened: Fault[];
} {
  const opened: FaultyStorage[] = [];
  const interception = interceptStorage(folder, storage => {
    const faulty = new FaultyStorage(storage, faults);
    opened.push(faulty);
    return faulty;
  });
  return {
    get requests() {
      return opened.flatMap(storage => storage.requests);
    },
    get happened() {
      return opened.flatMap(storage => storage.happened);
    },
    [Symbol.dispose]: () => interception[Symbol.dispose](),
  };
}
