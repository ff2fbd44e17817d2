// What the command line touches of its process: streams, environment, folder, clock, signals. Tests pass their own.

export type OutputStream = NodeJS.WritableStream & { isTTY?: boolean; columns?: number };

export interface Io {
  readonly stdin: NodeJS.ReadableStream & { isTTY?: boolean };
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** Milliseconds since 1970. */
  now(): number;
  /** Calls the listener with the name of each signal that asks the program to end; the result stops that. */
  onSignal(listener: (signal: string) => void): () => void;
  /** Ends the process at once. */
  exit(exitCode: number): void;
}

const endingSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** The Io of the running process. A reader of stdout or stderr that goes away does not disturb the run. */
export function processIo(): Io {
  for (const stream of [process.stdout, process.stderr]) stream.on('error', ignoreClosedReader);
  return {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    cwd: process.cwd(),
    now: Date.now,
    onSignal(listener) {
      for (const signal of endingSignals) process.on(signal, listener);
      return () => {
        for (const signal of endingSignals) process.off(signal, listener);
      };
    },
    exit: exitCode => process.exit(exitCode),
  };
}

/** `pgkeep list | head -1` closes the pipe (EPIPE); a terminal that was closed gives EIO. */
function ignoreClosedReader(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE' && error.code !== 'EIO') throw error;
}
