// A yes-or-no question on the terminal.
import { createInterface } from 'node:readline';
import { throwIfAborted } from '../base/errors.ts';
import type { Io } from './io.ts';

/**
 * Asks on stderr and reads a line of stdin; anything but y or yes is no, and so is the end of input.
 * @throws PgkeepError INTERRUPTED when aborted while waiting.
 */
export async function confirm(
  question: string,
  signal: AbortSignal,
  io: Pick<Io, 'stdin' | 'stderr'>,
): Promise<boolean> {
  throwIfAborted(signal);
  // Not `terminal`: in raw mode Ctrl-C would be a character and not a signal.
  const lines = createInterface({ input: io.stdin, terminal: false });
  const close = () => lines.close();
  signal.addEventListener('abort', close, { once: true });
  try {
    io.stderr.write(`${question} [y/N] `);
    const answer = await new Promise<string>(resolve => {
      lines.once('line', resolve);
      lines.once('close', () => resolve(''));
    });
    throwIfAborted(signal);
    return /^y(es)?$/i.test(answer.trim());
  } finally {
    signal.removeEventListener('abort', close);
    lines.close();
  }
}
