// Runs one method in several worker threads to its end; the first failure ends them all.
import { Worker } from 'node:worker_threads';
import { PgkeepError, throwIfAborted } from '../base/errors.ts';
import { keepFreedMemory } from '../base/free-buffer.ts';
import { type Methods, ThreadLine } from '../base/thread-calls.ts';

const baseHeapMb = 64;
const tablesPerHeapMb = 500;

export interface WorkerPoolOptions {
  /** URL of the thread's module without its extension, which differs between source and build. */
  module: URL;
  count: number;
  workerData: unknown;
  /** Entries of a plan in workerData, of which every thread holds a copy. */
  plannedTables: number;
  /** What the threads may call. */
  methods: Methods;
  signal: AbortSignal | undefined;
}

/**
 * Starts threads of a module, calls their method `run` and waits for all.
 * @throws the first failure, or what the signal was aborted with; the threads have ended by then.
 */
export async function runWorkers(options: WorkerPoolOptions): Promise<void> {
  const { signal, workerData } = options;
  throwIfAborted(signal);
  keepFreedMemory();
  const extension = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
  const file = new URL(options.module.href + extension);
  // Buffers count against the heap's limit: a low one has the garbage of large buffers collected early.
  const heapMb = baseHeapMb + Math.ceil(options.plannedTables / tablesPerHeapMb);
  const workers: Worker[] = [];
  const aborted = Promise.withResolvers<never>();
  aborted.promise.catch(() => undefined);
  const onAbort = () => {
    try {
      throwIfAborted(signal);
    } catch (error) {
      aborted.reject(error);
    }
  };
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    const runs = Array.from({ length: options.count }, () => {
      // No environment: a thread gets what it needs as data.
      const worker = new Worker(file, {
        workerData,
        env: {},
        resourceLimits: { maxOldGenerationSizeMb: heapMb },
      });
      workers.push(worker);
      const line = new ThreadLine<{ run(nothing: null): Promise<void> }>(worker, options.methods);
      const fail = (why: string) => line.break(new PgkeepError('INTERNAL', `a worker thread ended: ${why}`));
      worker.on('error', error =>
        fail(error instanceof Error ? (error.stack ?? error.message) : String(error)),
      );
      worker.on('exit', status => fail(`exit status ${status}`));
      return line.call('run', null);
    });
    await Promise.race([Promise.all(runs), aborted.promise]);
  } finally {
    signal?.removeEventListener('abort', onAbort);
    await Promise.all(workers.map(worker => worker.terminate()));
  }
}
