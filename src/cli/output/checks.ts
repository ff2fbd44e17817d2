// The report of commands that check things: a line for each on stdout and below it what mends it, or JSON; and the end that
// such a command comes to.
import { exitCodes, PgkeepError } from '../../base/errors.ts';
import { formatQuantity } from '../../base/units.ts';
import type { CheckReport, CheckStatus } from '../../operations/checklist.ts';
import { FailureAfterResult } from '../commands/command.ts';
import type { Io } from '../io.ts';
import { printJson } from './json.ts';
import { type Style, styleFor } from './style.ts';
import { singleLine } from './table.ts';

const unansweredMs = 1_000;

/** @throws FailureAfterResult when a check failed. @param command to run again once that was mended. */
export async function printChecks(
  result: CheckReport,
  command: string,
  json: boolean,
  io: Io,
): Promise<void> {
  if (json) printJson(result, io);
  else io.stdout.write(checksText(result, await styleFor(io.stdout, io)));
  // What never answered, such as a dead network drive, does not keep the program running.
  const exitCode = result.ok ? exitCodes.success : exitCodes.doctor;
  setTimeout(() => io.exit(exitCode), unansweredMs).unref();
  if (!result.ok) throw new FailureAfterResult(failedChecks(result, command));
}

const statusWords: Readonly<Record<CheckStatus, string>> = {
  ok: 'ok',
  warning: 'warning',
  failure: 'failure',
  skipped: 'skipped',
};

function checksText({ checks, counts }: CheckReport, style: Style): string {
  const paint: Readonly<Record<CheckStatus, (text: string) => string>> = {
    ok: style.green,
    warning: style.yellow,
    failure: style.red,
    skipped: style.dim,
  };
  const statusWidth = Math.max(...Object.values(statusWords).map(word => word.length));
  const nameWidth = Math.max(...checks.map(({ name }) => name.length));
  const indent = ' '.repeat(statusWidth + nameWidth + 4);
  const lines = checks.flatMap(({ name, status, message, remedy }) => [
    `${paint[status](statusWords[status].padEnd(statusWidth))}  ${name.padEnd(nameWidth)}  ${singleLine(message)}`,
    ...(remedy === undefined ? [] : [`${indent}${style.bold('to mend:')} ${singleLine(remedy)}`]),
  ]);
  const { ok, warning, failure, skipped } = counts;
  lines.push(
    '',
    `${formatQuantity(checks.length, 'check')}: ${ok} ok, ${formatQuantity(warning, 'warning')}, ${formatQuantity(failure, 'failure')}, ${skipped} skipped`,
  );
  return lines.map(line => `${line}\n`).join('');
}

function failedChecks({ checks, counts }: CheckReport, command: string): PgkeepError {
  const names = checks.filter(({ status }) => status === 'failure').map(({ name }) => name);
  return new PgkeepError(
    'CHECK_FAILED',
    `${counts.failure} of ${formatQuantity(checks.length, 'check')} failed: ${names.join(', ')}`,
    { hint: `each line above says what mends it; then run ${command} again` },
  );
}
