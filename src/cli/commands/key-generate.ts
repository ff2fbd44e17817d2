// pgkeep key generate: a new key on stdout, or in a file of its own. What to do with it goes to stderr.
import { writeFileSync } from 'node:fs';
import { foreignCode, PgkeepError } from '../../base/errors.ts';
import { generateKey } from '../../crypto/key.ts';
import { printJson } from '../output/json.ts';
import type { Invocation } from './command.ts';

export async function run({ options, io }: Invocation<'key generate'>): Promise<void> {
  const key = generateKey();
  if (options.outputFile !== undefined) {
    writeKeyFile(options.outputFile, key);
    if (options.json) printJson({ file: options.outputFile }, io);
    io.stderr.write(
      `The key is in ${options.outputFile}.\n${guidance(`BACKUP_ENCRYPTION_KEY_FILE=${options.outputFile}`)}`,
    );
    return;
  }
  if (options.json) printJson({ key }, io);
  else io.stdout.write(`${key}\n`);
  io.stderr.write(guidance('BACKUP_ENCRYPTION_KEY=<the key>'));
}

function guidance(setting: string): string {
  return `Keep a copy apart from the backups: without it nobody can restore them.
Set it in .env or the environment:

  ${setting}
`;
}

/** @throws PgkeepError OPTION_INVALID when the file exists or cannot be made. */
function writeKeyFile(path: string, key: string): void {
  try {
    writeFileSync(path, `${key}\n`, { mode: 0o600, flag: 'wx', flush: true });
  } catch (cause) {
    if (foreignCode(cause) === 'EEXIST') {
      throw new PgkeepError('OPTION_INVALID', `${path} exists, and a key is never overwritten`, {
        hint: 'name a new file; backups made with the old key need the old key',
        cause,
      });
    }
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new PgkeepError('OPTION_INVALID', `${path} cannot be written: ${why}`, { cause });
  }
}
