// The key of the repository, from the environment or from the file that was named.
import { readFileSync } from 'node:fs';
import { PgkeepError } from '../base/errors.ts';
import type { Settings } from './options/resolve.ts';
import { outranks, type Resolved } from './options/resolved.ts';

type Keyed =
  | Settings<'create'>
  | Settings<'show'>
  | Settings<'verify'>
  | Settings<'restore'>
  | Settings<'doctor'>
  | Settings<'export'>
  | Settings<'cleanup'>
  | Settings<'replicate'>;

/**
 * The key as text, not yet looked at; undefined when none was given.
 * @throws PgkeepError KEY_MISSING when the key file cannot be read, or is empty.
 */
export function readEncryptionKey({ options, resolved }: Keyed): string | undefined {
  const key = resolved.get('encryptionKey');
  const file = resolved.get('keyFile');
  if (options.keyFile !== undefined && file !== undefined && !isStronger(key, file)) {
    return readKeyFile(options.keyFile, file.source);
  }
  return options.encryptionKey?.reveal();
}

function isStronger(key: Resolved | undefined, file: Resolved): boolean {
  return key?.value !== undefined && outranks(key, file);
}

function readKeyFile(path: string, source: string): string {
  const hint =
    'name a file that holds the 64 hexadecimal digits; make one with: pgkeep key generate --output <file>';
  let text: string;
  try {
    text = readFileSync(path, 'utf8').trim();
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new PgkeepError('KEY_MISSING', `the key file of ${source} cannot be read: ${why}`, { hint, cause });
  }
  if (text === '')
    throw new PgkeepError('KEY_MISSING', `the key file ${path} of ${source} is empty`, { hint });
  return text;
}
