// Runs one method in several worker threads to its end; the first failure ends them all.
import { Worker } from 'node:worker_threads';
import { PgkeepError, throwIfAborted } from '../base/errors.ts';
import { type Methods, ThreadLine } from '../base/thread-calls.ts';

const baseHeapMb = 64;
/** A worker that is handed a plan holds a copy of it. */
const tablesPerHeapMb = 500;

/**
 * Starts `count` threads of a module, calls their method `run` and waits for all.
 * @param module URL of the thread's module without its extension, as it differs between source and build.
 * @throws the first failure, or what the signal was aborted with; the threads have ended by then.
 */
export async function runWorkers(
  module: URL,
  count: number,
  workerData: { plan?: { tables: readonly unknown[] } },
  methods: Methods,
  signal: AbortSignal | undefined,
): Promise<void> {
  throwIfAborted(signal);
  const extension = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
  const file = new URL(module.href + extension);
  // Buffers count against the heap's limit: a low one has the garbage of large buffers collected early.
  const heapMb = baseHeapMb + Math.ceil((workerData.plan?.tables.length ?? 0) / tablesPerHeapMb);
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
    const runs = Array.from({ length: count }, () => {
      // No environment: a thread gets what it needs as data.
      const worker = new Worker(file, {
        workerData,
        env: {},
        resourceLimits: { maxOldGenerationSizeMb: heapMb },
      });
      workers.push(worker);
      const line = new ThreadLine<{ run(nothing: null): Promise<void> }>(worker, methods);
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
