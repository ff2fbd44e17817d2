// pgkeep doctor: is everything in place? A line for each check on stdout, and below it what mends it.
import { homedir } from 'node:os';
import { join } from 'node:path';
import { exitCodes, PgkeepError } from '../../base/errors.ts';
import { formatQuantity } from '../../base/units.ts';
import {
  type CheckSetupResult,
  type CheckStatus,
  checkSetup,
  type SetupFile,
} from '../../operations/check-setup.ts';
import { readEncryptionKey } from '../encryption-key.ts';
import { configFileName } from '../options/config-file.ts';
import { printJson } from '../output/json.ts';
import { type Style, styleFor } from '../output/style.ts';
import { singleLine } from '../output/table.ts';
import { storageOptions } from '../storage-options.ts';
import { FailureAfterResult, type Invocation } from './command.ts';

const unansweredMs = 1_000;

export async function run(invocation: Invocation<'doctor'>): Promise<void> {
  const { options, environment, signal, io } = invocation;
  const result = await checkSetup({
    database: options.database,
    environment,
    repository: options.repository,
    storage: storageOptions(options),
    encryptionKey: () => readEncryptionKey(invocation),
    ...(options.encryption !== undefined && { encryption: options.encryption }),
    jobs: options.jobs,
    programs: options.programs,
    files: filesInUse(invocation),
    signal,
  });
  if (options.json) printJson(result, io);
  else io.stdout.write(checksText(result, await styleFor(io.stdout, io)));
  // What never answered, such as a dead network drive, does not keep the program running.
  const exitCode = result.ok ? exitCodes.success : exitCodes.doctor;
  setTimeout(() => io.exit(exitCode), unansweredMs).unref();
  if (!result.ok) throw new FailureAfterResult(failedChecks(result));
}

/** Files whose permissions matter; those that are not there are passed over. */
function filesInUse({ options, environment, io }: Invocation<'doctor'>): SetupFile[] {
  const passwords = environment.PGPASSFILE || join(environment.HOME || homedir(), '.pgpass');
  return [
    { path: join(io.cwd, '.env'), holds: 'secrets' },
    { path: options.config ?? join(io.cwd, configFileName), holds: 'settings' },
    ...(options.keyFile === undefined ? [] : [{ path: options.keyFile, holds: 'secrets' as const }]),
    { path: passwords, holds: 'secrets' },
  ];
}

const statusWords: Readonly<Record<CheckStatus, string>> = {
  ok: 'ok',
  warning: 'warning',
  failure: 'failure',
  skipped: 'skipped',
};

export function checksText({ checks, counts }: CheckSetupResult, style: Style): string {
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

export function failedChecks({ checks, counts }: CheckSetupResult): PgkeepError {
  const names = checks.filter(({ status }) => status === 'failure').map(({ name }) => name);
  return new PgkeepError(
    'CHECK_FAILED',
    `${counts.failure} of ${formatQuantity(checks.length, 'check')} failed: ${names.join(', ')}`,
    { hint: 'each line above says what mends it; then run pgkeep doctor again' },
  );
}
