// The completion script for bash (4 and newer); needs no bash-completion package.
import {
  type CompletedCommand,
  type CompletedFlag,
  completedCommands,
  firstWords,
  nestedCommands,
} from './words.ts';

export function bashCompletion(): string {
  const commands = completedCommands();
  const first = firstWords().map(({ word }) => word);
  const nested = nestedCommands();
  return `# pgkeep completion for bash; made by: pgkeep completion bash
_pgkeep() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}" command="" words="" i
  COMPREPLY=()
  # --flag=value arrives as three words
  if [[ "$cur" == "=" ]]; then
    cur=""
  elif [[ "$prev" == "=" ]]; then
    prev="\${COMP_WORDS[COMP_CWORD-2]}"
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$command \${COMP_WORDS[i]}" in
${first.map(word => `      " ${word}") command="${word}" ;;`).join('\n')}
${nested.map(({ group, word }) => `      "${group} ${word}") command="${group} ${word}" ;;`).join('\n')}
    esac
  done
  case "$command $prev" in
${commands.flatMap(valueCases).join('\n')}
  esac
  case "$command" in
    "") words="${[...first, '--help', '--version'].join(' ')}" ;;
    help) words="${first.filter(word => word !== 'help').join(' ')}" ;;
${[...new Set(nested.map(({ group }) => group))].map(group => `    ${group}) words="${nestedWords(group)} --help" ;;`).join('\n')}
${commands.map(commandCase).join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
_pgkeep_paths() {
  mapfile -t COMPREPLY < <(compgen "$1" -- "$2")
  # lets readline quote names with spaces and put a slash after folders
  compopt -o filenames 2> /dev/null
}
complete -F _pgkeep pgkeep
`;

  function nestedWords(group: string): string {
    return nested
      .filter(command => command.group === group)
      .map(command => command.word)
      .join(' ');
  }
}

/** After a flag with a value: files, folders, or nothing to offer. */
function valueCases(command: CompletedCommand): string[] {
  const kinds = { file: '_pgkeep_paths -f "$cur"', folder: '_pgkeep_paths -d "$cur"', other: '' };
  return Object.entries(kinds).flatMap(([kind, action]) => {
    const patterns = command.flags
      .filter(flag => flag.value?.kind === kind)
      .flatMap(flagWords)
      .map(flag => `"${command.name} ${flag}"`);
    return patterns.length === 0 ? [] : [`    ${patterns.join(' | ')}) ${action && `${action}; `}return ;;`];
  });
}

function commandCase(command: CompletedCommand): string {
  const flags = command.flags.flatMap(flagWords).join(' ');
  const choices =
    command.choices.length === 0 ? '' : `[[ "$cur" == -* ]] || words="${command.choices.join(' ')}"; `;
  return `    "${command.name}") words="${flags}"; ${choices};;`.replace('; ;;', ' ;;');
}

function flagWords(flag: CompletedFlag): string[] {
  return flag.short === undefined ? [flag.long] : [flag.long, flag.short];
}
