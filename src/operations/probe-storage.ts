// Tries what backups need of a storage, with the user's own credentials, and says what that means for them. What it stores
// lies in a folder of its own beside the repository's objects, and is removed at the end, whatever that end is.
import { randomBytes } from 'node:crypto';
import { PgkeepError, throwIfAborted } from '../base/errors.ts';
import { joinSignals } from '../base/join-signals.ts';
import { formatQuantity } from '../base/units.ts';
import { openStorage } from '../storage/open-storage.ts';
import { maxObjectBytes, type StorageFacts } from '../storage/storage.ts';
import type { StorageOptions } from '../storage/storage-options.ts';
import { checkFreeSpace } from './check-setup/repository.ts';
import { Checklist, type CheckReport, within } from './checklist.ts';
import type { RunOptions } from './events.ts';
import {
  checkConditions,
  checkConsistency,
  checkNames,
  checkOverwriting,
  checkPages,
  checkPartialReading,
  checkSizes,
} from './probe-storage/contract.ts';
import { factNames, reportFacts } from './probe-storage/facts.ts';
import { checkRights, type Rights, rightNames } from './probe-storage/rights.ts';
import { type Left, removeScratch, Scratch, whyOf } from './probe-storage/scratch.ts';
import {
  type Measurements,
  measurements,
  measureThroughput,
  newStopwatch,
  reportSpeed,
} from './probe-storage/speed.ts';

export type { Measurements };

export interface ProbeStorageOptions extends RunOptions {
  repository: string;
  /** How the storage is reached, where the address alone does not say it. */
  storage?: StorageOptions | undefined;
  /** Store so many small objects that a listing has several pages, too. */
  thorough?: boolean;
}

export interface ProbeStorageResult extends CheckReport {
  repository: string;
  measured: Measurements;
  /** Names of objects that were stored and could not be removed. */
  left: string[];
}

/** For all of the cleaning up; less for somebody who waits for the end, or where no answer came before. */
const cleanUpTimeoutMs = 120_000;
const shortCleanUpTimeoutMs = 30_000;
/** With less, no more large objects are stored than must be. */
const plentyBytes = 1024 * 1024 * 1024;
const contractNames = [
  'read-after-put',
  'list-after-put',
  'overwrite',
  'empty-object',
  'largest-object',
  'partial-get',
  'names',
  'conditional-put',
  'conditional-put-at-once',
];

/**
 * Probes a storage; what it finds is the result, never an error.
 * @throws PgkeepError OPTION_INVALID for an address that cannot be one; INTERRUPTED, after removing what was stored. What
 * could not be removed then is told by a warning event.
 */
export async function probeStorage(options: ProbeStorageOptions): Promise<ProbeStorageResult> {
  throwIfAborted(options.signal);
  const stop = new AbortController();
  const signal = joinSignals(options.signal, stop.signal);
  const storage = await openStorage(options.repository, options.storage, signal);
  const probe = new Probe(options, new Scratch(storage, isLimited(options)));
  try {
    await probe.run();
  } finally {
    // So that nothing is stored any more behind the back of what removes it.
    stop.abort(new PgkeepError('INTERRUPTED', 'the probe has ended'));
    await probe.scratch.settle();
    await storage.close();
    await probe.cleanUp();
  }
  throwIfAborted(options.signal);
  return { repository: storage.location, ...probe.list.report(), measured: probe.measured, left: probe.left };
}

class Probe {
  readonly list = new Checklist();
  readonly scratch: Scratch;
  left: string[] = [];
  readonly #options: ProbeStorageOptions;
  readonly #watch = newStopwatch();
  #together: Pick<Measurements, 'putAtOnceBytesPerSecond' | 'getAtOnceBytesPerSecond'> = {
    putAtOnceBytesPerSecond: null,
    getAtOnceBytesPerSecond: null,
  };
  #facts: StorageFacts = {};
  #rights: Rights | undefined;
  /** Whether requests were given up: nothing more is asked then, and some may be carried out yet. */
  #isLost = false;

  constructor(options: ProbeStorageOptions, scratch: Scratch) {
    this.#options = options;
    this.scratch = scratch;
  }

  get measured(): Measurements {
    return measurements(this.#watch, maxObjectBytes, this.#together);
  }

  async run(): Promise<void> {
    const { list, scratch } = this;
    const all = [...rightNames, ...factNames, 'free-space', ...contractNames];
    this.#begin('what the credentials may do');
    try {
      this.#rights = await checkRights(list, scratch);
    } catch (error) {
      throwIfAborted(this.#options.signal);
      list.failWith('reachable', error, 'check what --repository names, the credentials and the network');
      list.skip(
        [...all, ...(this.#options.thorough ? ['pages'] : []), 'latency', 'throughput'],
        'the storage could not be reached',
      );
      return;
    }
    const rights = this.#rights;
    this.#begin('what the store does beyond that');
    await this.#step(factNames, async () => {
      this.#facts = await scratch.examine('examined');
      reportFacts(list, this.#facts, rights.mayPut);
    });
    await this.#step(['free-space'], () => checkFreeSpace(list, scratch.storage, undefined));
    if (rights.areEnough) await this.#tryContract(rights.mayRemove);
    else {
      const names = this.#options.thorough ? [...contractNames, 'pages'] : contractNames;
      list.skip(names, 'objects cannot be stored, read and listed');
    }
    throwIfAborted(this.#options.signal);
    reportSpeed(list, this.measured);
  }

  async #tryContract(mayRemove: boolean): Promise<void> {
    const { list, scratch } = this;
    const watch = this.#watch;
    const large = randomBytes(maxObjectBytes);
    this.#begin('small objects');
    await this.#step(['read-after-put', 'list-after-put'], () => checkConsistency(list, scratch, watch));
    await this.#step(['overwrite'], () => checkOverwriting(list, scratch));
    await this.#step(['names'], () => checkNames(list, scratch));
    await this.#step(['conditional-put', 'conditional-put-at-once'], () =>
      checkConditions(list, scratch, this.#facts),
    );
    this.#begin('large objects');
    await this.#step(['empty-object', 'largest-object'], () => checkSizes(list, scratch, large, watch));
    const isKept = watch.largeGetMs.length > 0;
    if (isKept) await this.#step(['partial-get'], () => checkPartialReading(list, scratch, large));
    else list.skip(['partial-get'], 'no large object could be stored and read');
    // Where something stays, it shall be little.
    const mayStore = mayRemove && this.#facts.keepsVersions !== true && (await this.#hasPlentyOfSpace());
    // Under a limit more objects would show the limit.
    if (isKept && !isLimited(this.#options))
      await this.#step(['throughput'], async () => {
        this.#together = await measureThroughput(scratch, large, watch, mayStore);
      });
    if (!this.#options.thorough) return;
    this.#begin('many objects');
    if (mayStore) await this.#step(['pages'], () => checkPages(list, scratch));
    else list.skip(['pages'], 'what is stored would stay');
  }

  /** Removes what was stored, over a connection that no interruption ends. */
  async cleanUp(): Promise<void> {
    const { list, scratch } = this;
    const { tried, folder } = scratch;
    if (tried.length === 0) return;
    const isInterrupted = this.#options.signal?.aborted === true;
    const left = await this.#removeAll(tried, isInterrupted || this.#isLost);
    this.left = left.names;
    if (left.code === 'INTERNAL') {
      list.fail(
        'cleaned-up',
        left.reason,
        `report it with this message, and remove ${folder} by the store's own means`,
      );
      return;
    }
    const remedy = `a probe by a user who may remove objects takes them away once they are a day old; or remove ${folder} by the store's own means`;
    if (left.names.length === 0) {
      const versions = this.#facts.keepsVersions ? ' but older versions' : '';
      list.ok('cleaned-up', `nothing of the probe is left in the storage${versions}`);
      return;
    }
    const count = formatQuantity(left.names.length, 'object');
    const message = `${count} of the probe stay below ${folder} in ${scratch.storage.location}: ${left.reason}`;
    list.warn('cleaned-up', message, remedy);
    if (isInterrupted) this.#options.onEvent?.({ type: 'warning', message, hint: remedy });
  }

  async #removeAll(tried: readonly string[], isCutOff: boolean): Promise<Left> {
    const { repository, storage: options } = this.#options;
    const { folder } = this.scratch;
    const timeoutMs = isCutOff ? shortCleanUpTimeoutMs : cleanUpTimeoutMs;
    const late = new AbortController();
    const giveUp = () =>
      late.abort(new PgkeepError('STORAGE_UNREACHABLE', `there was no answer for ${timeoutMs / 1000} s`));
    const timer = setTimeout(giveUp, timeoutMs);
    try {
      const storage = await openStorage(repository, options, late.signal);
      try {
        const removing = removeScratch(storage, folder, tried, isCutOff);
        const left = await within(timeoutMs, 'removing what the probe stored', removing);
        // Of no concern to whoever has asked, whether it works or not.
        for (const stale of left.names.length === 0 ? (this.#rights?.stale ?? []) : [])
          await within(timeoutMs, 'removing', removeScratch(storage, stale, [], false)).catch(
            () => undefined,
          );
        return left;
      } finally {
        await storage.close();
      }
    } catch (error) {
      return { names: [...tried].sort(), ...whyOf(error) };
    } finally {
      clearTimeout(timer);
    }
  }

  #begin(detail: string): void {
    this.#options.onEvent?.({ type: 'phase', phase: 'probe', detail });
  }

  /** Does some checks; a failure is an entry, and nothing more is asked of a storage that has fallen silent. */
  async #step(names: readonly string[], check: () => Promise<void>): Promise<void> {
    throwIfAborted(this.#options.signal);
    const { list } = this;
    if (this.#isLost) {
      list.skip(names, 'the storage does not answer any more');
      return;
    }
    try {
      await check();
    } catch (error) {
      throwIfAborted(this.#options.signal);
      const missing = names.filter(name => !list.has(name));
      list.failWith(missing[0] ?? names[0] ?? '', error, 'ask whoever runs the storage');
      list.skip(missing.slice(1), `${missing[0]} could not be tried`);
      this.#isLost = hasFallenSilent(error);
    }
  }

  async #hasPlentyOfSpace(): Promise<boolean> {
    const { storage } = this.scratch;
    if (storage.freeBytes === undefined) return true;
    return await storage.freeBytes().then(
      free => free === undefined || free >= plentyBytes,
      () => false,
    );
  }
}

function isLimited({ storage }: ProbeStorageOptions): boolean {
  return storage?.limits !== undefined;
}

/** Whether a request was repeated in vain or took too long, rather than refused. */
function hasFallenSilent(error: unknown): boolean {
  return error instanceof PgkeepError && ('attempts' in error.context || 'timeoutMs' in error.context);
}
