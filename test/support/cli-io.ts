// A terminal, an environment and a folder of a test's own, to run the command line in this process.

import { PassThrough, Writable } from 'node:stream';
import type { Io } from '../../src/cli/io.ts';
import { run } from '../../src/cli/main.ts';

export interface TestIo extends Io {
  /** What was written so far. */
  readonly out: () => string;
  readonly err: () => string;
  readonly typed: PassThrough;
  /** Delivers a signal to the command line. */
  readonly sendSignal: (name: string) => void;
  /** The codes with which the process was told to end at once. */
  readonly exits: number[];
}

export interface TestIoOptions {
  cwd?: string;
  env?: Readonly<Record<string, string>>;
  isTTY?: boolean;
  now?: () => number;
}

export function testIo({
  cwd = '/nowhere',
  env = {},
  isTTY = false,
  now = () => 0,
}: TestIoOptions = {}): TestIo {
  const stdout = new Recorder(isTTY);
  const stderr = new Recorder(isTTY);
  const typed = new PassThrough();
  const listeners = new Set<(name: string) => void>();
  const exits: number[] = [];
  return {
    stdin: Object.assign(typed, { isTTY }),
    typed,
    stdout,
    stderr,
    env,
    cwd,
    now,
    onSignal(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    sendSignal(name) {
      for (const listener of listeners) listener(name);
    },
    exit: exitCode => exits.push(exitCode),
    exits,
    out: () => stdout.text,
    err: () => stderr.text,
  };
}

/** Keeps what is written. */
class Recorder extends Writable {
  text = '';
  readonly isTTY: boolean;
  columns = 100;

  constructor(isTTY: boolean) {
    super({ decodeStrings: false });
    this.isTTY = isTTY;
  }

  override _write(chunk: string | Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

export interface CliResult {
  exitCode: number;
  out: string;
  err: string;
}

/** Runs one command line, given as words. */
export async function runCli(argv: readonly string[], options: TestIoOptions = {}): Promise<CliResult> {
  const io = testIo(options);
  const exitCode = await run(argv, io);
  return { exitCode, out: io.out(), err: io.err() };
}
