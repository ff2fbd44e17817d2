// What a shell can complete, taken from the tables of commands and options.
import { commandNames, commandTable } from '../commands/table.ts';
import { type CommandName, flagParts, type OptionRow, optionsOf } from '../options/table.ts';

export interface CompletedFlag {
  long: string;
  short: string | undefined;
  help: string;
  /** What follows the flag; undefined when nothing does. */
  value: { placeholder: string; kind: 'file' | 'folder' | 'other' } | undefined;
  isRepeatable: boolean;
}

export interface CompletedCommand {
  name: CommandName;
  /** `key` and `generate`. */
  words: readonly string[];
  summary: string;
  flags: readonly CompletedFlag[];
  /** What the positional argument can be. */
  choices: readonly string[];
}

const helpFlag: CompletedFlag = {
  long: '--help',
  short: '-h',
  help: 'print the help',
  value: undefined,
  isRepeatable: false,
};

export function completedCommands(): CompletedCommand[] {
  return commandNames.map(name => ({
    name,
    words: name.split(' '),
    summary: commandTable[name].summary,
    flags: [...optionsOf(name).flatMap(([, row]) => completedFlag(row) ?? []), helpFlag],
    choices: commandTable[name].argument?.choices ?? [],
  }));
}

/** The first words of all commands, and `help`, each with what it is. */
export function firstWords(): { word: string; help: string }[] {
  const words = new Map<string, string>();
  for (const {
    words: [first = ''],
    summary,
  } of completedCommands()) {
    words.set(first, words.has(first) ? 'several commands' : summary);
  }
  return [...words, ['help', 'print the help of a command'] as const].map(([word, help]) => ({ word, help }));
}

/** The commands of two words, such as `key generate`. */
export function nestedCommands(): { group: string; word: string; summary: string }[] {
  return completedCommands().flatMap(({ words: [group = '', word], summary }) =>
    word === undefined ? [] : [{ group, word, summary }],
  );
}

function completedFlag(row: OptionRow): CompletedFlag | undefined {
  const parts = flagParts(row);
  if (parts === undefined) return undefined;
  const { long, short, placeholder } = parts;
  const value = placeholder === undefined ? undefined : { placeholder, kind: valueKind(row) };
  return { long, short, help: row.help, value, isRepeatable: row.type === 'list' };
}

function valueKind(row: OptionRow): 'file' | 'folder' | 'other' {
  if (row.type === 'path') return row.holds;
  return row.type === 'place' ? 'folder' : 'other';
}
