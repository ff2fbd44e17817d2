// What could not be removed, as nobody can before its lock is over.
import { PgkeepError } from '../base/errors.ts';

export interface LockedObject {
  name: string;
  lockedUntil: Date;
}

export class ObjectsLocked extends PgkeepError {
  readonly objects: readonly LockedObject[];

  /** @param objects at least one. */
  constructor(objects: readonly LockedObject[]) {
    const times = objects.map(object => object.lockedUntil.getTime());
    const last = new Date(Math.max(...times)).toISOString();
    const [first] = objects;
    const more = objects.length === 1 ? '' : ` and ${objects.length - 1} more`;
    super('OBJECT_LOCKED', `${first?.name}${more} cannot be removed before ${last}: locked in the storage`, {
      context: { object: first?.name ?? '', lockedUntil: last },
    });
    this.objects = objects;
  }
}
