// The completion script for fish.
import {
  type CompletedCommand,
  type CompletedFlag,
  completedCommands,
  firstWords,
  nestedCommands,
} from './words.ts';

export function fishCompletion(): string {
  const firsts = firstWords();
  const lines = [
    '# pgkeep completion for fish; made by: pgkeep completion fish',
    'complete -c pgkeep -f',
    ...firsts.map(({ word, help }) => offer('__fish_use_subcommand', `-a ${word} -d ${quoted(help)}`)),
    offer('__fish_use_subcommand', `-s h -l help -d ${quoted('print the help')}`),
    offer('__fish_use_subcommand', `-s V -l version -d ${quoted('print the version')}`),
    ...firsts
      .filter(({ word }) => word !== 'help')
      .map(({ word }) => offer('__fish_seen_subcommand_from help', `-a ${word}`)),
    ...nestedCommands().map(({ group, word, summary }) =>
      offer(`${chosen([group])}; and not ${chosen([word])}`, `-a ${word} -d ${quoted(summary)}`),
    ),
    ...completedCommands().flatMap(commandLines),
  ];
  return `${lines.join('\n')}\n`;
}

function commandLines(command: CompletedCommand): string[] {
  // `help create` offers no flags of create.
  const condition = `not __fish_seen_subcommand_from help; and ${command.words.map(word => chosen([word])).join('; and ')}`;
  const lines = command.flags.map(flag => offer(condition, flagSpec(flag)));
  if (command.choices.length > 0) {
    lines.push(
      offer(`${condition}; and not ${chosen(command.choices)}`, `-a ${quoted(command.choices.join(' '))}`),
    );
  }
  return lines;
}

function flagSpec(flag: CompletedFlag): string {
  const short = flag.short === undefined ? '' : `-s ${flag.short.slice(1)} `;
  // -r takes files as fish completes them anyway, -x takes the words of -a and nothing else.
  const value = {
    file: '-r -F ',
    folder: `-x -a ${quoted('(__fish_complete_directories)')} `,
    other: '-x ',
  };
  return `${short}-l ${flag.long.slice(2)} ${flag.value ? value[flag.value.kind] : ''}-d ${quoted(flag.help)}`;
}

function chosen(words: readonly string[]): string {
  return `__fish_seen_subcommand_from ${words.join(' ')}`;
}

function offer(condition: string, what: string): string {
  return `complete -c pgkeep -n ${quoted(condition)} ${what}`;
}

function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
