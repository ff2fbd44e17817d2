// pgkeep completion: a script for the shell, made from the tables of commands and options.
import { PgkeepError } from '../../base/errors.ts';
import { bashCompletion } from '../completion/bash.ts';
import { fishCompletion } from '../completion/fish.ts';
import { zshCompletion } from '../completion/zsh.ts';
import type { Invocation } from './command.ts';

const scripts = { bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion };

export async function run({ argument = '', io }: Invocation<'completion'>): Promise<void> {
  if (!isShell(argument)) {
    throw new PgkeepError('OPTION_INVALID', `there is no completion for '${argument}'`, {
      hint: `give one of ${Object.keys(scripts).join(', ')}`,
    });
  }
  io.stdout.write(scripts[argument]());
}

function isShell(name: string): name is keyof typeof scripts {
  return Object.hasOwn(scripts, name);
}
