// Ctrl-C and other requests to end: the first aborts the run, the second does not wait for it.
import { exitCodes, PgkeepError } from '../base/errors.ts';
import type { Io } from './io.ts';

export interface Interruption {
  /** Aborted, with a PgkeepError INTERRUPTED as its reason, at the first signal. */
  readonly signal: AbortSignal;
  /** Stops listening. */
  stop(): void;
}

/** Listens for signals: the operation cleans up after the first one, the second one ends the process at once. */
export function abortAtSignal(io: Pick<Io, 'onSignal' | 'stderr' | 'exit'>): Interruption {
  const controller = new AbortController();
  const stop = io.onSignal(name => {
    if (controller.signal.aborted) {
      io.exit(exitCodes.interrupted);
      return;
    }
    io.stderr.write('\npgkeep: stopping and cleaning up; a second Ctrl-C leaves at once\n');
    controller.abort(new PgkeepError('INTERRUPTED', `the run was ended by ${name}`));
  });
  return { signal: controller.signal, stop };
}

/** After a signal, foreign errors are its echo (AbortError, a closed socket), and not faults of the program. */
export function withInterruption(error: unknown, signal: AbortSignal): unknown {
  if (!signal.aborted || error instanceof PgkeepError) return error;
  return new PgkeepError('INTERRUPTED', 'the run was interrupted', { cause: error });
}
