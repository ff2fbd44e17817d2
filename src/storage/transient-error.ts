// A failure of a storage that may pass: the one kind of error that is worth asking again for.
import { type ErrorDetails, PgkeepError } from '../base/errors.ts';

export class TransientError extends PgkeepError {
  /** How long the storage asked to be left alone. */
  readonly retryAfterMs: number | undefined;

  constructor(message: string, details: ErrorDetails & { retryAfterMs?: number | undefined } = {}) {
    super('STORAGE_UNREACHABLE', message, details);
    this.retryAfterMs = details.retryAfterMs;
  }
}
