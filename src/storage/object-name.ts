// The names that objects may have, the same for every storage: none that would leave the repository, hide from a
// listing, or mean different things to different backends.
import { PgkeepError } from '../base/errors.ts';

const pattern = /^(?:[A-Za-z0-9_-][A-Za-z0-9._-]*\/)*[A-Za-z0-9_-][A-Za-z0-9._-]*$/;

/** For what a listing meets: others may keep things beside the repository's objects. */
export function isObjectName(name: string): boolean {
  return pattern.test(name);
}

/** @throws PgkeepError INTERNAL. */
export function requireObjectName(name: string): void {
  if (!isObjectName(name))
    throw new PgkeepError('INTERNAL', `not a name for an object: ${JSON.stringify(name)}`);
}
