// What a command is: a description that the help is made from, and a module that is loaded only when it is chosen.
import type { PgkeepError } from '../../base/errors.ts';
import type { Io } from '../io.ts';
import type { Settings } from '../options/resolve.ts';
import type { CommandName } from '../options/table.ts';

export interface CommandDescription {
  summary: string;
  /** One positional argument, if the command takes any. */
  argument?: { name: string; help: string; required: boolean; choices?: readonly string[] };
  /** Printed below the help: a command line and what it does. */
  examples: readonly (readonly [commandLine: string, meaning: string])[];
}

export interface Command<C extends CommandName> extends CommandDescription {
  load: () => Promise<CommandModule<C>>;
}

export interface CommandModule<C extends CommandName> {
  /** Does the work and prints its result. Failures are thrown. */
  run(invocation: Invocation<C>): Promise<void>;
}

export interface Invocation<C extends CommandName> extends Settings<C> {
  argument: string | undefined;
  io: Io;
  /** Aborted at the first signal. */
  signal: AbortSignal;
}

/**
 * Thrown by a command that has printed its result and failed all the same. The failure is told on stderr and gives the
 * exit code; stdout holds the result, which says of the failure what programs need.
 */
export class FailureAfterResult extends Error {
  readonly failure: PgkeepError;

  constructor(failure: PgkeepError) {
    super(failure.message);
    this.failure = failure;
  }
}
