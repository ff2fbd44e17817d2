// Storage in an S3 bucket: AWS, or whatever speaks its language. Every object is one request with one buffer; nothing
// is done in parts. Requests are sent once: repeating them is the business of the wrapper around every remote storage.
import { createHash } from 'node:crypto';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  GetObjectLockConfigurationCommand,
  GetObjectRetentionCommand,
  HeadObjectCommand,
  type HeadObjectCommandOutput,
  ListObjectsV2Command,
  type ObjectLockConfiguration,
  type ObjectLockRetention,
  PutObjectCommand,
  type PutObjectCommandInput,
  PutObjectRetentionCommand,
  S3Client,
  type S3ClientConfig,
  type StorageClass,
} from '@aws-sdk/client-s3';
import { PgkeepError } from '../../base/errors.ts';
import { forEachAtOnce } from '../../base/for-each-at-once.ts';
import { formatQuantity } from '../../base/units.ts';
import { objectMissing, objectTooLarge, requireObjectSize } from '../object-errors.ts';
import { isObjectName, requireObjectName } from '../object-name.ts';
import { type LockedObject, ObjectsLocked } from '../objects-locked.ts';
import { PagedListing } from '../paged-listing.ts';
import {
  type GetOptions,
  maxObjectBytes,
  type ObjectLocks,
  type PutOptions,
  type RemoveOptions,
  type Storage,
  type StorageFacts,
  type StoredObject,
} from '../storage.ts';
import type { S3Options } from '../storage-options.ts';
import { TransientError } from '../transient-error.ts';
import { HttpHandler, type HttpTimeouts, ResponseTooLarge } from './http-handler.ts';
import { parseS3Address } from './s3-address.ts';
import { describeFailure, isUnexplained, translateS3Error } from './s3-errors.ts';
import { listVersionsAsOf, type VersionsPage } from './s3-versions.ts';

/** The store may take its time to answer, but a run holds locks while it waits. */
const defaultTimeouts: HttpTimeouts = { connectMs: 10_000, idleMs: 30_000 };
const removesAtOnce = 16;

export class S3Storage implements Storage {
  readonly location: string;
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #client: S3Client;
  readonly #handler: HttpHandler;
  readonly #options: S3Options;
  readonly #signer: S3ClientConfig['signer'];
  readonly #signal: AbortSignal | undefined;
  /** What every put says of the object. */
  readonly #putSettings: Partial<PutObjectCommandInput>;
  /** Whether the store keeps the condition that an object be new; found out by the first put that has it. */
  #conditionalPut: 'unknown' | 'being asked' | 'kept' | 'lacking' = 'unknown';
  /** Whether the bucket is known to exist. */
  #isBucketThere = false;
  readonly locks: ObjectLocks | undefined;
  readonly #lockMode: 'COMPLIANCE' | 'GOVERNANCE';
  #canLock = false;
  /** Ways of locking that the store was seen to keep. */
  readonly #keptLocks = new Set<'put' | 'extend'>();
  /** Whether locks that there may be would be seen; found out by the first removal that must spare them. */
  #lockSight: 'unknown' | 'nothing is locked' | 'seen' = 'unknown';
  readonly #asOf: Date | undefined;

  /**
   * Touches nothing yet.
   * @param signer signs the requests in place of the SDK's own.
   * @param asOf shows what was there then, and refuses to write.
   * @throws PgkeepError OPTION_INVALID.
   */
  constructor(
    address: string,
    options: S3Options = {},
    signal?: AbortSignal,
    timeouts: HttpTimeouts = defaultTimeouts,
    signer?: S3ClientConfig['signer'],
    asOf?: Date,
  ) {
    const { scheme, bucket, prefix } = parseS3Address(address);
    this.#bucket = bucket;
    this.#prefix = prefix;
    this.location = `${scheme}://${bucket}/${prefix}`.replace(/\/$/, '');
    this.#options = options;
    this.#signer = signer;
    this.#signal = signal;
    this.#putSettings = putSettings(options);
    this.#handler = new HttpHandler(timeouts, maxObjectBytes, signal);
    this.#client = new S3Client({ ...clientConfig(options, this.#handler), ...(signer && { signer }) });
    this.#lockMode = options.lockMode === 'governance' ? 'GOVERNANCE' : 'COMPLIANCE';
    // What has a signature of its own has other ways to lock.
    this.locks = signer
      ? undefined
      : {
          check: () => this.#checkLocks(),
          extend: (name, until) => this.#extendLock(name, until),
        };
    this.#asOf = asOf;
  }

  async put(name: string, bytes: Buffer, options: PutOptions = {}): Promise<'stored' | 'exists'> {
    requireObjectName(name);
    requireObjectSize(name, bytes);
    this.#requireNow(`storing ${name} in`);
    const { ifAbsent, lockedUntil } = options;
    const lock = lockedUntil === undefined ? {} : this.#lockSettings(bytes, lockedUntil);
    const outcome = ifAbsent
      ? await this.#putIfAbsent(name, bytes, lock)
      : await this.#put(name, bytes, lock).then(() => 'stored' as const);
    if (lockedUntil !== undefined && outcome === 'stored') await this.#requireKept('put', name, lockedUntil);
    return outcome;
  }

  async get(name: string, { firstBytes }: GetOptions = {}): Promise<Buffer> {
    requireObjectName(name);
    try {
      const range = firstBytes === undefined ? {} : { Range: `bytes=0-${firstBytes - 1}` };
      const version = await this.#version(name);
      if (version === 'none') throw objectMissing(name, this.location);
      const { Body } = await this.#client.send(
        new GetObjectCommand({ ...this.#object(name), ...version, ...range }),
      );
      // One chunk, as the handler gives it, or none.
      let bytes: Buffer = Buffer.alloc(0);
      for await (const whole of Body as AsyncIterable<Buffer>) bytes = whole;
      return bytes;
    } catch (error) {
      if (error instanceof ResponseTooLarge) throw objectTooLarge(name, error.sizeBytes);
      if (error instanceof PgkeepError) throw error;
      const failure = describeFailure(error);
      if (failure.name === 'NoSuchKey') throw objectMissing(name, this.location);
      // An empty object has no first byte.
      if (failure.status === 416) return Buffer.alloc(0);
      throw this.#failure(error, `reading ${name} from`);
    }
  }

  async stat(name: string): Promise<StoredObject | undefined> {
    requireObjectName(name);
    const found = await this.#head(name);
    if (found === undefined) return undefined;
    const { ContentLength = 0, LastModified = new Date(0) } = found;
    const lockedUntil = this.#lockOf(found);
    return {
      name,
      sizeBytes: ContentLength,
      modified: LastModified,
      ...(lockedUntil && { lockedUntil }),
      ...(lockedUntil && this.#isWeaker(found.ObjectLockMode) && { isLockWeaker: true }),
    };
  }

  async #head(name: string): Promise<HeadObjectCommandOutput | undefined> {
    try {
      const version = await this.#version(name);
      if (version === 'none') return undefined;
      const found = await this.#client.send(new HeadObjectCommand({ ...this.#object(name), ...version }));
      this.#isBucketThere = true;
      return found;
    } catch (error) {
      const failure = describeFailure(error);
      const isAbsent = failure.status === 404;
      if (isAbsent && this.#isBucketThere) return undefined;
      if (isAbsent || isUnexplained(failure)) await this.#explain(name);
      if (isAbsent) return undefined;
      throw this.#failure(error, `looking for ${name} in`);
    }
  }

  list(prefix: string): PagedListing<string> {
    if (this.#asOf !== undefined) return this.#listAsOf(prefix, this.#asOf);
    return new PagedListing('', async token => {
      const page = await this.#page(prefix, token);
      const objects: StoredObject[] = [];
      for (const { Key = '', Size = 0, LastModified = new Date(0) } of page.Contents ?? []) {
        const key = page.EncodingType === 'url' ? decodeURIComponent(Key.replaceAll('+', ' ')) : Key;
        const name = key.slice(this.#prefix.length);
        if (isObjectName(name)) objects.push({ name, sizeBytes: Size, modified: wholeSeconds(LastModified) });
      }
      return { objects, next: page.IsTruncated ? this.#nextToken(page, token) : undefined };
    });
  }

  /** @throws PgkeepError STORAGE_UNFIT: a listing that seemed to have ended would make cleanup take what is needed for garbage. */
  #nextToken(
    { NextContinuationToken: next }: { NextContinuationToken?: string | undefined },
    token: string,
  ): string {
    if (next !== undefined && next !== '' && next !== token) return next;
    throw new PgkeepError(
      'STORAGE_UNFIT',
      `${this.location} ends a listing before its end, and gives nothing to go on from`,
      {
        hint: 'use a store that knows the second version of listings (list-type=2 with continuation-token)',
      },
    );
  }

  /** One request for each: the call that removes many at once is not understood by every store. */
  async remove(names: readonly string[], { unlessLocked = false }: RemoveOptions = {}): Promise<void> {
    for (const name of names) requireObjectName(name);
    this.#requireNow(`removing ${names[0]} from`);
    const locked: LockedObject[] = [];
    await forEachAtOnce(
      names,
      async name => {
        const lockedUntil = unlessLocked ? await this.#findLock(name) : undefined;
        if (lockedUntil !== undefined) {
          locked.push({ name, lockedUntil });
          return;
        }
        try {
          await this.#client.send(new DeleteObjectCommand(this.#object(name)));
        } catch (error) {
          if (describeFailure(error).name === 'NoSuchKey') return;
          throw this.#failure(error, `removing ${name} from`);
        }
      },
      removesAtOnce,
    );
    if (locked.length > 0) throw new ObjectsLocked(locked);
  }

  async examine(name: string): Promise<StorageFacts> {
    const areSent = this.#options.checksums === 'when-supported';
    const otherWay = areSent ? 'when-required' : 'when-supported';
    const other = new S3Client(clientConfig({ ...this.#options, checksums: otherWay }, this.#handler));
    // Checksums and versions are Amazon's headers: whoever signs in another form does not have them.
    const isAmazons = this.#signer === undefined;
    const withOthers = isAmazons ? await this.#tryPut(other, name) : {};
    const plain = await this.#tryPut(this.#client, name);
    const again = await this.#tryPut(this.#client, name, { IfNoneMatch: '*' });
    const { origin } = this.#handler;
    const version = plain.versionId;
    return {
      ...(await this.#examineLocks()),
      ...(origin && { transport: { host: origin.host, isEncrypted: origin.protocol === 'https:' } }),
      ...(withOthers.status !== undefined && {
        checksums: {
          areSent,
          takesOtherWay: withOthers.status === 200,
          otherWay: `AWS_REQUEST_CHECKSUM_CALCULATION=${otherWay.replace('-', '_')}`,
        },
      }),
      ...(plain.status === 200 && {
        // Suspended versioning gives every version the same name.
        ...(isAmazons && { keepsVersions: version !== undefined && version !== 'null' }),
        ...(again.status === 412 && { conditionalPut: 'kept' }),
        ...(again.status === 501 && { conditionalPut: 'refused' }),
        ...(again.status === 200 && { conditionalPut: 'ignored' }),
      }),
    };
  }

  async close(): Promise<void> {
    this.#client.destroy();
    this.#handler.destroy();
  }

  async #putIfAbsent(name: string, bytes: Buffer, lock: PutSettings): Promise<'stored' | 'exists'> {
    // Until the store is known to keep the condition: looking first leaves but a moment for somebody else.
    if (this.#conditionalPut !== 'kept' && (await this.stat(name)) !== undefined) return 'exists';
    if (this.#conditionalPut === 'lacking') {
      await this.#put(name, bytes, lock);
      return 'stored';
    }
    const outcome = await this.#putOnCondition(name, bytes, lock);
    if (this.#conditionalPut === 'unknown' && outcome === 'stored') await this.#askAgain(name, bytes, lock);
    if (outcome !== 'unsupported') return outcome;
    this.#conditionalPut = 'lacking';
    await this.#put(name, bytes, lock);
    return 'stored';
  }

  /** Puts what was just put once more: a store that keeps the condition refuses, and one that does not has the same object. */
  async #askAgain(name: string, bytes: Buffer, lock: PutSettings): Promise<void> {
    this.#conditionalPut = 'being asked';
    try {
      this.#conditionalPut =
        (await this.#putOnCondition(name, bytes, lock)) === 'exists' ? 'kept' : 'lacking';
    } catch {
      // The object is stored; the next put will find out.
      this.#conditionalPut = 'unknown';
    }
  }

  async #putOnCondition(
    name: string,
    bytes: Buffer,
    lock: PutSettings,
  ): Promise<'stored' | 'exists' | 'unsupported'> {
    try {
      await this.#put(name, bytes, { ...lock, IfNoneMatch: '*' });
      return 'stored';
    } catch (error) {
      if (!(error instanceof PgkeepError)) throw error;
      if (error.context.httpStatus === 412) return 'exists';
      if (error.context.httpStatus === 501) return 'unsupported';
      throw error;
    }
  }

  async #put(name: string, bytes: Buffer, more: PutSettings): Promise<void> {
    try {
      const input = { ...this.#object(name), ...this.#putSettings, ...more, Body: bytes };
      await this.#client.send(new PutObjectCommand(input));
      this.#isBucketThere = true;
    } catch (error) {
      throw this.#failure(error, `storing ${name} in`);
    }
  }

  /** @returns what the store answered; without a status where it has none or may answer otherwise next time. */
  async #tryPut(
    client: S3Client,
    name: string,
    more: Partial<PutObjectCommandInput> = {},
  ): Promise<{ status?: number; versionId?: string | undefined }> {
    const input = { ...this.#object(name), ...this.#putSettings, ...more, Body: Buffer.from('x') };
    try {
      const { VersionId: versionId } = await client.send(new PutObjectCommand(input));
      return { status: 200, versionId };
    } catch (error) {
      const failure = this.#failure(error, `storing ${name} in`);
      if (failure instanceof TransientError || failure.code === 'INTERRUPTED') return {};
      const { status } = describeFailure(error);
      return { ...(status !== undefined && { status }) };
    }
  }

  /** @param token what the page before gave; empty for the first. */
  async #page(prefix: string, token: string) {
    try {
      return await this.#client.send(
        new ListObjectsV2Command({
          Bucket: this.#bucket,
          Prefix: this.#prefix + prefix,
          EncodingType: 'url',
          ...(token !== '' && { ContinuationToken: token }),
        }),
      );
    } catch (error) {
      throw this.#failure(error, `listing ${prefix || 'the objects'} in`);
    }
  }

  /**
   * A HEAD that fails does not say why: asks the same in a way that does.
   * @throws PgkeepError unless it is merely the object that is missing.
   */
  async #explain(name: string): Promise<void> {
    try {
      await this.#client.send(new GetObjectCommand({ ...this.#object(name), Range: 'bytes=0-0' }));
    } catch (error) {
      const { name: reason, status } = describeFailure(error);
      // An empty object has no first byte.
      if (reason !== 'NoSuchKey' && status !== 416) throw this.#failure(error, `looking for ${name} in`);
    }
    this.#isBucketThere = true;
  }

  #lockSettings(bytes: Buffer, until: Date): PutSettings {
    return {
      ObjectLockMode: this.#lockMode,
      ObjectLockRetainUntilDate: until,
      // S3 demands one of a put that locks; this one every store understands.
      ContentMD5: createHash('md5').update(bytes).digest('base64'),
    };
  }

  async #checkLocks(): Promise<Date> {
    this.#canLock ||= await this.#isMadeForLocks();
    if (!this.#canLock) {
      throw new PgkeepError('STORAGE_UNFIT', `${this.location} is in a bucket that cannot lock objects`, {
        hint: 'Object Lock is switched on when a bucket is made (docs/guide.md says how): make one for such backups, or leave out --lock-days',
      });
    }
    return this.#handler.serverNow();
  }

  /** Whether the bucket was made with Object Lock. */
  async #isMadeForLocks(): Promise<boolean> {
    return (await this.#lockConfiguration())?.ObjectLockEnabled === 'Enabled';
  }

  /** @throws PgkeepError STORAGE_DENIED when it may not be seen. */
  async #lockConfiguration(): Promise<ObjectLockConfiguration | undefined> {
    try {
      const found = await this.#client.send(new GetObjectLockConfigurationCommand({ Bucket: this.#bucket }));
      return found.ObjectLockConfiguration;
    } catch (error) {
      const { name, status = 0 } = describeFailure(error);
      if (name !== 'NoSuchBucket' && [400, 404, 405, 501].includes(status)) return undefined;
      throw this.#withoutSight(error, `asking for the Object Lock of`);
    }
  }

  async #examineLocks(): Promise<StorageFacts> {
    if (this.locks === undefined) return {};
    try {
      const found = await this.#lockConfiguration();
      const { Mode = '', Days, Years } = found?.Rule?.DefaultRetention ?? {};
      const period = Days === undefined ? formatQuantity(Years ?? 0, 'year') : formatQuantity(Days, 'day');
      const byDefault = Mode === '' ? {} : { byDefault: `${Mode.toLowerCase()} mode for ${period}` };
      return { objectLock: { isOn: found?.ObjectLockEnabled === 'Enabled', ...byDefault } };
    } catch (error) {
      const isDenied = error instanceof PgkeepError && error.code === 'STORAGE_DENIED';
      return isDenied ? { objectLock: { isOn: 'not to be seen' } } : {};
    }
  }

  async #extendLock(name: string, until: Date): Promise<void> {
    requireObjectName(name);
    const doing = `locking ${name} in`;
    this.#requireNow(doing);
    // A store that knows no locks may take what follows for the contents of the object.
    if (!this.#canLock) await this.#checkLocks();
    try {
      await this.#setLock(name, this.#lockMode, until);
    } catch (error) {
      const failure = describeFailure(error);
      if (failure.name === 'NoSuchKey') throw objectMissing(name, this.location);
      if (failure.status !== 403) throw this.#withoutSight(error, doing);
      await this.#yieldToLock(name, until, this.#withoutSight(error, doing));
    }
    await this.#requireKept('extend', name, until);
  }

  /** What to do where a lock is refused: one that is longer or of the stronger mode stays. @throws PgkeepError the refusal. */
  async #yieldToLock(name: string, until: Date, refusal: PgkeepError): Promise<void> {
    const lock = await this.#retention(name);
    if (lock !== undefined && this.#isWeaker(lock.Mode)) {
      const end = lock.RetainUntilDate?.toISOString();
      throw new PgkeepError('STORAGE_DENIED', `${name} is locked in governance mode until ${end}`, {
        hint: 'it can be locked in compliance mode once that is over: until then use --lock-mode governance',
        context: { object: name },
        cause: refusal,
      });
    }
    if ((lock?.RetainUntilDate?.getTime() ?? 0) >= until.getTime()) return;
    if (lock?.Mode !== 'COMPLIANCE' || this.#lockMode === 'COMPLIANCE') throw refusal;
    await this.#setLock(name, lock.Mode, until).catch(() => {
      throw refusal;
    });
  }

  async #setLock(name: string, mode: 'COMPLIANCE' | 'GOVERNANCE', until: Date): Promise<void> {
    const Retention = { Mode: mode, RetainUntilDate: until };
    await this.#client.send(new PutObjectRetentionCommand({ ...this.#object(name), Retention }));
  }

  /** Some stores take a lock and forget it: the first of each kind is asked for. */
  async #requireKept(way: 'put' | 'extend', name: string, until: Date): Promise<void> {
    if (this.#keptLocks.has(way)) return;
    const end = (await this.#retention(name))?.RetainUntilDate?.getTime() ?? 0;
    // Kept in whole seconds, perhaps.
    if (end <= until.getTime() - 1000) {
      throw new PgkeepError('STORAGE_UNFIT', `${this.location} stored ${name} without the lock asked for`, {
        hint: 'this store does not keep Object Lock: use another, or leave out --lock-days',
        context: { object: name },
      });
    }
    this.#keptLocks.add(way);
  }

  /** @throws PgkeepError STORAGE_DENIED when it may not be seen. */
  async #retention(name: string): Promise<ObjectLockRetention | undefined> {
    try {
      return (await this.#client.send(new GetObjectRetentionCommand(this.#object(name)))).Retention;
    } catch (error) {
      const { status = 0 } = describeFailure(error);
      // 200: not of a lock, but with the contents of the object.
      if ([200, 400, 404, 405, 501].includes(status)) return undefined;
      throw this.#withoutSight(error, `asking for the lock of ${name} in`);
    }
  }

  #isWeaker(mode: string | undefined): boolean {
    return this.#lockMode === 'COMPLIANCE' && mode !== 'COMPLIANCE';
  }

  #lockOf(found: HeadObjectCommandOutput): Date | undefined {
    const until = found.ObjectLockRetainUntilDate;
    return until !== undefined && until > this.#handler.serverNow() ? until : undefined;
  }

  /** The lock of an object that is about to be removed. @throws PgkeepError STORAGE_DENIED when it may not be seen. */
  async #findLock(name: string): Promise<Date | undefined> {
    if (this.#lockSight === 'nothing is locked' || this.locks === undefined) return undefined;
    const found = await this.#head(name);
    if (found === undefined) return undefined;
    const lockedUntil = this.#lockOf(found);
    if (lockedUntil !== undefined || this.#lockSight === 'seen') return lockedUntil;
    // Who lacks the right is told nothing of locks, as if there were none.
    if (found.VersionId === undefined || !(await this.#isMadeForLocks())) {
      this.#lockSight = 'nothing is locked';
    } else {
      await this.#retention(name);
      this.#lockSight = 'seen';
    }
    return undefined;
  }

  #listAsOf(prefix: string, asOf: Date): PagedListing<string> {
    return new PagedListing('', async afterKey => {
      const { versions, next } = await this.#versions(prefix, asOf, afterKey);
      const objects = versions.map(({ key, sizeBytes, modified }) => ({
        name: key.slice(this.#prefix.length),
        sizeBytes,
        modified: wholeSeconds(modified),
      }));
      return { objects: objects.filter(({ name }) => isObjectName(name)), next };
    });
  }

  async #versions(prefix: string, asOf: Date, afterKey: string): Promise<VersionsPage> {
    try {
      return await listVersionsAsOf(this.#client, this.#bucket, this.#prefix + prefix, asOf, afterKey);
    } catch (error) {
      throw this.#failure(error, `listing the versions of ${prefix || 'the objects'} in`);
    }
  }

  /** Which version is meant; nothing where it is the current one. */
  async #version(name: string): Promise<{ VersionId?: string } | 'none'> {
    if (this.#asOf === undefined) return {};
    // Of all names with this beginning it is listed first.
    const { versions } = await this.#versions(name, this.#asOf, '');
    const [version] = versions;
    return version?.key === this.#prefix + name ? { VersionId: version.versionId } : 'none';
  }

  /** @throws PgkeepError STORAGE_DENIED when an earlier time is being looked at. */
  #requireNow(doing: string): void {
    if (this.#asOf === undefined) return;
    throw new PgkeepError(
      'STORAGE_DENIED',
      `${doing} ${this.location}: what was there earlier cannot be changed`,
      {
        hint: 'leave out --as-of',
      },
    );
  }

  #withoutSight(error: unknown, doing: string): PgkeepError {
    const failure = this.#failure(error, doing);
    if (failure.code !== 'STORAGE_DENIED') return failure;
    return new PgkeepError(failure.code, failure.message, {
      hint: 'locks need s3:GetBucketObjectLockConfiguration, s3:GetObjectRetention and, to be made, s3:PutObjectRetention',
      context: failure.context,
      cause: error,
    });
  }

  #failure(error: unknown, doing: string): PgkeepError {
    if (this.#signal?.aborted) {
      if (this.#signal.reason instanceof PgkeepError) return this.#signal.reason;
      return new PgkeepError('INTERRUPTED', 'the run was interrupted', { cause: error });
    }
    return translateS3Error(error, `${doing} ${this.location}`);
  }

  #object(name: string): { Bucket: string; Key: string } {
    return { Bucket: this.#bucket, Key: this.#prefix + name };
  }
}

type PutSettings = Partial<PutObjectCommandInput>;

/** As a HEAD tells it: of the same object, a listing shall not say otherwise. */
function wholeSeconds(time: Date): Date {
  return new Date(Math.floor(time.getTime() / 1000) * 1000);
}

function clientConfig(options: S3Options, handler: HttpHandler): S3ClientConfig {
  const { endpoint, accessKeyId, secretAccessKey, sessionToken, profile } = options;
  if (endpoint !== undefined) requireEndpoint(endpoint);
  const region = options.region ?? (endpoint === undefined ? undefined : 'us-east-1');
  const checksums = options.checksums === 'when-supported' ? 'WHEN_SUPPORTED' : 'WHEN_REQUIRED';
  return {
    requestHandler: handler,
    maxAttempts: 1,
    followRegionRedirects: true,
    expectContinueHeader: false,
    requestChecksumCalculation: checksums,
    responseChecksumValidation: checksums,
    forcePathStyle: options.pathStyle ?? endpoint !== undefined,
    ...(endpoint !== undefined && { endpoint }),
    ...(region !== undefined && { region }),
    ...(profile !== undefined && { profile }),
    // A profile that was named outranks keys, as with AWS's own tools.
    ...(profile === undefined &&
      accessKeyId !== undefined &&
      secretAccessKey !== undefined && {
        credentials: { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) },
      }),
  };
}

function requireEndpoint(endpoint: string): void {
  const url = URL.parse(endpoint);
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') {
    throw new PgkeepError(
      'OPTION_INVALID',
      'the endpoint is not an http:// or https:// URL without credentials',
      {
        hint: 'write it as in https://s3.example.org; credentials have options of their own',
      },
    );
  }
}

function putSettings(options: S3Options): Partial<PutObjectCommandInput> {
  const encryption = options.encryption ?? (options.kmsKeyId === undefined ? undefined : 'aws:kms');
  const tags = (options.tags ?? []).map(encodeTag);
  return {
    ContentType: 'application/octet-stream',
    ...(options.storageClass !== undefined && { StorageClass: options.storageClass as StorageClass }),
    ...(encryption !== undefined && { ServerSideEncryption: encryption }),
    ...(options.kmsKeyId !== undefined && { SSEKMSKeyId: options.kmsKeyId }),
    ...(tags.length > 0 && { Tagging: tags.join('&') }),
  };
}

/** As a query has it. */
function encodeTag(tag: string): string {
  const [, name, value = ''] = /^([^=]+)=(.*)$/s.exec(tag) ?? [];
  if (name !== undefined) return `${encodeURIComponent(name)}=${encodeURIComponent(value)}`;
  throw new PgkeepError('OPTION_INVALID', `${JSON.stringify(tag)} is not a tag`, {
    hint: 'write name=value',
  });
}
