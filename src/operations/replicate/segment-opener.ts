// Opens sealed segments in worker threads and gives them back: what cannot be opened is not copied.
import { errorFromData, PgkeepError } from '../../base/errors.ts';
import type { Handover } from '../../base/thread-calls.ts';
import type { CheckSegment } from '../../repository/replication.ts';
import { asBuffer, handOver } from '../thread-segment.ts';
import type { CheckedSegment, SegmentHost, SegmentWorkerData } from '../verify/segment-worker.ts';
import { runWorkers } from '../worker-pool.ts';

interface Outcome {
  resolve(object: Buffer): void;
  reject(error: unknown): void;
}

type Task = () => Handover<unknown>;

export class SegmentOpener {
  readonly #secret: Buffer;
  readonly #jobs: number;
  readonly #signal: AbortSignal | undefined;
  /** Segments that no thread has taken yet, and threads that wait for one. */
  readonly #waiting: Task[] = [];
  readonly #idle: ((task: Handover<unknown> | undefined) => void)[] = [];
  readonly #underWay = new Map<string, Outcome>();
  #running: Promise<void> | undefined;
  #failure: { error: unknown } | undefined;
  #isClosed = false;

  /** @param secret of the repository. Threads are started with the first segment. */
  constructor(secret: Buffer, jobs: number, signal: AbortSignal | undefined) {
    this.#secret = secret;
    this.#jobs = jobs;
    this.#signal = signal;
  }

  /**
   * Each segment once at a time.
   * @throws PgkeepError OBJECT_DAMAGED when the segment does not open to what its id says; INTERRUPTED.
   */
  readonly check: CheckSegment = (id, segment) => {
    this.#running ??= this.#start();
    return new Promise<Buffer>((resolve, reject) => {
      if (this.#failure !== undefined) {
        reject(this.#failure.error);
        return;
      }
      this.#underWay.set(id, { resolve, reject });
      const task = () => handOver(segment, { id, slices: [], lists: [], isReturned: true });
      const idle = this.#idle.shift();
      if (idle === undefined) this.#waiting.push(task);
      else idle(task());
    });
  };

  /** Ends the threads. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const idle of this.#idle) idle(undefined);
    await this.#running;
  }

  async #start(): Promise<void> {
    const host: SegmentHost = {
      next: () => {
        const task = this.#waiting.shift();
        if (task !== undefined || this.#isClosed) return Promise.resolve(task?.());
        return new Promise(resolve => this.#idle.push(resolve));
      },
      checked: result => this.#settle(result),
    };
    const workerData: SegmentWorkerData = { secret: this.#secret };
    try {
      await runWorkers({
        module: new URL('../verify/segment-worker', import.meta.url),
        count: this.#jobs,
        workerData,
        plannedTables: 0,
        methods: host,
        signal: this.#signal,
      });
    } catch (error) {
      this.#failure = { error };
      for (const { reject } of this.#underWay.values()) reject(error);
    }
  }

  #settle({ id, error, object }: CheckedSegment): void {
    const outcome = this.#underWay.get(id);
    this.#underWay.delete(id);
    if (object !== undefined) outcome?.resolve(asBuffer(object));
    else
      outcome?.reject(error ? errorFromData(error) : new PgkeepError('INTERNAL', `${id} was not given back`));
  }
}
