// Where a script goes: a stream of the caller's, or a file that is written beside its place and appears whole.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type FileHandle, link, open, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { foreignCode, PgkeepError, throwIfAborted } from '../../base/errors.ts';

export interface ScriptOutput {
  /** Bytes written so far. */
  readonly bytes: number;
  /**
   * Resolves when more may be written. A stream may still hold the bytes, so they must stay as they are.
   * @throws PgkeepError INTERRUPTED when the reader has gone, STORAGE_FULL, OPTION_INVALID for a file.
   */
  write(bytes: Buffer | string): Promise<void>;
  /** Has everything arrive: a file is now at its place. */
  finish(): Promise<void>;
  /** Removes an unfinished file; harmless after {@link finish}. */
  discard(): Promise<void>;
}

/**
 * @param force replace a file of that name.
 * @throws PgkeepError OPTION_INVALID when there is one already or it cannot be made.
 */
export async function openFileOutput(file: string, force: boolean): Promise<ScriptOutput> {
  const there = await stat(file).catch(() => undefined);
  if (there?.isDirectory()) throw unusable(file, 'is a folder');
  // Pipes and devices can only be written where they are.
  if (there !== undefined && !there.isFile())
    return new FileOutput(await openFile(file, 'w', file), file, undefined, force);
  if (there !== undefined && !force) throw existsAlready(file);
  const beside = path.join(
    path.dirname(file),
    `.${path.basename(file)}.${randomBytes(6).toString('hex')}.tmp`,
  );
  return new FileOutput(await openFile(beside, 'wx', file), file, beside, force);
}

class FileOutput implements ScriptOutput {
  bytes = 0;
  readonly #handle: FileHandle;
  readonly #file: string;
  /** The unfinished file; undefined once there is none. */
  #beside: string | undefined;
  readonly #force: boolean;
  #isOpen = true;

  constructor(handle: FileHandle, file: string, beside: string | undefined, force: boolean) {
    this.#handle = handle;
    this.#file = file;
    this.#beside = beside;
    this.#force = force;
  }

  async write(bytes: Buffer | string): Promise<void> {
    const buffer = typeof bytes === 'string' ? Buffer.from(bytes) : bytes;
    try {
      await this.#handle.writeFile(buffer);
    } catch (error) {
      throw translate(error, this.#file);
    }
    this.bytes += buffer.length;
  }

  async finish(): Promise<void> {
    try {
      if (this.#beside !== undefined) await this.#handle.sync();
      await this.#close();
      if (this.#beside === undefined) return;
      if (this.#force) await rename(this.#beside, this.#file);
      else {
        // Unlike rename, link does not replace a file that has appeared meanwhile.
        await link(this.#beside, this.#file);
        await rm(this.#beside);
      }
      this.#beside = undefined;
    } catch (error) {
      throw translate(error, this.#file);
    }
  }

  async discard(): Promise<void> {
    await this.#close().catch(() => undefined);
    if (this.#beside !== undefined) await rm(this.#beside, { force: true }).catch(() => undefined);
  }

  async #close(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    await this.#handle.close();
  }
}

/** Writes to a stream of the caller's, which is not ended. */
export class StreamOutput implements ScriptOutput {
  bytes = 0;
  readonly #stream: NodeJS.WritableStream;
  readonly #signal: AbortSignal | undefined;
  #failure: Error | undefined;
  readonly #onError = (error: Error) => {
    this.#failure ??= error;
  };

  constructor(stream: NodeJS.WritableStream, signal: AbortSignal | undefined) {
    this.#stream = stream;
    this.#signal = signal;
    stream.on('error', this.#onError);
  }

  async write(bytes: Buffer | string): Promise<void> {
    this.#check();
    const mayGoOn = this.#stream.write(bytes);
    this.bytes += typeof bytes === 'string' ? Buffer.byteLength(bytes) : bytes.length;
    if (mayGoOn) return;
    const waiting = new AbortController();
    const { signal } = waiting;
    const until = (event: string) => once(this.#stream, event, { signal }).catch(() => undefined);
    const stop = () => waiting.abort();
    this.#signal?.addEventListener('abort', stop, { once: true });
    try {
      // A stream that is destroyed without an error tells no more than that it is closed. Errors end the waiting too.
      await Promise.race([until('drain'), until('close')]);
    } finally {
      this.#signal?.removeEventListener('abort', stop);
      waiting.abort();
    }
    this.#check();
  }

  async finish(): Promise<void> {
    this.#check();
    await new Promise<void>(resolve => this.#stream.write('', () => resolve()));
    this.#check();
    this.#stream.off('error', this.#onError);
  }

  async discard(): Promise<void> {}

  #check(): void {
    throwIfAborted(this.#signal);
    const isGone = this.#failure !== undefined || !this.#stream.writable;
    if (!isGone) return;
    throw new PgkeepError('INTERRUPTED', 'the reader of the script went away before its end', {
      ...(this.#failure !== undefined && { cause: this.#failure }),
    });
  }
}

/** @param meant the file that the caller named, for errors. */
async function openFile(file: string, flags: 'w' | 'wx', meant: string): Promise<FileHandle> {
  try {
    return await open(file, flags, 0o600);
  } catch (error) {
    throw translate(error, meant);
  }
}

function translate(error: unknown, file: string): unknown {
  switch (foreignCode(error)) {
    case undefined:
      return error;
    case 'EEXIST':
      return existsAlready(file);
    case 'ENOENT':
      return unusable(file, 'cannot be written: its folder is not there', error, 'make the folder first');
    case 'ENOSPC':
    case 'EDQUOT':
      return new PgkeepError('STORAGE_FULL', `no space left to write ${file}`, { cause: error });
    case 'EPIPE':
      return new PgkeepError('INTERRUPTED', `the reader of ${file} went away before its end`, {
        cause: error,
      });
    default:
      return unusable(file, `cannot be written (${foreignCode(error)})`, error);
  }
}

function existsAlready(file: string): PgkeepError {
  return unusable(file, 'exists already', undefined, 'name a new file, or replace it with --force');
}

function unusable(file: string, why: string, cause?: unknown, hint?: string): PgkeepError {
  return new PgkeepError('OPTION_INVALID', `${file} ${why}`, { cause, ...(hint !== undefined && { hint }) });
}
