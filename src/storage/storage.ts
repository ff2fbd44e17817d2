// The storage contract: named bytes, nothing more. One suite (test/contract/storage.ts) runs against every backend.
//
// Promises every backend keeps:
// - a reader sees all of an object or none of it;
// - a listing shows everything whose put had ended before the listing began;
// - put with `ifAbsent` has exactly one winner, however many try at once (where an S3 store has no conditional puts, a
//   moment is left in which two can win: docs/decisions/s3.md);
// - an aborted or failed put leaves nothing visible;
// - names are slash-separated, of [A-Za-z0-9._-] parts that do not begin with a dot;
// - an object holds at most 16 MiB: more is neither stored nor read into memory.

export const maxObjectBytes = 16 * 1024 * 1024;

export interface StoredObject {
  name: string;
  sizeBytes: number;
  /** By the storage's clock, which may tell no more than whole seconds (rounded down); the same from stat and list. */
  modified: Date;
  /** Until when nobody can remove it. Told by `stat` alone, and only while the lock lasts by the storage's clock. */
  lockedUntil?: Date;
  /** Set where somebody may remove it all the same, whom the locks made here would not let. */
  isLockWeaker?: true;
}

/** Until when an object is locked as firmly as the locks made here. */
export function firmlyLockedUntil(object: StoredObject | undefined): Date | undefined {
  return object?.isLockWeaker ? undefined : object?.lockedUntil;
}

export interface PutOptions {
  /** Do nothing when the object exists. */
  ifAbsent?: boolean;
  /** Nobody can remove the object before then. Only where the storage has {@link Storage.locks}. */
  lockedUntil?: Date | undefined;
}

export interface GetOptions {
  /** Only so many bytes from the beginning are needed; a storage that cannot read in part gives them all. */
  firstBytes?: number;
}

/** What a storage finds out about itself beyond the contract; what it cannot tell is left out. */
export interface StorageFacts {
  /** How requests travel, where they leave the process's own machine or may do so. */
  transport?: { host: string; isEncrypted: boolean };
  /** What becomes of a put on condition that the object be new, when it is not: the store itself, not what is made of it here. */
  conditionalPut?: 'kept' | 'refused' | 'ignored';
  /** Checksums in every request, beyond what the protocol asks for. */
  checksums?: {
    areSent: boolean;
    /** Whether the store takes a put that differs in this from those that are sent. */
    takesOtherWay: boolean;
    /** What to set to have it the other way. */
    otherWay: string;
  };
  /** Whether the store keeps what is overwritten or removed as an older version. */
  keepsVersions?: boolean;
  /** Whether objects can be locked ({@link ObjectLocks}), and what locks each of them without being asked to. */
  objectLock?: { isOn: boolean | 'not to be seen'; byDefault?: string };
}

export interface RemoveOptions {
  /** What is locked stays as it is: else a storage that keeps versions hides it from everybody. */
  unlessLocked?: boolean;
}

/** What a storage can do that keeps objects from being removed, by whomever. */
export interface ObjectLocks {
  /**
   * @returns the time by the storage's clock, which decides when locks end.
   * @throws PgkeepError STORAGE_UNFIT when objects cannot be locked here after all, with what is missing; STORAGE_DENIED.
   */
  check(): Promise<Date>;

  /**
   * Locks an object until then at least; a lock that lasts longer stays, unless it is a weaker one.
   * @throws PgkeepError OBJECT_MISSING, STORAGE_DENIED; STORAGE_UNFIT when the storage forgot it at once.
   */
  extend(name: string, until: Date): Promise<void>;
}

export interface Storage {
  /** Where this is, in a form that may be shown: no secrets. */
  readonly location: string;

  /**
   * Stores an object whole and durably before it resolves; the caller may free the bytes as soon as it has settled.
   * @returns 'exists' when `ifAbsent` was asked for and the object was there; it is then untouched.
   * @throws PgkeepError STORAGE_FULL, STORAGE_DENIED, STORAGE_UNREACHABLE.
   */
  put(name: string, bytes: Buffer, options?: PutOptions): Promise<'stored' | 'exists'>;

  /**
   * @throws PgkeepError OBJECT_MISSING when there is none, OBJECT_DAMAGED when it is larger than an object can be;
   * STORAGE_DENIED, STORAGE_UNREACHABLE.
   */
  get(name: string, options?: GetOptions): Promise<Buffer>;

  /** Size and time of an object; `undefined` when there is none. */
  stat(name: string): Promise<StoredObject | undefined>;

  /** Every object whose name begins with `prefix` (which ends at a slash or is empty), in no particular order. */
  list(prefix: string): AsyncIterable<StoredObject>;

  /**
   * Removes objects; those that are not there are passed over.
   * @throws ObjectsLocked with `unlessLocked`, once the others are removed; STORAGE_DENIED also when locks may not be seen.
   */
  remove(names: readonly string[], options?: RemoveOptions): Promise<void>;

  /** Only where a storage may be able to lock objects. */
  readonly locks?: ObjectLocks | undefined;

  /** How many bytes can still be stored, where there is a limit that can be asked for; `undefined` when nobody tells it. */
  freeBytes?(): Promise<number | undefined>;

  /**
   * Tries what lies beyond the contract, by storing an object of this name, which the caller removes. What is refused is a
   * fact, or left out.
   */
  examine?(name: string): Promise<StorageFacts>;

  /**
   * Removes a folder with all that is in it, unfinished files too, and the folders around it that are empty then, up
   * to the storage's own; only where objects lie in folders.
   * @param prefix ends at a slash.
   */
  removeFolder?(prefix: string): Promise<void>;

  /** Ends connections; a second call is harmless. */
  close(): Promise<void>;
}
