// What is wrong with the options given. Problems are collected, so that one run names them all.
import { PgkeepError } from '../../base/errors.ts';

export interface Problem {
  /** Where the value stands: a flag, an environment name, or a key of the configuration file. */
  source: string;
  /** Continues the sentence that begins with the source. */
  message: string;
  inConfigFile: boolean;
  hint?: string;
}

/** @throws PgkeepError CONFIG_INVALID when every problem is in the configuration file, else OPTION_INVALID. */
export function throwProblems(problems: readonly Problem[]): void {
  const [first] = problems;
  if (first === undefined) return;
  const code = problems.every(problem => problem.inConfigFile) ? 'CONFIG_INVALID' : 'OPTION_INVALID';
  const lines = problems.map(problem => `${problem.source}: ${problem.message}`);
  const message =
    problems.length === 1
      ? lines.join()
      : `${problems.length} options cannot be used:\n  ${lines.join('\n  ')}`;
  const hints = [...new Set(problems.flatMap(problem => problem.hint ?? []))];
  throw new PgkeepError(code, message, {
    ...(hints.length > 0 && { hint: hints.join('; ') }),
    context: { problems: lines },
  });
}
