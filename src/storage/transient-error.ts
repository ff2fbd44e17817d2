// A failure of a storage that may pass: the one kind of error that is worth asking again for.
import { type ErrorDetails, PgkeepError } from '../base/errors.ts';

export interface TransientDetails extends ErrorDetails {
  /** Whether the storage itself said so, rather than nobody having answered. */
  isAnswer?: boolean;
  /** How long the storage asked to be left alone. */
  retryAfterMs?: number | undefined;
}

export class TransientError extends PgkeepError {
  readonly isAnswer: boolean;
  readonly retryAfterMs: number;

  constructor(message: string, details: TransientDetails = {}) {
    super('STORAGE_UNREACHABLE', message, details);
    this.isAnswer = details.isAnswer ?? false;
    this.retryAfterMs = details.retryAfterMs ?? 0;
  }
}
