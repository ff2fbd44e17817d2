// The completion script for zsh: sourced after compinit, or kept in a folder of $fpath as _pgkeep.
import {
  type CompletedCommand,
  type CompletedFlag,
  completedCommands,
  firstWords,
  nestedCommands,
} from './words.ts';

export function zshCompletion(): string {
  const commands = completedCommands();
  const groups = [...new Set(nestedCommands().map(({ group }) => group))];
  return `#compdef pgkeep
# pgkeep completion for zsh; made by: pgkeep completion zsh
_pgkeep() {
  local state line
  _arguments -C '(-h --help)'{-h,--help}'[print the help]' '(-V --version)'{-V,--version}'[print the version]' \\
    '1: :->command' '*:: :->rest'
  case $state in
    command)
      local -a commands=(
${firstWords()
  .map(({ word, help }) => `        ${quoted(`${word}:${help}`)}`)
  .join('\n')}
      )
      _describe command commands
      ;;
    rest)
      case $line[1] in
        help) _arguments '1:command:(${firstWords()
          .filter(({ word }) => word !== 'help')
          .map(({ word }) => word)
          .join(' ')})' ;;
${commands
  .filter(({ words }) => words.length === 1)
  .map(command => `        ${command.name}) ${argumentsOf(command)} ;;`)
  .join('\n')}
${groups.map(group => `        ${group}) _pgkeep_${group} ;;`).join('\n')}
      esac
      ;;
  esac
}
${groups.map(group => groupFunction(group, commands)).join('\n')}
if [ "$funcstack[1]" = "_pgkeep" ]; then
  _pgkeep "$@"
else
  compdef _pgkeep pgkeep
fi
`;
}

function groupFunction(group: string, commands: readonly CompletedCommand[]): string {
  const members = commands.filter(({ words }) => words.length === 2 && words[0] === group);
  return `_pgkeep_${group}() {
  local state line
  _arguments -C '1: :->command' '*:: :->rest'
  case $state in
    command)
      local -a commands=(
${members.map(({ words, summary }) => `        ${quoted(`${words[1]}:${summary}`)}`).join('\n')}
      )
      _describe command commands
      ;;
    rest)
      case $line[1] in
${members.map(command => `        ${command.words[1]}) ${argumentsOf(command)} ;;`).join('\n')}
      esac
      ;;
  esac
}`;
}

function argumentsOf(command: CompletedCommand): string {
  const specs = command.flags.map(flagSpec);
  if (command.choices.length > 0) specs.push(quoted(`1:argument:(${command.choices.join(' ')})`));
  return `_arguments -s ${specs.join(' ')}`;
}

/** `'(-j --jobs)'{-j+,--jobs=}'[workers]:n: '` */
function flagSpec(flag: CompletedFlag): string {
  const help = `[${flag.help.replaceAll(/[\][]/g, '\\$&').replaceAll(':', '\\:')}]`;
  const action = { file: '_files', folder: '_files -/', other: ' ' };
  const value = flag.value ? `:${flag.value.placeholder}:${action[flag.value.kind]}` : '';
  const long = `${flag.long}${flag.value ? '=' : ''}`;
  if (flag.short === undefined) return `${flag.isRepeatable ? "'*'" : ''}${quoted(`${long}${help}${value}`)}`;
  const exclusion = flag.isRepeatable ? '*' : `(${flag.short} ${flag.long})`;
  return `'${exclusion}'{${flag.short}${flag.value ? '+' : ''},${long}}${quoted(`${help}${value}`)}`;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
