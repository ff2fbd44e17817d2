// Reads argv with commander: which command, which flags as text, which argument. Help and version are printed here.
import { Command, CommanderError, Option } from 'commander';
import { exitCodes, PgkeepError } from '../../base/errors.ts';
import type { CommandDescription } from '../commands/command.ts';
import { commandNames, commandTable } from '../commands/table.ts';
import type { Io } from '../io.ts';
import type { GivenFlags } from './resolve.ts';
import { type CommandName, flagParts, type OptionName, type OptionRow, optionsOf } from './table.ts';

export interface CommandLine {
  command: CommandName;
  given: GivenFlags;
  argument: string | undefined;
}

/** Help or the version was printed, and that was all. */
export interface Answered {
  exitCode: number;
}

/** @throws PgkeepError OPTION_INVALID for what is not a command, flag or argument, with the nearest one as hint. */
export function parseCommandLine(
  argv: readonly string[],
  version: string,
  io: Pick<Io, 'stdout' | 'stderr'>,
): CommandLine | Answered {
  let chosen: CommandLine | undefined;
  const program = buildProgram(version, io, commandLine => {
    chosen = commandLine;
  });
  try {
    program.parse(argv, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return answer(error);
  }
  // Every leaf command has an action, and everything else ends in a CommanderError.
  if (chosen === undefined) throw new PgkeepError('INTERNAL', 'the command line named no command');
  return chosen;
}

function answer(error: CommanderError): Answered {
  switch (error.code) {
    case 'commander.helpDisplayed':
    case 'commander.version':
      return { exitCode: exitCodes.success };
    case 'commander.help':
      return { exitCode: error.exitCode === 0 ? exitCodes.success : exitCodes.usage };
    default:
      throw usageError(error.message);
  }
}

/** Commander's message is `error: unknown option '--jbos'`, then in a second line `(Did you mean --jobs?)`. */
function usageError(text: string): PgkeepError {
  const [sentence = '', suggestion] = text.split('\n');
  const hint = suggestion?.replace(/^\(Did you mean (.*)\?\)$/, 'did you mean $1?');
  const message = sentence
    .replace(/^error: /, '')
    .replace(/\.$/, '')
    .replace('. Expected', ': expected');
  return new PgkeepError('OPTION_INVALID', message, { hint: hint ?? 'see pgkeep --help' });
}

type Choose = (commandLine: CommandLine) => void;

function buildProgram(version: string, io: Pick<Io, 'stdout' | 'stderr'>, choose: Choose): Command {
  const program = new Command('pgkeep')
    .description('Backups of PostgreSQL databases: encrypted, parallel, every row stored once.')
    .version(version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand('help [command]', 'print the help of a command')
    .usage('<command> [options]')
    .configureHelp({ sortSubcommands: false, showGlobalOptions: false })
    .configureOutput({
      writeOut: text => io.stdout.write(text),
      writeErr: text => io.stderr.write(text),
      outputError: () => {},
      getOutHelpWidth: () => helpWidth(io.stdout.columns),
      getErrHelpWidth: () => helpWidth(io.stderr.columns),
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    })
    .exitOverride();
  for (const name of commandNames) addCommand(program, name, commandTable[name], choose);
  program.addHelpText('after', overview);
  return program;
}

const overview = `
Start with:
  pgkeep key generate             make a key; put it into .env as BACKUP_ENCRYPTION_KEY=…
  pgkeep create                   back up the database of DATABASE_URL into ./backups
  pgkeep list                     see what is there
  pgkeep restore latest --to …    restore it into a new or empty database

Options come from flags, the environment, .env, and backup.config.json, in this order.
`;

function addCommand(
  program: Command,
  name: CommandName,
  description: CommandDescription,
  choose: Choose,
): void {
  const words = name.split(' ');
  const parent = words.length === 1 ? program : groupCommand(program, words[0] ?? '');
  const command = parent
    .command(words.at(-1) ?? name)
    .summary(description.summary)
    .description(capitalized(description.summary))
    .addHelpOption(new Option('-h, --help', 'print this help').helpGroup('Output:'));
  const { argument } = description;
  if (argument)
    command.argument(argument.required ? `<${argument.name}>` : `[${argument.name}]`, argument.help);
  const rows = optionsOf(name).filter(([, row]) => row.flags !== undefined);
  for (const [, row] of rows) addFlag(command, row);
  command.addHelpText('after', examplesText(description.examples));
  command.action(() => {
    choose({ command: name, given: givenFlags(command, rows), argument: command.args[0] });
  });
}

const groupSummaries: Readonly<Record<string, string>> = {
  key: 'encryption keys',
  schedule: 'backups run by another program',
  storage: 'the storage below a repository',
};

/** `key` of `key generate`: holds further commands and does nothing itself. */
function groupCommand(program: Command, name: string): Command {
  const present = program.commands.find(command => command.name() === name);
  const summary = groupSummaries[name] ?? '';
  return present ?? program.command(name).summary(summary).helpOption('-h, --help', 'print this help');
}

function addFlag(command: Command, row: OptionRow): void {
  const flags = row.flags ?? '';
  const option = new Option(flags, helpOf(row)).helpGroup(`${row.group}:`);
  if (row.type === 'list')
    option.argParser((text: string, before: string[] | undefined) => [...(before ?? []), text]);
  command.addOption(option);
  // What the environment or the file turns on, a flag must be able to turn off, and the other way round.
  if (row.type === 'boolean' && (row.env ?? row.config)) {
    const long = flagParts(row)?.long ?? '';
    command.addOption(new Option(opposite(long)).helpGroup(option.helpGroupHeading ?? '').hideHelp());
  }
}

/** `--quiet` and `--no-quiet` are each other's opposite. */
function opposite(longFlag: string): string {
  return longFlag.startsWith('--no-') ? `--${longFlag.slice('--no-'.length)}` : `--no-${longFlag.slice(2)}`;
}

function helpOf(row: OptionRow): string {
  const facts: string[] = [];
  if (row.default !== undefined && row.type !== 'boolean') facts.push(`default: ${row.default}`);
  if (row.env) facts.push(row.env.join(', '));
  return facts.length === 0 ? row.help : `${row.help} (${facts.join('; ')})`;
}

function givenFlags(command: Command, rows: readonly [OptionName, OptionRow][]): GivenFlags {
  const values = new Map<OptionName, string | boolean | readonly string[]>();
  for (const [name, row] of rows) {
    const attribute = new Option(row.flags ?? '').attributeName();
    if (command.getOptionValueSource(attribute) === 'cli')
      values.set(name, command.getOptionValue(attribute));
  }
  return values;
}

function examplesText(examples: CommandDescription['examples']): string {
  return `\nExamples:\n${examples.map(([line, meaning]) => `  ${line}\n      ${meaning}\n`).join('')}`;
}

function helpWidth(columns: number | undefined): number {
  return Math.min(columns ?? 100, 120);
}

function capitalized(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
