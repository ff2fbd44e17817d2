// --max-load: how many workers read, by how busy others keep the server (docs/decisions/gentle.md). The main thread
// decides, and the workers look it up in memory that they share.
import { formatQuantity } from '../../base/units.ts';
import type { ServerLoad } from '../../postgres/server-load.ts';
import type { HeldBack } from '../events.ts';

/** In the shared memory: how many workers may read, and how many have come so far. */
const readers = 0;
const arrivals = 1;
const cells = 2;

export interface LoadLimitOptions {
  /** More active sessions of others than this are too many; `undefined` when none are. */
  maxLoad: number | undefined;
  /** After each look at the load. */
  onLook: () => void;
  onWarning: (message: string, hint: string) => void;
}

/** The main thread's side. */
export class LoadLimit {
  readonly #options: LoadLimitOptions;
  #cells: Int32Array = new Int32Array(cells);
  #workers = 0;
  #activeSessions = 0;
  #hasWarned = false;
  #heldMs = 0;
  #heldSinceMs: number | undefined;

  constructor(options: LoadLimitOptions) {
    this.#options = options;
  }

  /** Says so when there is nothing that could be held back. */
  requireSeveral(jobs: number): void {
    if (this.#options.maxLoad === undefined || jobs > 1) return;
    this.#options.onWarning(
      'one worker reads however busy the server is',
      '--max-load has an effect from --jobs 2 on',
    );
  }

  /** Begins anew with so many workers, all of which may read. @returns what each is to have a {@link Turn} of. */
  begin(workers: number): SharedArrayBuffer {
    const shared = new SharedArrayBuffer(cells * Int32Array.BYTES_PER_ELEMENT);
    this.#cells = new Int32Array(shared);
    this.#workers = workers;
    this.#setReaders(workers);
    return shared;
  }

  /** There are no workers any more. A look that comes late counts for nothing. */
  end(): void {
    this.#workers = 0;
    this.#setReaders(0);
  }

  /** Whether the load matters now: there is a limit, and workers are reading. */
  get isLooking(): boolean {
    return this.#options.maxLoad !== undefined && this.#workers > 0;
  }

  /** Takes a look at the load: one worker less or more reads, of which one always does. */
  look({ active, hidden }: ServerLoad): void {
    if (!this.isLooking) return;
    const { maxLoad = active } = this.#options;
    this.#activeSessions = active;
    this.#setReaders(Atomics.load(this.#cells, readers) + (active > maxLoad ? -1 : 1));
    this.#options.onLook();
    if (hidden === 0 || this.#hasWarned) return;
    this.#hasWarned = true;
    this.#options.onWarning(
      `the state of ${formatQuantity(hidden, 'other session')} is hidden from the role, and --max-load does not count what is hidden`,
      'GRANT pg_read_all_stats to the role (and see that track_activities is on); pgkeep doctor --max-load says which it is',
    );
  }

  /** Undefined while all workers may read. */
  get heldBack(): HeldBack | undefined {
    const workers = Atomics.load(this.#cells, readers);
    if (workers >= this.#workers) return undefined;
    return { workers, jobs: this.#workers, activeSessions: this.#activeSessions };
  }

  /** For how long fewer workers than all have been reading, in milliseconds. */
  get heldBackMs(): number {
    return Math.round(this.#heldMs + this.#sinceHeldMs());
  }

  #setReaders(count: number): void {
    Atomics.store(this.#cells, readers, Math.max(1, Math.min(count, this.#workers)));
    if (this.heldBack !== undefined) {
      this.#heldSinceMs ??= performance.now();
      return;
    }
    this.#heldMs += this.#sinceHeldMs();
    this.#heldSinceMs = undefined;
  }

  #sinceHeldMs(): number {
    return this.#heldSinceMs === undefined ? 0 : performance.now() - this.#heldSinceMs;
  }
}

/** A worker's side: the workers are numbered as they come, and the first of them may read. */
export class Turn {
  readonly #cells: Int32Array;
  readonly #number: number;

  constructor(shared: SharedArrayBuffer) {
    this.#cells = new Int32Array(shared);
    this.#number = Atomics.add(this.#cells, arrivals, 1);
  }

  get isHeldBack(): boolean {
    return this.#number >= Atomics.load(this.#cells, readers);
  }
}
