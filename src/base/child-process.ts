// Runs one program to its end: its output goes to the caller, the end of its error output is kept for the message,
// and an abort ends it (SIGTERM, then SIGKILL).
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import path from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { foreignCode, PgkeepError, throwIfAborted } from './errors.ts';

export interface ProgramRun {
  file: string;
  args: readonly string[];
  /** The whole environment of the child: nothing is inherited. */
  env: Readonly<Record<string, string>>;
  /** The account and the folder to run in, when they are not this process's own. */
  uid?: number;
  gid?: number;
  cwd?: string;
  signal?: AbortSignal | undefined;
  /** Consumes the standard output; without it the output is collected as text. */
  onStdout?: ((stdout: Readable) => Promise<void>) | undefined;
  /** Open files that the child gets as descriptors 3 and up. */
  descriptors?: readonly number[] | undefined;
  /** Feeds the standard input; without it there is none. */
  onStdin?: ((stdin: Writable) => Promise<void>) | undefined;
}

export interface ProgramResult {
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  /** The last 64 KiB. */
  stderr: string;
}

const keptErrorBytes = 64 * 1024;
const killAfterMs = 5_000;

/**
 * Runs a program until it has ended and its streams are closed, whatever its exit status.
 * @throws PgkeepError PROGRAM_MISSING when it cannot be started, INTERRUPTED on abort (after the child has ended),
 * and whatever `onStdout` or `onStdin` throw (the child is then ended).
 */
export async function runProgram(run: ProgramRun): Promise<ProgramResult> {
  throwIfAborted(run.signal);
  const child = spawn(run.file, run.args, {
    env: { ...run.env },
    stdio: ['pipe', 'pipe', 'pipe', ...(run.descriptors ?? [])],
    ...(run.uid !== undefined && { uid: run.uid }),
    ...(run.gid !== undefined && { gid: run.gid }),
    ...(run.cwd !== undefined && { cwd: run.cwd }),
  }) as ChildProcessWithoutNullStreams;
  let killTimer: NodeJS.Timeout | undefined;
  const stop = () => {
    child.kill('SIGTERM');
    killTimer ??= setTimeout(() => child.kill('SIGKILL'), killAfterMs);
  };
  run.signal?.addEventListener('abort', stop, { once: true });

  let stderr = '';
  child.stderr.setEncoding('utf8');
  child.stderr.on('data', (text: string) => {
    stderr = (stderr + text).slice(-keptErrorBytes);
  });
  const ended = new Promise<Pick<ProgramResult, 'status' | 'signal'>>((resolve, reject) => {
    child.on('error', error => {
      const what =
        foreignCode(error) === 'ENOENT' ? 'was not found' : `could not be started (${error.message})`;
      reject(new PgkeepError('PROGRAM_MISSING', `${run.file} ${what}`, { cause: error }));
    });
    child.on('close', (status, signal) => resolve({ status, signal }));
  });

  let stdout = '';
  const consume =
    run.onStdout ??
    (async (stream: Readable) => {
      stream.setEncoding('utf8');
      stream.on('data', (text: string) => {
        stdout += text;
      });
      await finished(stream);
    });
  const feed = async () => {
    // A child that ends early closes the pipe; its exit status tells more than EPIPE does.
    child.stdin.on('error', () => undefined);
    await run.onStdin?.(child.stdin);
    child.stdin.end();
  };
  try {
    const streams = Promise.all([consume(child.stdout), feed()]).catch(error => {
      stop();
      throw error;
    });
    const [end, flow] = await Promise.allSettled([ended, streams]);
    throwIfAborted(run.signal);
    if (end.status === 'rejected') throw end.reason;
    if (flow.status === 'rejected') throw flow.reason;
    return { ...end.value, stdout, stderr };
  } finally {
    clearTimeout(killTimer);
    run.signal?.removeEventListener('abort', stop);
  }
}

/** The error for a program that ended badly, with the last lines it wrote, from its last complaint on. */
export function programFailure(file: string, result: ProgramResult, doing: string): PgkeepError {
  const how = result.signal === null ? `exit status ${result.status}` : `signal ${result.signal}`;
  const all = withoutPasswords(result.stderr.trim()).split('\n');
  // What went wrong stands in the first line of a complaint, and details and a statement of many lines may follow.
  const complaint = all.findLastIndex(line => /: error: |\b(ERROR|FATAL|PANIC): /.test(line));
  const from = complaint < 0 ? all.length - 6 : Math.min(complaint, all.length - 6);
  const lines = all.slice(Math.max(from, 0)).slice(0, 12).join('\n  ');
  return new PgkeepError(
    'PROGRAM_FAILED',
    `${path.basename(file)} failed while ${doing} (${how})${lines === '' ? '' : `:\n  ${lines}`}`,
    {
      context: { program: file },
    },
  );
}

/** Statements that programs quote may hold passwords: of subscriptions, user mappings, roles. */
function withoutPasswords(text: string): string {
  return text.replace(/(password(?:\s*=\s*|\s+(?=')))('(?:[^']|'')*'|[^\s',)]+)/gi, '$1[secret]');
}
