// pgkeep delete: one backup, after a question on the terminal or with --yes.
import { PgkeepError } from '../../base/errors.ts';
import { type DeleteBackupResult, deleteBackup } from '../../operations/delete-backup.ts';
import { chosenBackup } from '../backup-choice.ts';
import { confirm } from '../confirm.ts';
import { printJson } from '../output/json.ts';
import { styleFor } from '../output/style.ts';
import { singleLine } from '../output/table.ts';
import { formatTime } from '../output/time.ts';
import { storageOptions } from '../storage-options.ts';
import type { Invocation } from './command.ts';

export async function run({ options, argument, signal, io }: Invocation<'delete'>): Promise<void> {
  const backup = chosenBackup(argument, options.backupId);
  if (backup === undefined || backup === 'latest') {
    throw new PgkeepError('OPTION_INVALID', 'which backup is to be deleted was not said', {
      hint: 'give an id of `pgkeep list`; latest is not taken, as it may be another one by now',
    });
  }
  const { repository, force, dryRun } = options;
  const storage = storageOptions(options);
  if (!options.yes && !dryRun) {
    const planned = await deleteBackup({ repository, storage, backup, force, dryRun: true, signal });
    if (io.stdin.isTTY !== true || io.stderr.isTTY !== true) {
      throw new PgkeepError('OPTION_INVALID', `${backup} is not deleted without a question`, {
        hint: 'there is no terminal to ask on: pass --yes',
      });
    }
    io.stderr.write(`${backupText(planned)} will be deleted, for good.\n`);
    if (!(await confirm('Go on?', signal, io))) {
      throw new PgkeepError('INTERRUPTED', 'the deletion was not confirmed, and nothing was changed');
    }
  }
  const result = await deleteBackup({ repository, storage, backup, force, dryRun, signal });
  if (options.json) printJson(result, io);
  if (!options.quiet) {
    const style = await styleFor(io.stderr, io);
    io.stderr.write(`${style.green(dryRun ? 'would delete' : 'deleted')} ${backupText(result)}\n`);
  }
}

function backupText({ id, database, timestamp, wasLastGood }: DeleteBackupResult): string {
  const of = database === null ? '' : ` of ${singleLine(database)}`;
  const taken = timestamp === null ? '' : `, taken ${formatTime(timestamp)} UTC`;
  return `${id}${of}${taken}${wasLastGood ? ', the last good one of its series' : ''}`;
}
