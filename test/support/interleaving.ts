// Every order in which the requests of several runs to one storage can come about. The runs are real code; the storage
// is in memory and holds each request until the order that is being tried has it next.

import { setImmediate as turn } from 'node:timers/promises';
import { PgkeepError } from '../../src/base/errors.ts';
import type { PutOptions, Storage, StoredObject } from '../../src/storage/storage.ts';

export interface MemoryObject {
  bytes: Buffer;
  modified: Date;
  /** Who wrote it, and as which of that run's objects: random names and contents differ from try to try. */
  alias: string;
}

export type Objects = ReadonlyMap<string, MemoryObject>;

/** One run: given its storage it does its work. */
export interface Actor {
  name: string;
  /** The time that the storage gives to what it writes. */
  clock: Date;
  run: (storage: Storage) => Promise<unknown>;
}

export interface Ending {
  actor: string;
  /** Absent for one that was killed. */
  outcome?: { value: unknown } | { error: unknown };
}

/** A storage in memory whose requests wait to be told. */
export class HeldStorage implements Storage {
  readonly location = 'memory';
  readonly waiting: (() => void)[] = [];
  /** What was asked and answered so far, in words: two runs with the same log go on alike. */
  readonly log: string[] = [];
  isKilled = false;
  /** Requests are carried out at once: for what comes before the orders that are tried. */
  isFree: boolean;
  /** Objects that nobody else touches, so that it makes no difference when they are read. */
  readonly #apart: ReadonlySet<string>;
  #written = 0;
  readonly #objects: Map<string, MemoryObject>;
  readonly #actor: Pick<Actor, 'name' | 'clock'>;

  constructor(
    objects: Map<string, MemoryObject>,
    actor: Pick<Actor, 'name' | 'clock'>,
    { isFree = false, apart = new Set() }: { isFree?: boolean; apart?: ReadonlySet<string> } = {},
  ) {
    this.#objects = objects;
    this.#actor = actor;
    this.isFree = isFree;
    this.#apart = apart;
  }

  put(name: string, bytes: Buffer, { ifAbsent = false }: PutOptions = {}): Promise<'stored' | 'exists'> {
    const copy = Buffer.from(bytes);
    return this.#hold('put', name, () => {
      if (ifAbsent && this.#objects.has(name)) return ['exists', 'exists'] as const;
      const written = name.startsWith('garbage/') ? this.#written++ : name;
      const alias = `${written} by ${this.#actor.name}`;
      this.#objects.set(name, { bytes: copy, modified: this.#actor.clock, alias });
      return ['stored', 'stored'] as const;
    });
  }

  get(name: string): Promise<Buffer> {
    return this.#hold('get', name, () => {
      const object = this.#objects.get(name);
      if (object !== undefined) return [Buffer.from(object.bytes), object.alias] as const;
      throw new PgkeepError('OBJECT_MISSING', `${name} is missing`, { context: { object: name } });
    });
  }

  stat(name: string): Promise<StoredObject | undefined> {
    return this.#hold('stat', name, () => {
      const object = this.#objects.get(name);
      return [object && describe(name, object), String(object?.modified.getTime())] as const;
    });
  }

  async *list(prefix: string): AsyncIterable<StoredObject> {
    yield* await this.#hold('list', prefix, () => {
      const found = [...this.#objects].filter(([name]) => name.startsWith(prefix));
      const words = found.map(([, object]) => `${object.alias}@${object.modified.getTime()}`);
      return [found.map(([name, object]) => describe(name, object)), words.sort().join()] as const;
    });
  }

  remove(names: readonly string[]): Promise<void> {
    return this.#hold('remove', names.join(), () => {
      for (const name of names) this.#objects.delete(name);
      return [undefined, ''] as const;
    });
  }

  async close(): Promise<void> {}

  #alias(name: string): string {
    return name.startsWith('garbage/') ? (this.#objects.get(name)?.alias ?? 'garbage') : name;
  }

  #hold<T>(call: string, name: string, perform: () => readonly [T, string]): Promise<T> {
    const what = `${call} ${this.#alias(name)}`;
    return new Promise((resolve, reject) => {
      const carryOut = () => {
        try {
          const [value, words] = perform();
          this.log.push(`${what}: ${words}`);
          resolve(value);
        } catch (error) {
          this.log.push(`${what}: ${error}`);
          reject(error);
        }
      };
      if (this.isFree || this.#apart.has(name)) carryOut();
      else if (!this.isKilled) this.waiting.push(carryOut);
    });
  }
}

function describe(name: string, { bytes, modified }: MemoryObject): StoredObject {
  return { name, sizeBytes: bytes.length, modified };
}

export interface Exploration {
  /** Objects that are only read, and never listed for deletion. */
  apart: ReadonlySet<string>;
  /** What is in the storage before. */
  objects: Objects;
  actors: readonly Actor[];
  /** Looks at what is there when all have ended, or were killed. The order is for the message of a failure. */
  check: (objects: Map<string, MemoryObject>, endings: readonly Ending[], order: string) => Promise<void>;
  /** Whether each run is also killed between any two requests, the others going on to their end. */
  withKills: boolean;
}

/**
 * Tries every order. States that were reached before (same storage, same answers given to each run) are not gone into
 * again, which is what makes it finite. @returns how many states there were, and how many ends were looked at.
 */
export async function exploreOrders(exploration: Exploration): Promise<{ states: number; ends: number }> {
  const seen = new Set<string>();
  const killed = new Set<string>();
  let ends = 0;
  const open: number[][] = [[]];
  for (let order = open.pop(); order !== undefined; order = open.pop()) {
    const attempt = new Attempt(exploration);
    await attempt.follow(order);
    // Goes on with one of the runs, and comes back for the others.
    for (let path = order; ; ) {
      const state = attempt.state();
      if (seen.has(state)) break;
      seen.add(state);
      const [first, ...others] = attempt.ready();
      if (exploration.withKills) ends += await killEach(exploration, attempt, path, killed);
      if (first === undefined) {
        await attempt.check(path, []);
        ends++;
        break;
      }
      for (const other of others) open.push([...path, other]);
      path = [...path, first];
      await attempt.step(first);
    }
    attempt.abandon();
  }
  return { states: seen.size, ends };
}

/** Kills each run at this point, unless the others have been in the same place before. @returns how many ends that gave. */
async function killEach(
  exploration: Exploration,
  attempt: Attempt,
  path: readonly number[],
  killed: Set<string>,
): Promise<number> {
  let ends = 0;
  for (const actor of attempt.ready()) {
    const state = attempt.state(actor);
    if (killed.has(state)) continue;
    killed.add(state);
    const other = new Attempt(exploration);
    await other.follow(path);
    other.kill(actor);
    await other.toTheEnd();
    await other.check(path, [actor]);
    ends++;
  }
  return ends;
}

class Attempt {
  readonly #exploration: Exploration;
  readonly #objects: Map<string, MemoryObject>;
  readonly #storages: HeldStorage[];
  readonly #endings: Ending[];
  readonly #steps: string[] = [];

  constructor(exploration: Exploration) {
    this.#exploration = exploration;
    this.#objects = new Map(exploration.objects);
    this.#storages = exploration.actors.map(actor => new HeldStorage(this.#objects, actor, exploration));
    this.#endings = exploration.actors.map((actor, index) => {
      const ending: Ending = { actor: actor.name };
      actor.run(this.#storages[index] as HeldStorage).then(
        value => {
          ending.outcome = { value };
        },
        error => {
          ending.outcome = { error };
        },
      );
      return ending;
    });
  }

  async follow(order: readonly number[]): Promise<void> {
    await turn();
    for (const actor of order) await this.step(actor);
  }

  async step(actor: number): Promise<void> {
    const storage = this.#storages[actor];
    const carryOut = storage?.waiting.shift();
    if (carryOut === undefined) throw new Error('the order has a request that is not made');
    carryOut();
    this.#steps.push(`${this.#endings[actor]?.actor}: ${storage?.log.at(-1)}`);
    await turn();
  }

  /** Runs that wait for a request. */
  ready(): number[] {
    return [...this.#storages.keys()].filter(actor => (this.#storages[actor]?.waiting.length ?? 0) > 0);
  }

  kill(actor: number): void {
    const storage = this.#storages[actor];
    if (storage === undefined) return;
    storage.isKilled = true;
    storage.waiting.length = 0;
    this.#steps.push(`${this.#endings[actor]?.actor}: killed`);
  }

  async toTheEnd(): Promise<void> {
    for (let ready = this.ready(); ready[0] !== undefined; ready = this.ready()) await this.step(ready[0]);
  }

  /** Ends what is under way. */
  abandon(): void {
    for (const actor of this.#storages.keys()) this.kill(actor);
  }

  async check(order: readonly number[], killed: readonly number[]): Promise<void> {
    const endings = this.#endings.map((ending, actor) =>
      killed.includes(actor) ? { actor: ending.actor } : ending,
    );
    const unfinished = endings.find((ending, actor) => !killed.includes(actor) && !ending.outcome);
    if (unfinished) throw new Error(`${unfinished.actor} waits for something else than its storage`);
    await this.#exploration.check(this.#objects, endings, `${order.join('')}\n${this.#steps.join('\n')}`);
  }

  /** What everything that follows depends on; without what one run knows, which is to be killed. */
  state(without?: number): string {
    const objects = [...this.#objects.values()].map(
      ({ alias, modified }) => `${alias}@${modified.getTime()}`,
    );
    const logs = this.#storages.map((storage, actor) => (actor === without ? 'killed' : storage.log));
    return JSON.stringify([objects.sort(), logs]);
  }
}
