// Failures that every storage words alike.
import { PgkeepError } from '../base/errors.ts';
import { maxObjectBytes } from './storage.ts';

export function objectMissing(name: string, location: string): PgkeepError {
  return new PgkeepError('OBJECT_MISSING', `${name} is missing from ${location}`, {
    context: { object: name },
  });
}

/** For an object of the storage. */
export function objectTooLarge(name: string, sizeBytes: number): PgkeepError {
  return new PgkeepError('OBJECT_DAMAGED', `${name} is damaged: it is larger than an object can be`, {
    context: { object: name, sizeBytes },
  });
}

/** For bytes about to be stored. @throws PgkeepError INTERNAL. */
export function requireObjectSize(name: string, bytes: Buffer): void {
  if (bytes.length > maxObjectBytes)
    throw new PgkeepError('INTERNAL', `${name} is too large for an object: ${bytes.length} bytes`);
}
