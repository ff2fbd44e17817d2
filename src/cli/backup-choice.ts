// Which backup a command is about: `--backup-id`, or the argument.
import { PgkeepError } from '../base/errors.ts';
import { isBackupId } from '../repository/backup-id.ts';

/**
 * The id, or `latest`; undefined when neither was given.
 * @throws PgkeepError OPTION_INVALID when two different ones were given, or one that is no id.
 */
export function chosenBackup(argument: string | undefined, flag: string | undefined): string | undefined {
  if (argument !== undefined && flag !== undefined && argument !== flag) {
    throw new PgkeepError('OPTION_INVALID', `two backups were named: ${argument} and --backup-id ${flag}`);
  }
  const chosen = argument ?? flag;
  if (chosen !== undefined && chosen !== 'latest' && !isBackupId(chosen)) {
    throw new PgkeepError('OPTION_INVALID', `'${chosen}' is not the id of a backup`, {
      hint: 'give latest, or an id of `pgkeep list`, such as backup-1642684800000-a1b2c3d4',
    });
  }
  return chosen;
}
