// Errors and warnings for people, on stderr, and errors as JSON, on stdout.
import { type ErrorData, errorTable, errorToData, exitCodes } from '../../base/errors.ts';
import type { Io } from '../io.ts';
import { printJson } from './json.ts';
import { type Style, styleFor } from './style.ts';

/** Prints the error, as JSON too if asked, and gives the exit code that the error table has for it. */
export async function reportError(error: unknown, asJson: boolean, io: Io): Promise<number> {
  const data = errorToData(error);
  if (asJson) printJson({ error: data }, io);
  io.stderr.write(errorText(data, await styleFor(io.stderr, io)));
  return exitCodes[errorTable[data.code].kind];
}

export function errorText(data: ErrorData, style: Style): string {
  const hint = data.code === 'INTERNAL' ? 'this is a fault in pgkeep: please report it' : data.hint;
  const [first = '', ...more] = data.message.split('\n');
  const lines = [`${style.red('pgkeep:')} ${first} ${style.dim(`[${data.code}]`)}`, ...more];
  if (hint !== undefined) lines.push(`${style.bold('hint:')} ${hint}`);
  return `${lines.join('\n')}\n`;
}

export async function reportWarning(message: string, hint: string | undefined, io: Io): Promise<void> {
  io.stderr.write(warningText(message, hint, await styleFor(io.stderr, io)));
}

export function warningText(message: string, hint: string | undefined, style: Style): string {
  return `${style.yellow('warning:')} ${message}${hint === undefined ? '' : `\n  hint: ${hint}`}\n`;
}
