// A repository: its descriptor, keys, manifests and metadata. Knows the format, not PostgreSQL, and not where the
// objects are kept.
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { PgkeepError } from '../base/errors.ts';
import { forEachAtOnce } from '../base/for-each-at-once.ts';
import { freeBuffer } from '../base/free-buffer.ts';
import { decode, encode } from '../codec/codec.ts';
import { parseKey, unwrapKey, type WrappedKey, wrapKey } from '../crypto/key.ts';
import { type DataKey, open, seal, sealedKeyId } from '../crypto/seal.ts';
import type { Storage } from '../storage/storage.ts';
import { isBackupId } from './backup-id.ts';
import { also, either, fields, isText, isWhole, listOf, matching, oneOf, parseJson } from './checked-json.ts';
import {
  descriptorName,
  keyName,
  manifestName,
  metadataName,
  metadataPrefix,
  segmentName,
} from './layout.ts';
import { type Manifest, parseManifest, type SegmentRef } from './manifest.ts';
import { type BackupMetadata, changedFields, parseMetadata } from './metadata.ts';
import { openSegment } from './segment.ts';
import { chooseLatest, type Latest, partText } from './series.ts';

interface Descriptor {
  format: number;
  id: string;
  created: string;
  encryption: 'aes-256-gcm' | 'none';
  requires: string[];
  /** The repository secret: wrapped for each recipient, or plain hex without encryption. */
  secret: { recipients: WrappedKey[] } | { plain: string };
}

interface KeyObject {
  format: number;
  id: string;
  created: string;
  recipients: WrappedKey[];
}

/** Of the backups that somebody may have meant by latest, so many are named. */
const namedOthers = 3;

/** Whether there is a repository at the storage, and whether it is encrypted. Needs no key. */
export async function inspectRepository(
  storage: Storage,
): Promise<{ id: string; encrypted: boolean } | undefined> {
  const descriptor = await readDescriptor(storage);
  return descriptor && { id: descriptor.id, encrypted: descriptor.encryption !== 'none' };
}

/** A backup whose metadata object is there and is not what was written. */
export interface DamagedMetadata {
  id: string;
  error: PgkeepError;
}

/**
 * The metadata of every backup, and which of them are damaged; each newest first. Needs no key.
 * @throws PgkeepError REPOSITORY_NOT_FOUND, STORAGE_UNREACHABLE.
 */
export async function readAllMetadata(
  storage: Storage,
): Promise<{ backups: BackupMetadata[]; damaged: DamagedMetadata[] }> {
  if ((await readDescriptor(storage)) === undefined) throw notFound(storage);
  const ids: string[] = [];
  for await (const object of storage.list(metadataPrefix)) {
    const id = object.name.slice(metadataPrefix.length, -'.json'.length);
    if (isBackupId(id) && object.name === metadataName(id)) ids.push(id);
  }
  const backups: BackupMetadata[] = [];
  const damaged: DamagedMetadata[] = [];
  await forEachAtOnce(ids, async id => {
    try {
      backups.push(await readMetadata(storage, id));
    } catch (error) {
      if (!(error instanceof PgkeepError)) throw error;
      if (error.code === 'OBJECT_DAMAGED') damaged.push({ id, error });
      // One that was removed since it was listed is no longer a backup.
      else if (error.code !== 'OBJECT_MISSING') throw error;
    }
  });
  backups.sort((a, b) => b.timestamp.localeCompare(a.timestamp) || b.id.localeCompare(a.id));
  damaged.sort((a, b) => b.id.localeCompare(a.id));
  return { backups, damaged };
}

/** Segments on their way to those who read several. */
const fetchedAhead = 3;

export class Repository {
  readonly id: string;
  readonly storage: Storage;
  /** Keys the ids of segments. */
  readonly secret: Buffer;
  /** The user's key; `null` in a repository without encryption. */
  readonly #userKey: Buffer | null;
  readonly #dataKeys = new Map<string, Promise<DataKey>>();

  private constructor(id: string, storage: Storage, secret: Buffer, userKey: Buffer | null) {
    this.id = id;
    this.storage = storage;
    this.secret = secret;
    this.#userKey = userKey;
  }

  get encrypted(): boolean {
    return this.#userKey !== null;
  }

  /**
   * Opens what is there.
   * @param keyText the user's key; ignored by a repository without encryption.
   * @throws PgkeepError REPOSITORY_NOT_FOUND, REPOSITORY_UNSUPPORTED, KEY_MISSING, KEY_MALFORMED, KEY_WRONG.
   */
  static async open(storage: Storage, keyText: string | undefined): Promise<Repository> {
    const descriptor = await readDescriptor(storage);
    if (descriptor === undefined) throw notFound(storage);
    if ('plain' in descriptor.secret) {
      return new Repository(descriptor.id, storage, Buffer.from(descriptor.secret.plain, 'hex'), null);
    }
    if (keyText === undefined) {
      throw new PgkeepError(
        'KEY_MISSING',
        `the repository at ${storage.location} is encrypted and no key was given`,
        {
          hint: 'set BACKUP_ENCRYPTION_KEY, or BACKUP_ENCRYPTION_KEY_FILE to a file that holds the key',
        },
      );
    }
    const userKey = parseKey(keyText);
    const secret = unwrapKey(
      descriptor.secret.recipients,
      userKey,
      wrapContext(descriptor.id, descriptorName),
    );
    return new Repository(descriptor.id, storage, secret, userKey);
  }

  /**
   * Makes a new, empty repository. When somebody else makes one at the same moment, theirs is opened.
   * @param keyText `null` for a repository without encryption.
   * @throws PgkeepError KEY_MALFORMED; as {@link Repository.open} for theirs, and REPOSITORY_MISMATCH when it is not encrypted
   * although a key was given.
   */
  static async create(storage: Storage, keyText: string | null): Promise<Repository> {
    const userKey = keyText === null ? null : parseKey(keyText);
    const id = randomUUID();
    const secret = randomBytes(32);
    const descriptor: Descriptor = {
      format: 1,
      id,
      created: new Date().toISOString(),
      encryption: userKey === null ? 'none' : 'aes-256-gcm',
      requires: [],
      secret:
        userKey === null
          ? { plain: secret.toString('hex') }
          : { recipients: [wrapKey(secret, userKey, wrapContext(id, descriptorName))] },
    };
    const outcome = await storage.put(descriptorName, jsonObject(descriptor), { ifAbsent: true });
    if (outcome === 'stored') return new Repository(id, storage, secret, userKey);
    const theirs = await Repository.open(storage, keyText ?? undefined);
    if (keyText !== null && !theirs.encrypted) {
      throw new PgkeepError(
        'REPOSITORY_MISMATCH',
        `the repository at ${storage.location} was made without encryption`,
        { hint: 'choose another repository for encrypted backups' },
      );
    }
    return theirs;
  }

  /**
   * A fresh data key for one run, stored wrapped before it is used; `null` without encryption.
   * @param lockedUntil nobody can remove it before then.
   */
  async newDataKey(lockedUntil?: Date): Promise<DataKey | null> {
    if (this.#userKey === null) return null;
    const key: DataKey = { id: randomBytes(16).toString('hex'), bytes: randomBytes(32) };
    const object: KeyObject = {
      format: 1,
      id: key.id,
      created: new Date().toISOString(),
      recipients: [wrapKey(key.bytes, this.#userKey, wrapContext(this.id, keyName(key.id)))],
    };
    await this.storage.put(keyName(key.id), jsonObject(object), { ifAbsent: true, lockedUntil });
    this.#dataKeys.set(key.id, Promise.resolve(key));
    return key;
  }

  /** @throws PgkeepError OBJECT_MISSING, OBJECT_DAMAGED, RECIPIENT_UNSUPPORTED. */
  dataKey(id: string): Promise<DataKey> {
    let key = this.#dataKeys.get(id);
    if (key === undefined) {
      key = this.#loadDataKey(id);
      this.#dataKeys.set(id, key);
      // A failure is not remembered: the storage may answer next time.
      key.catch(() => this.#dataKeys.delete(id));
    }
    return key;
  }

  /** The key an object says it was sealed with; `null` when it is not encrypted, which only a plain repository allows. */
  async keyOf(name: string, object: Buffer): Promise<DataKey | null> {
    const keyId = sealedKeyId(name, object);
    if ((keyId !== null) !== this.encrypted) throw unlikeRepository(name, keyId !== null);
    return keyId === null ? null : await this.dataKey(keyId);
  }

  /**
   * A sealed segment and the key that its header names.
   * @throws PgkeepError OBJECT_MISSING, OBJECT_DAMAGED; REPOSITORY_MISMATCH when the repository does not have that key.
   */
  async fetchSegment(id: string): Promise<{ object: Buffer; key: DataKey | null }> {
    const name = segmentName(id);
    const object = await this.storage.get(name);
    try {
      return { object, key: await this.keyOf(name, object) };
    } catch (cause) {
      if (!(cause instanceof PgkeepError) || cause.code !== 'OBJECT_MISSING') throw cause;
      throw withoutItsKey(name, cause);
    }
  }

  /** The plain bytes of a segment. @throws PgkeepError as {@link Repository.fetchSegment}. */
  async readSegment(id: string): Promise<Buffer> {
    const { object, key } = await this.fetchSegment(id);
    const plain = openSegment(id, object, key, this.secret);
    // Without encryption, what could not be compressed is a view of the object.
    if (plain.buffer !== object.buffer) freeBuffer(object);
    return plain;
  }

  /**
   * The bytes of several segments, one after the other. Those that follow are fetched meanwhile.
   * @param isFreed whether each is only looked at until the next one is asked for: its memory is then given back at once.
   */
  async *readSegments(refs: readonly SegmentRef[], isFreed = false): AsyncGenerator<Buffer, void, undefined> {
    const fetched: Promise<Buffer>[] = [];
    let next = 0;
    try {
      while (next < refs.length || fetched.length > 0) {
        for (; next < refs.length && fetched.length < fetchedAhead; next++) {
          const bytes = this.readSegment(refs[next]?.id ?? '');
          // Awaited in its turn.
          bytes.catch(() => undefined);
          fetched.push(bytes);
        }
        const first = await fetched.shift();
        if (first === undefined) continue;
        yield first;
        if (isFreed) freeBuffer(first);
      }
    } finally {
      // Nothing goes on behind the caller's back.
      for (const ended of await Promise.allSettled(fetched))
        if (ended.status === 'fulfilled') freeBuffer(ended.value);
    }
  }

  /** Stores a manifest. @returns the SHA-256 and size of the sealed object. */
  async writeManifest(
    manifest: Manifest,
    key: DataKey | null,
  ): Promise<{ checksum: string; storedBytes: number }> {
    const name = manifestName(manifest.backup);
    const object = seal(name, 'manifest', key, encode(Buffer.from(JSON.stringify(manifest)), 6));
    // Opened again before it counts: a manifest that cannot be read is a backup that cannot be restored.
    parseManifest(name, decode(name, open(name, 'manifest', key, object)));
    if ((await this.storage.put(name, object, { ifAbsent: true })) === 'exists') throw existsAlready(name);
    return { checksum: createHash('sha256').update(object).digest('hex'), storedBytes: object.length };
  }

  /**
   * The manifest of a backup that exists.
   * @throws PgkeepError BACKUP_NOT_FOUND, OBJECT_MISSING, OBJECT_DAMAGED, REPOSITORY_MISMATCH, REPOSITORY_UNSUPPORTED.
   */
  async readManifest(metadata: BackupMetadata): Promise<Manifest> {
    return this.openManifestOf(metadata, await this.storage.get(manifestName(metadata.id)));
  }

  /** The same from its sealed object. */
  async openManifestOf(metadata: BackupMetadata, object: Buffer): Promise<Manifest> {
    const name = manifestName(metadata.id);
    const isAsTold = createHash('sha256').update(object).digest('hex') === metadata.checksum;
    const manifest = await this.openManifest(metadata.id, object).catch((cause: unknown) => {
      if (isAsTold || !(cause instanceof PgkeepError) || cause.code !== 'OBJECT_MISSING') throw cause;
      throw withoutItsKey(name, cause);
    });
    if (!isAsTold) {
      throw new PgkeepError(
        'OBJECT_DAMAGED',
        `${name} is not the manifest that ${metadataName(metadata.id)} was written for`,
        {
          context: { object: name },
        },
      );
    }
    const changed = changedFields(metadata, manifest, object.length, this);
    if (changed.length > 0) throw disagreeing(metadata.id, changed);
    return manifest;
  }

  /**
   * The manifest of a backup from its sealed object; whether it is the one that the metadata speak of is not looked at.
   * @throws PgkeepError OBJECT_DAMAGED, REPOSITORY_MISMATCH, REPOSITORY_UNSUPPORTED; OBJECT_MISSING for its key.
   */
  async openManifest(backupId: string, object: Buffer): Promise<Manifest> {
    const name = manifestName(backupId);
    const body = open(name, 'manifest', await this.keyOf(name, object), object);
    const manifest = parseManifest(name, decode(name, body));
    if (manifest.repository !== this.id || manifest.backup !== backupId) {
      throw new PgkeepError('REPOSITORY_MISMATCH', `${name} belongs to another repository or backup`, {
        context: { object: name },
      });
    }
    if (!this.encrypted && manifest.keys.length > 0) {
      throw new PgkeepError(
        'OBJECT_DAMAGED',
        `${name} is damaged: it lists keys, and its repository has none`,
        {
          context: { object: name },
        },
      );
    }
    return manifest;
  }

  /** Stores the metadata; from then on the backup exists. @param lockedUntil nobody can remove them before then. */
  async writeMetadata(metadata: BackupMetadata, lockedUntil?: Date): Promise<void> {
    const name = metadataName(metadata.id);
    const outcome = await this.storage.put(name, jsonObject(metadata), { ifAbsent: true, lockedUntil });
    if (outcome === 'exists') throw existsAlready(name);
  }

  async #loadDataKey(id: string): Promise<DataKey> {
    if (this.#userKey === null)
      throw new PgkeepError('INTERNAL', 'a repository without encryption has no data keys');
    const name = keyName(id);
    const object = parseJson(name, await this.storage.get(name), keyShape) as KeyObject;
    if (object.id !== id) {
      throw new PgkeepError('OBJECT_DAMAGED', `${name} is damaged: it is not the key it is named for`, {
        context: { object: name },
      });
    }
    try {
      return { id, bytes: unwrapKey(object.recipients, this.#userKey, wrapContext(this.id, name)) };
    } catch (error) {
      if (!(error instanceof PgkeepError)) throw error;
      const { code, message, hint, context } = error;
      const details = {
        ...(hint !== undefined && { hint }),
        context: { ...context, object: name },
        cause: error,
      };
      // The user's key is right: it opened the repository.
      if (code === 'KEY_WRONG') {
        throw new PgkeepError(
          'OBJECT_DAMAGED',
          `${name} is damaged: it is not for the key that opens its repository`,
          {
            context: { object: name },
            cause: error,
          },
        );
      }
      if (code === 'RECIPIENT_UNSUPPORTED') {
        throw new PgkeepError(code, `${name} has no recipient of a kind this version knows`, details);
      }
      throw new PgkeepError(code, message, details);
    }
  }
}

/**
 * The metadata of one backup, by id or `latest` (of one database, when it is named): see {@link chooseLatest}.
 * @param warn told when `latest` may not be the one that was meant. That a newer one may be there, whose metadata are damaged,
 * is an error without it.
 * @throws PgkeepError BACKUP_NOT_FOUND, REPOSITORY_NOT_FOUND, OBJECT_DAMAGED.
 */
export async function findBackup(
  storage: Storage,
  backup: string,
  database?: string,
  warn?: (message: string, hint?: string) => void,
): Promise<BackupMetadata> {
  if (backup !== 'latest') {
    if (!isBackupId(backup)) {
      throw new PgkeepError('BACKUP_NOT_FOUND', `${JSON.stringify(backup)} is not the id of a backup`, {
        hint: 'give "latest" or an id as pgkeep list prints it',
      });
    }
    if ((await readDescriptor(storage)) === undefined) throw notFound(storage);
    if ((await storage.stat(metadataName(backup))) === undefined) {
      throw new PgkeepError('BACKUP_NOT_FOUND', `${storage.location} has no backup ${backup}`, {
        hint: 'see what there is with: pgkeep list',
      });
    }
    return readMetadata(storage, backup);
  }
  const { backups, damaged } = await readAllMetadata(storage);
  const found = chooseLatest(backups, database);
  const newest = found?.latest;
  // Ids begin with the time when the run began.
  const passedOver = damaged.filter(({ id }) => newest === undefined || id > newest.id);
  const [first] = passedOver;
  if (first !== undefined && (newest === undefined || warn === undefined)) {
    const { code, message, context } = first.error;
    throw new PgkeepError(code, message, {
      hint: `see what is left of it with: pgkeep verify ${first.id}; or name another backup by its id`,
      context,
      cause: first.error,
    });
  }
  if (newest === undefined) {
    const isThere = backups.some(metadata => database === undefined || metadata.database === database);
    throw new PgkeepError(
      'BACKUP_NOT_FOUND',
      `${storage.location} holds no ${isThere ? 'complete ' : ''}backup${database === undefined ? '' : ` of database ${database}`} yet`,
      {
        hint: isThere
          ? 'name an incomplete one by its id, as pgkeep list prints it'
          : 'make one with: pgkeep create',
      },
    );
  }
  for (const { id, error } of passedOver) {
    warn?.(
      `${error.message}: the newest backup may be ${id}, and the one taken as the latest is ${newest.id} of ${newest.timestamp}`,
      `see what is left of it with: pgkeep verify ${id}`,
    );
  }
  if (found !== undefined && found.others.length > 0)
    warn?.(describeOthers(found), 'name another one by its id: pgkeep list has them all');
  return newest;
}

function describeOthers({ latest, others }: Latest<BackupMetadata>): string {
  const isOfSeveral = others.some(({ server }) => server !== latest.server);
  const describe = ({ id, timestamp, server, part }: BackupMetadata) => {
    const what = part === undefined ? 'whole' : `a part: ${partText(part)}`;
    return `${id} of ${timestamp} (${what}${isOfSeveral ? `; server ${server ?? 'unknown'}` : ''})`;
  };
  const named = others.slice(0, namedOthers).map(describe);
  const more = others.length > named.length ? [`and ${others.length - named.length} more`] : [];
  return `taken as the latest backup of ${latest.database} is ${describe(latest)}; there is also ${[...named, ...more].join(', ')}`;
}

async function readMetadata(storage: Storage, id: string): Promise<BackupMetadata> {
  return parseMetadata(metadataName(id), id, await storage.get(metadataName(id)));
}

async function readDescriptor(storage: Storage): Promise<Descriptor | undefined> {
  if ((await storage.stat(descriptorName)) === undefined) return undefined;
  const value = parseJson(descriptorName, await storage.get(descriptorName), fields({ format: isWhole }));
  const { format, requires } = value as { format: number; requires?: unknown };
  if (format !== 1 || (Array.isArray(requires) && requires.length > 0)) {
    throw new PgkeepError(
      'REPOSITORY_UNSUPPORTED',
      `the repository at ${storage.location} is of a newer format`,
      {
        hint: 'use a newer pgkeep',
      },
    );
  }
  if (descriptorShape(value) !== undefined) {
    throw new PgkeepError(
      'OBJECT_DAMAGED',
      `${descriptorName} is damaged: it is no descriptor of a repository`,
      { context: { object: descriptorName } },
    );
  }
  return value as Descriptor;
}

/** Only the type is asked for: recipients of other kinds have other fields, and are passed over. */
const recipients = listOf(
  either(
    fields({ type: oneOf('key'), recipient: matching(/^[0-9a-f]{16}$/), salt: isText, wrapped: isText }),
    fields({ type: also<string>(isText, type => type !== 'key') }),
  ),
);

/** It stands in messages, so it is short and printable. */
const repositoryId = matching(/^[\w-]{1,64}$/);

/** A plain secret passes only where the descriptor says that nothing is encrypted: both would have to be forged. */
const descriptorShape = either(
  fields({
    id: repositoryId,
    encryption: oneOf('none'),
    secret: fields({ plain: matching(/^[0-9a-f]{64}$/) }),
  }),
  fields({
    id: repositoryId,
    encryption: oneOf('aes-256-gcm'),
    secret: also<object>(fields({ recipients }), secret => !('plain' in secret)),
  }),
);

const keyShape = fields({ format: oneOf(1), id: isText, recipients });

/** An object under a key that is not among the repository's. */
export function withoutItsKey(name: string, cause: unknown): PgkeepError {
  return new PgkeepError(
    'REPOSITORY_MISMATCH',
    `${name} is sealed with a key that this repository does not have`,
    { hint: 'it is of another repository, or its key was removed', context: { object: name }, cause },
  );
}

/** @param fields those of the metadata that the manifest has otherwise. */
export function disagreeing(backup: string, fields: readonly string[]): PgkeepError {
  const name = metadataName(backup);
  return new PgkeepError(
    'OBJECT_DAMAGED',
    `${name} is damaged: it does not agree with the manifest on ${fields.join(', ')}`,
    { hint: 'somebody changed it; the backup itself may well be whole', context: { object: name } },
  );
}

function unlikeRepository(name: string, isEncrypted: boolean): PgkeepError {
  const how = isEncrypted ? 'encrypted' : 'not encrypted';
  return new PgkeepError('OBJECT_DAMAGED', `${name} is damaged: it is ${how}, unlike its repository`, {
    context: { object: name },
  });
}

function jsonObject(value: object): Buffer {
  return Buffer.from(`${JSON.stringify(value, null, 2)}\n`);
}

/** What a wrapped key is authenticated with, so that it opens only in its place. */
function wrapContext(repositoryId: string, objectName: string): string {
  return `${repositoryId}/${objectName}`;
}

function notFound(storage: Storage): PgkeepError {
  return new PgkeepError('REPOSITORY_NOT_FOUND', `there is no repository at ${storage.location}`, {
    hint: 'give its place with --repository; the first pgkeep create makes one',
  });
}

function existsAlready(name: string): PgkeepError {
  return new PgkeepError('OBJECT_EXISTS', `${name} exists already`, {
    hint: 'run again: a new backup gets a new id',
  });
}
