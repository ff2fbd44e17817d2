// The command line: argv in, exit code out. Everything a command needs of the process comes through io.
// Commands are loaded when chosen, so that help and completion stay instant.
import { exitCodes } from '../base/errors.ts';
import { version } from '../base/version.ts';
import { FailureAfterResult } from './commands/command.ts';
import { commandTable } from './commands/table.ts';
import { abortAtSignal, withInterruption } from './interruption.ts';
import { type Io, processIo } from './io.ts';
import { type CommandLine, parseCommandLine } from './options/parse-command-line.ts';
import { resolveOptions } from './options/resolve.ts';
import type { CommandName } from './options/table.ts';
import { reportError, reportWarning } from './output/report.ts';

/** Runs the command line of the current process and sets its exit code. */
export async function main(): Promise<void> {
  process.exitCode = await run(process.argv.slice(2), processIo());
}

/** Runs one command line; `argv` begins after the program's name. Never throws. */
export async function run(argv: readonly string[], io: Io): Promise<number> {
  const interruption = abortAtSignal(io);
  try {
    const commandLine = parseCommandLine(argv, version, io);
    if ('exitCode' in commandLine) return commandLine.exitCode;
    await execute(commandLine.command, commandLine, interruption.signal, io);
    return exitCodes.success;
  } catch (error) {
    if (error instanceof FailureAfterResult) return await reportError(error.failure, false, io);
    const asJson = argv.includes('--json');
    return await reportError(withInterruption(error, interruption.signal), asJson, io);
  } finally {
    interruption.stop();
  }
}

async function execute<C extends CommandName>(
  name: C,
  commandLine: CommandLine,
  signal: AbortSignal,
  io: Io,
): Promise<void> {
  const settings = resolveOptions(name, commandLine.given, io);
  for (const warning of settings.warnings) await reportWarning(warning, undefined, io);
  const command = await commandTable[name].load();
  await command.run({ ...settings, argument: commandLine.argument, signal, io });
}
