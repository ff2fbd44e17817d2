// Verifies backups: that all they name is there and whole, that it holds what the manifest counts, and, if asked, that
// it restores to the same rows. Finds as many problems as there are, changes no backup, and remembers the result.
import { createHash, randomBytes } from 'node:crypto';
import { errorTable, PgkeepError, throwIfAborted } from '../base/errors.ts';
import { forEachAtOnce } from '../base/for-each-at-once.ts';
import { version } from '../base/version.ts';
import { checkArchive, listArchive } from '../postgres/archive-contents.ts';
import { findPgRestore } from '../postgres/programs.ts';
import { type Environment, localEnvironment } from '../postgres/target.ts';
import { findServer } from '../postgres/throwaway-server.ts';
import { isBackupId } from '../repository/backup-id.ts';
import {
  keyName,
  manifestName,
  manifestPrefix,
  metadataName,
  metadataPrefix,
  segmentIdIn,
  segmentName,
  segmentPrefix,
} from '../repository/layout.ts';
import {
  type Manifest,
  type RangeEntry,
  type Ranges,
  type SegmentRef,
  slicesOf,
  type TableEntry,
} from '../repository/manifest.ts';
import { type BackupMetadata, changedFields, parseMetadata } from '../repository/metadata.ts';
import { idsIn } from '../repository/named-objects.ts';
import {
  disagreeing,
  findBackup,
  Repository,
  readAllMetadata,
  withoutItsKey,
} from '../repository/repository.ts';
import { SegmentIdMap } from '../repository/segment-id-map.ts';
import { SegmentIds } from '../repository/segment-ids.ts';
import { chooseLatest } from '../repository/series.ts';
import { rangesOf } from '../repository/table-ranges.ts';
import {
  readVerification,
  type Sample,
  type VerificationRecord,
  type VerifyLevel,
  verifyLevels,
  writeVerification,
} from '../repository/verification.ts';
import { openStorage } from '../storage/open-storage.ts';
import type { Storage } from '../storage/storage.ts';
import type { StorageOptions } from '../storage/storage-options.ts';
import { type RunOptions, Teller } from './events.ts';
import { jobsLimits, requireInteger } from './option-check.ts';
import { packRanges } from './table-index.ts';
import { Findings, type VerificationProblem } from './verify/findings.ts';
import { checkContents } from './verify/range-contents.ts';
import { chooseSample } from './verify/sample.ts';
import { SegmentChecks } from './verify/segment-checks.ts';
import { verifyByRestore } from './verify/verify-by-restore.ts';

export interface VerifyBackupsOptions extends RunOptions {
  repository: string;
  /** How the storage is reached, where the address alone does not say it. */
  storage?: StorageOptions | undefined;
  encryptionKey?: string | undefined;
  /** A backup id or `latest`, which is the default. */
  backup?: string | undefined;
  /** Every backup of the repository. */
  all?: boolean;
  /** Narrows `latest` and `all` to the backups of this database. */
  database?: string | undefined;
  /** Default `data`. */
  level?: VerifyLevel | undefined;
  /** Read only this share of the segments, chosen at random: more than 0, at most 1. */
  sample?: number | undefined;
  /** postgres:// URL of a server to restore into with level restore; without it one is started for the purpose. */
  scratch?: string | undefined;
  /** Remove damaged segments, so that the next backup stores them afresh. */
  repair?: boolean;
  /** Worker threads. Default 2. */
  jobs?: number | undefined;
  /** A folder with PostgreSQL's programs. */
  programs?: string | undefined;
  environment?: Readonly<Record<string, string | undefined>>;
}

export interface VerifyBackupsResult {
  repository: string;
  level: VerifyLevel;
  /** Whether every backup is. */
  valid: boolean;
  backups: VerificationResult[];
  /** Damaged segments that `repair` removed. */
  repaired: string[];
  durationMs: number;
  warnings: string[];
}

export interface VerificationResult {
  backupId: string;
  /** Of the database; `null` when nothing readable names it. */
  database: string | null;
  level: VerifyLevel;
  valid: boolean;
  /** The manifest is the one the metadata names, and what was read hashes to its name. */
  checksumValid: boolean;
  /** Keys unwrap, and what was read opens with them. */
  encryptionValid: boolean;
  /** Everything named is there, of the right size, and holds what was counted. */
  sizeValid: boolean;
  /** Rows recounted, or with level `restore` compared after a restore. */
  rowsCompared: number;
  sample: Sample | null;
  errors: VerificationProblem[];
  verifiedAt: string;
}

interface NamedTable {
  table: TableEntry;
  /** How many there are. */
  count: number;
  /** In memory, or read from the index each time; `undefined` when that cannot be read. */
  ranges: Ranges | AsyncIterable<RangeEntry> | undefined;
}

/** All that a backup names. */
interface Named {
  manifest: Manifest;
  tables: NamedTable[];
  /** Sizes of segments of rows and of the archive that have not been read, nor listed with that size. */
  unseen: SegmentIdMap;
}

/** The ranges in a table index, for other backups that have the same one. */
interface KnownIndex {
  ranges: Ranges;
  /** Ids of the keys of their segments: a backup that does not have them all cannot be restored with this index. */
  keys: readonly string[];
}

const defaultJobs = 2;
/** Up to so many objects are looked at one by one; for more it is quicker to list all. */
const maxStats = 500;
/** Problems that are remembered; what is printed has all. */
const rememberedProblems = 100;

/**
 * Verifies one backup or all.
 * @throws PgkeepError when nothing can be verified: no such repository or backup, a wrong key, a storage that does not
 * answer, programs that are missing. What is wrong with a backup is in the result.
 */
export async function verifyBackups(options: VerifyBackupsOptions): Promise<VerifyBackupsResult> {
  checkOptions(options);
  const storage = await openStorage(options.repository, options.storage, options.signal);
  try {
    return await new Verification(options, storage).run();
  } finally {
    await storage.close();
  }
}

function checkOptions({ jobs, level, sample, all, backup }: VerifyBackupsOptions): void {
  requireInteger('jobs', jobs, jobsLimits);
  if (level !== undefined && !verifyLevels.includes(level)) {
    throw new PgkeepError('OPTION_INVALID', `level is ${level}, not one of ${verifyLevels.join(', ')}`);
  }
  if (sample !== undefined && !(sample > 0 && sample <= 1)) {
    throw new PgkeepError('OPTION_INVALID', `sample is ${sample}, not more than 0 and at most 1`);
  }
  if (sample !== undefined && level !== undefined && level !== 'data') {
    throw new PgkeepError('OPTION_INVALID', `a sample is for level data; level ${level} has no part for it`);
  }
  if (all && backup !== undefined) {
    throw new PgkeepError('OPTION_INVALID', 'either one backup is verified, or all of them');
  }
}

class Verification {
  readonly #options: VerifyBackupsOptions;
  readonly #storage: Storage;
  readonly #environment: Environment;
  readonly #level: VerifyLevel;
  readonly #startedAt = Date.now();
  readonly #seed = randomBytes(16).toString('hex');
  readonly #teller: Teller;
  /** Archives that pg_restore has read through, by a hash of their segments' ids. */
  readonly #readArchives = new Set<string>();
  readonly #ids = new SegmentIds();
  /** Of several backups: what the table indexes of the last one of each database hold; the next one mostly shares them. */
  readonly #indexes = new Map<string, Map<string, KnownIndex>>();
  /** Sizes of all segments, once they have been listed. */
  #sizes: SegmentIdMap | undefined;

  constructor(options: VerifyBackupsOptions, storage: Storage) {
    this.#options = options;
    this.#teller = new Teller(options);
    this.#storage = storage;
    this.#environment = options.environment ?? process.env;
    this.#level = options.level ?? 'data';
  }

  async run(): Promise<VerifyBackupsResult> {
    const ids = await this.#choose();
    const repository = await Repository.open(this.#storage, this.#options.encryptionKey);
    await this.#tellOfOrphans(ids);
    const { signal, jobs = defaultJobs } = this.#options;
    const checks = new SegmentChecks(repository, this.#ids, jobs, signal);
    const backups: VerificationResult[] = [];
    const damaged = new Set<string>();
    // The oldest first: later ones name parts of the segments that it names, which are thus counted when they are read.
    for (const id of ids.toReversed()) {
      throwIfAborted(signal);
      const result = await this.#verify(id, repository, checks, damaged);
      if (result !== undefined) backups.push(result);
    }
    backups.reverse();
    const repaired = this.#options.repair ? await this.#repair(damaged, checks) : [];
    return {
      repository: this.#storage.location,
      level: this.#level,
      valid: backups.every(backup => backup.valid),
      backups,
      repaired,
      durationMs: Date.now() - this.#startedAt,
      warnings: this.#teller.warnings,
    };
  }

  /** The ids to verify, newest first. A backup with damaged metadata is one of them. */
  async #choose(): Promise<string[]> {
    const { backup = 'latest', all, database } = this.#options;
    const warn = (message: string, hint?: string) => this.#teller.warn(message, hint);
    if (!all && backup !== 'latest') {
      // Also asks whether it exists; what its metadata hold is looked at later.
      const isDamaged = (error: unknown) => error instanceof PgkeepError && error.code === 'OBJECT_DAMAGED';
      await findBackup(this.#storage, backup).catch(error => {
        if (!isBackupId(backup) || !isDamaged(error)) throw error;
      });
      return [backup];
    }
    const { backups, damaged } = await readAllMetadata(this.#storage);
    if (!all) {
      // Of which database a damaged one is cannot be known.
      if (database !== undefined) return [(await findBackup(this.#storage, backup, database, warn)).id];
      const newest = chooseLatest(backups, undefined)?.latest.id ?? '';
      if (damaged[0] !== undefined && damaged[0].id > newest) return [damaged[0].id];
      return [(await findBackup(this.#storage, backup, undefined, warn)).id];
    }
    const ids = backups
      .filter(metadata => database === undefined || metadata.database === database)
      .map(metadata => metadata.id);
    if (ids.length + damaged.length === 0) {
      throw new PgkeepError('BACKUP_NOT_FOUND', `${this.#storage.location} holds no backup to verify`, {
        hint: 'make one with: pgkeep create',
      });
    }
    return [...ids, ...damaged.map(({ id }) => id)];
  }

  /** A backup whose metadata were lost is none, and its manifest is all that is left to see of it. */
  async #tellOfOrphans(chosen: readonly string[]): Promise<void> {
    const { backup = 'latest', all } = this.#options;
    if (!all && backup !== 'latest') return;
    const manifests = await idsIn(this.#storage, manifestPrefix, '.backup');
    // Listed afterwards, so that a run that ends just now is not among them.
    const published = new Set(await idsIn(this.#storage, metadataPrefix, '.json'));
    for (const id of manifests) {
      if (published.has(id) || (!all && id < (chosen[0] ?? ''))) continue;
      this.#teller.warn(
        `${manifestName(id)} has no metadata: its run was killed or is under way, or ${metadataName(id)} was lost`,
        'if it was lost, get it from a copy of the repository before a cleanup collects the rest',
      );
    }
  }

  /** @returns nothing when the backup was removed meanwhile. */
  async #verify(
    id: string,
    repository: Repository,
    checks: SegmentChecks,
    damaged: Set<string>,
  ): Promise<VerificationResult | undefined> {
    this.#teller.emit({ type: 'phase', phase: 'check', detail: id });
    const findings = new Findings(repository.encrypted);
    const verifiedAt = new Date().toISOString();
    const metadata = await this.#readMetadata(id, checks, findings);
    if (metadata?.complete === false)
      this.#teller.warn(
        `${id} is incomplete: what it lacks is not verified`,
        `see what that is with: pgkeep show ${id}`,
      );
    const manifest = await this.#readManifest(id, metadata, repository, checks, findings);
    let sample: Sample | null = null;
    let rowsCompared = 0;
    if (manifest !== undefined) {
      await this.#requireServer(manifest);
      await this.#checkKeys(manifest, repository, checks, findings);
      const named = await this.#readNamed(manifest, repository, checks, findings);
      if (this.#level === 'metadata') await this.#checkSizes(named, checks);
      else sample = await this.#checkData(named, checks, findings);
      // Of what is there and was not read there is nothing to say.
      if (this.#level !== 'metadata' || !checks.isEmpty)
        rowsCompared = await this.#compare(named, checks, findings, damaged);
      if (this.#level === 'restore') rowsCompared = await this.#restore(named, repository, findings);
      for (const { index = [] } of manifest.tables)
        for (const ref of index) if (checks.bad(ref.id)) damaged.add(ref.id);
    }
    if (!findings.isEmpty && (await this.#storage.stat(metadataName(id))) === undefined) {
      this.#teller.warn(`${id} was removed while it was verified`);
      return undefined;
    }
    const result: VerificationResult = {
      backupId: id,
      database: manifest?.database.name ?? metadata?.database ?? null,
      level: this.#level,
      valid: findings.isEmpty,
      checksumValid: findings.isFine('checksum'),
      encryptionValid: findings.isFine('encryption'),
      sizeValid: findings.isFine('size'),
      rowsCompared,
      sample,
      errors: findings.problems,
      verifiedAt,
    };
    if (findings.isUntried) {
      const hint = 'give a server that can take it with --scratch';
      this.#teller.warn(`restoring ${id} could not be tried, so the result is not remembered`, hint);
    } else {
      await this.#remember(result, metadata);
    }
    return result;
  }

  async #readMetadata(
    id: string,
    checks: SegmentChecks,
    findings: Findings,
  ): Promise<BackupMetadata | undefined> {
    const name = metadataName(id);
    try {
      return parseMetadata(name, id, await this.#storage.get(name));
    } catch (error) {
      findings.add(await checks.judge(error), name);
      // What the manifest's checksum should be is not known.
      findings.doubt('checksum');
      return undefined;
    }
  }

  async #readManifest(
    id: string,
    metadata: BackupMetadata | undefined,
    repository: Repository,
    checks: SegmentChecks,
    findings: Findings,
  ): Promise<Manifest | undefined> {
    const name = manifestName(id);
    let isAsTold = true;
    try {
      const object = await this.#storage.get(name);
      const checksum = createHash('sha256').update(object).digest('hex');
      isAsTold = metadata === undefined || checksum === metadata.checksum;
      if (!isAsTold) findings.doubt('checksum');
      const manifest = await repository.openManifest(id, object);
      if (metadata === undefined) return manifest;
      const changed = changedFields(metadata, manifest, object.length, repository);
      if (!isAsTold) changed.unshift('checksum');
      if (changed.length > 0) {
        findings.add(disagreeing(id, changed), metadataName(id));
      }
      return manifest;
    } catch (error) {
      const failure = await checks.judge(error);
      const object = String(failure.context.object ?? name);
      if (!object.startsWith('keys/')) findings.add(failure, name);
      else if (isAsTold || failure.code !== 'OBJECT_MISSING') findings.add(failure, object);
      else findings.add(withoutItsKey(name, failure), name);
      // Nothing that the manifest names can be looked at.
      findings.doubt('checksum', 'size');
      if (repository.encrypted) findings.doubt('encryption');
      return undefined;
    }
  }

  async #checkKeys(
    manifest: Manifest,
    repository: Repository,
    checks: SegmentChecks,
    findings: Findings,
  ): Promise<void> {
    for (const id of manifest.keys) {
      await repository.dataKey(id).catch(async error => {
        findings.add(await checks.judge(error), keyName(id));
      });
    }
  }

  /** Reads the table indexes; with level metadata, also looks for all they name among the segments that are listed. */
  async #readNamed(
    manifest: Manifest,
    repository: Repository,
    checks: SegmentChecks,
    findings: Findings,
  ): Promise<Named> {
    const isMetadata = this.#level === 'metadata';
    const named: Named = { manifest, tables: [], unseen: new SegmentIdMap() };
    if (isMetadata && (this.#options.all || aboutHowMany(manifest) > maxStats))
      this.#sizes ??= await this.#listSegments();
    const look = ({ id, storedBytes }: SegmentRef) => {
      if (this.#sizes?.get(id) === storedBytes || checks.isRead(id) || named.unseen.has(id)) return;
      named.unseen.set(id, storedBytes);
    };
    if (isMetadata) manifest.archive.segments.forEach(look);
    const known = this.#indexes.get(manifest.database.name);
    const indexes = new Map<string, KnownIndex>();
    for (const table of manifest.tables) {
      throwIfAborted(this.#options.signal);
      let count = 0;
      const used = new Set<number>();
      const lookAtRange = (range: RangeEntry) => {
        throwIfAborted(this.#options.signal);
        count++;
        const slices = slicesOf(range);
        for (const { key } of slices) used.add(key);
        if (isMetadata) slices.forEach(look);
      };
      // Also that it adds up to the table need not be looked at again then.
      const place = [...(table.index ?? []).map(({ id }) => id), table.rows, table.bytes].join();
      const again = known?.get(place);
      const isKnown = again?.keys.every(id => manifest.keys.includes(id)) ?? false;
      let ranges: NamedTable['ranges'] = isKnown ? again?.ranges : undefined;
      if (isKnown) for (const range of again?.ranges ?? []) lookAtRange(range);
      else ranges = await this.#readRanges(table, manifest, repository, checks, findings, lookAtRange);
      named.tables.push({ table, count, ranges });
      if (this.#options.all && table.index !== undefined && ranges !== undefined && isInMemory(ranges)) {
        const keys = isKnown ? (again?.keys ?? []) : [...used].flatMap(key => manifest.keys[key] ?? []);
        indexes.set(place, { ranges, keys });
      }
    }
    this.#indexes.set(manifest.database.name, indexes);
    return named;
  }

  /** @param look told of each range. @returns nothing when the table's index cannot be read, which is noted. */
  async #readRanges(
    table: TableEntry,
    manifest: Manifest,
    repository: Repository,
    checks: SegmentChecks,
    findings: Findings,
    look: (range: RangeEntry) => void,
  ): Promise<NamedTable['ranges']> {
    const unreadable = (table.index ?? []).filter(ref => checks.bad(ref.id));
    if (unreadable.length === 0) {
      try {
        // They are needed once more only where something is wrong, or where another backup shares them.
        const ranges =
          this.#level === 'metadata' && !this.#options.all && table.index !== undefined
            ? { [Symbol.asyncIterator]: () => rangesOf(repository, manifest, table) }
            : await packRanges(repository, manifest, table, this.#ids);
        for await (const range of ranges) look(range);
        return ranges;
      } catch (error) {
        const failure = await checks.judge(error);
        for (const ref of table.index ?? []) await checks.read(ref.id);
        // Its segments are whole, and what they hold is no index of the table.
        if (!(table.index ?? []).some(ref => checks.bad(ref.id))) {
          findings.concern(findings.add(failure, manifestName(manifest.backup)), table, 0);
        }
      }
    }
    for (const ref of table.index ?? []) {
      const problem = this.#problemOf(ref.id, manifest, checks, findings);
      if (problem !== undefined) findings.concern(problem, table, 0);
    }
    return undefined;
  }

  /** That everything is there, of the size it had; what has another size is read, as it may have been stored anew. */
  async #checkSizes(named: Named, checks: SegmentChecks): Promise<void> {
    const changed = await this.#findChanged(named.unseen, checks);
    if (changed.size === 0) return;
    const places = await this.#want(named, checks, id => changed.has(id));
    await checks.check(places, () => undefined);
  }

  /** Notes what is missing. @returns the ids of those that do not have their size. */
  async #findChanged(sizes: SegmentIdMap, checks: SegmentChecks): Promise<Set<string>> {
    if (sizes.size > maxStats || this.#options.all) this.#sizes ??= await this.#listSegments();
    const changed = new Set<string>();
    await forEachAtOnce(sizes.keys(), async id => {
      throwIfAborted(this.#options.signal);
      // One that was stored after the listing had begun need not be in it.
      const sizeBytes = this.#sizes?.get(id) ?? (await this.#storage.stat(segmentName(id)))?.sizeBytes;
      if (sizeBytes === undefined) checks.noteMissing(id);
      else if (sizeBytes !== sizes.get(id)) changed.add(id);
    });
    return changed;
  }

  async #listSegments(): Promise<SegmentIdMap> {
    const sizes = new SegmentIdMap();
    for await (const { name, sizeBytes } of this.#storage.list(segmentPrefix)) {
      throwIfAborted(this.#options.signal);
      const id = segmentIdIn(name);
      if (id !== undefined && name === segmentName(id)) sizes.set(id, sizeBytes);
    }
    return sizes;
  }

  /** Has those that are wanted checked, by their places; the segments of table indexes have been read by then. */
  async #want(
    { manifest, tables }: Named,
    checks: SegmentChecks,
    isWanted: (id: string) => boolean,
  ): Promise<Set<number>> {
    const places = new Set<number>();
    for (const ref of manifest.archive.segments) if (isWanted(ref.id)) places.add(checks.want(ref));
    for (const { ranges = [] } of tables) {
      for await (const { slices, ctids = [], gone = [] } of ranges) {
        for (const slice of slices) if (isWanted(slice.id)) places.add(checks.wantPart(slice, 'text'));
        for (const slice of [...ctids, ...gone])
          if (isWanted(slice.id)) places.add(checks.wantPart(slice, 'lists'));
      }
    }
    return places;
  }

  /** Reads the archive through pg_restore and all other segments, or a sample of them. */
  async #checkData(named: Named, checks: SegmentChecks, findings: Findings): Promise<Sample | null> {
    const { sample } = this.#options;
    const sizes = new SegmentIdMap();
    if (sample !== undefined) await this.#noteSizes(named, sizes);
    const isChosen = sample === undefined ? () => true : chooseSample(sizes.keys(), sample, this.#seed);
    this.#teller.emit({ type: 'phase', phase: 'read', detail: named.manifest.backup });
    await this.#checkArchive(named.manifest, checks, findings);
    const places = await this.#want(named, checks, isChosen);
    let totalBytes = 0;
    for (const place of places) if (checks.lacks(place)) totalBytes += checks.wantedBytes(place);
    let doneBytes = 0;
    await checks.check(places, plainBytes => {
      doneBytes += plainBytes;
      this.#teller.emit({ type: 'progress', doneBytes, totalBytes, rows: 0 });
    });
    if (sample === undefined) return null;
    const unread = new SegmentIdMap();
    for (const id of sizes.keys()) if (!checks.isRead(id)) unread.set(id, sizes.get(id) ?? 0);
    const changed = await this.#findChanged(unread, checks);
    await checks.check(await this.#want(named, checks, id => changed.has(id)), () => undefined);
    let segments = 0;
    for (const id of sizes.keys()) if (checks.isRead(id)) segments++;
    const percent = Number((sample * 100).toPrecision(6));
    return { percent, segments, ofSegments: sizes.size };
  }

  /** Of all segments of rows and of the archive, as the backup names them first. */
  async #noteSizes({ manifest, tables }: Named, sizes: SegmentIdMap): Promise<void> {
    const note = ({ id, storedBytes }: SegmentRef) => {
      if (!sizes.has(id)) sizes.set(id, storedBytes);
    };
    manifest.archive.segments.forEach(note);
    for (const { ranges = [] } of tables) for await (const range of ranges) slicesOf(range).forEach(note);
  }

  /** Has pg_restore read the archive as a restore would; of a sample, its table of contents. */
  async #checkArchive(manifest: Manifest, checks: SegmentChecks, findings: Findings): Promise<void> {
    const { segments, programVersion } = manifest.archive;
    const ids = segments.map(({ id }) => id);
    const digest = createHash('sha256').update(ids.join()).digest('hex');
    if (ids.some(id => checks.bad(id)) || this.#readArchives.has(digest)) return;
    const { programs, sample, signal } = this.#options;
    const pgRestore = await findPgRestore(programVersion, programs, this.#environment);
    const env = localEnvironment(this.#environment);
    const reader = new ArchiveReader(ids, checks);
    try {
      if (sample === undefined) await checkArchive(pgRestore.file, reader.read(), env, signal);
      else await listArchive(pgRestore.file, reader.read(), env, signal);
      this.#readArchives.add(digest);
    } catch (error) {
      // A segment that cannot be read is a problem of its own.
      if (reader.isBroken) return;
      findings.add(await checks.judge(error), manifestName(manifest.backup));
    }
  }

  /**
   * Compares what was read with what the manifest says.
   * @param damaged bad segments are added.
   * @returns the rows that were recounted.
   */
  async #compare(
    { manifest, tables }: Named,
    checks: SegmentChecks,
    findings: Findings,
    damaged: Set<string>,
  ): Promise<number> {
    const problemWith = (ref: SegmentRef): VerificationProblem | undefined => {
      const problem = this.#problemOf(ref.id, manifest, checks, findings);
      if (problem === undefined) return sizeProblem(ref, checks, findings);
      damaged.add(ref.id);
      return problem;
    };
    for (const ref of manifest.archive.segments) {
      const problem = problemWith(ref);
      if (problem !== undefined && !problem.message.endsWith(archiveNote)) problem.message += archiveNote;
    }
    let rows = 0;
    for (const { table, count, ranges = [] } of tables) {
      let index = 0;
      for await (const range of ranges) {
        throwIfAborted(this.#options.signal);
        const at = index++;
        const concern = (problem: VerificationProblem | undefined) => {
          if (problem !== undefined) findings.concern(problem, table, count, at);
        };
        for (const slice of slicesOf(range)) concern(problemWith(slice));
        const contents = await checkContents(range, checks, manifestName(manifest.backup));
        if (contents === undefined) continue;
        rows += contents.rows;
        const where = `range ${at} of ${table.schema}.${table.name}`;
        for (const fault of contents.faults)
          concern(findings.add({ code: 'CONTENT_MISMATCH', message: `${where} ${fault}` }));
      }
    }
    return rows;
  }

  /** A server that is missing is better known before all of a backup is read. */
  async #requireServer({ server }: Manifest): Promise<void> {
    const { scratch, programs } = this.#options;
    if (this.#level !== 'restore' || scratch !== undefined) return;
    const major = Math.floor(server.versionNumber / 10000);
    await findServer({ major, programs, environment: this.#environment });
  }

  /** @returns the rows that were compared once restored. */
  async #restore({ manifest, tables }: Named, repository: Repository, findings: Findings): Promise<number> {
    const { repository: place, storage, encryptionKey, scratch, jobs, programs, signal } = this.#options;
    if (!findings.isEmpty) {
      this.#teller.warn(`${manifest.backup} was not restored, as what it holds is damaged`);
      return 0;
    }
    return await verifyByRestore(
      {
        source: { repository: place, storage, encryptionKey },
        repository,
        manifest,
        ranges: tables.map(({ ranges }) => (ranges !== undefined && isInMemory(ranges) ? ranges : [])),
        scratch,
        jobs: jobs ?? defaultJobs,
        programs,
        environment: this.#environment,
        signal,
        emit: event => this.#teller.emit(event),
        warn: (message, hint) => this.#teller.warn(message, hint),
      },
      findings,
    );
  }

  /** The problem that a segment is, if it is one. */
  #problemOf(
    id: string,
    manifest: Manifest,
    checks: SegmentChecks,
    findings: Findings,
  ): VerificationProblem | undefined {
    const bad = checks.bad(id);
    if (bad === undefined) return undefined;
    const name = segmentName(id);
    const isUnknownKey =
      bad.error.code === 'OBJECT_MISSING' &&
      bad.object !== name &&
      !manifest.keys.some(keyId => keyName(keyId) === bad.object);
    if (isUnknownKey) return findings.add(withoutItsKey(name, bad.error), name);
    return findings.add(bad.error, bad.object);
  }

  /** Removes the segments that are damaged when they are read once more. */
  async #repair(damaged: ReadonlySet<string>, checks: SegmentChecks): Promise<string[]> {
    const repaired: string[] = [];
    for (const id of damaged) {
      throwIfAborted(this.#options.signal);
      const name = segmentName(id);
      const before = await this.#storage.stat(name);
      if (before === undefined || !(await checks.isDamaged(id))) continue;
      // A backup under way may just have replaced it by a whole one.
      const after = await this.#storage.stat(name);
      if (after?.sizeBytes !== before.sizeBytes || after.modified.getTime() !== before.modified.getTime())
        continue;
      await this.#storage.remove([name]);
      repaired.push(name);
    }
    return repaired;
  }

  /** Keeps the result beside the metadata; a repository that cannot be written is no failure of a verification. */
  async #remember(result: VerificationResult, metadata: BackupMetadata | undefined): Promise<void> {
    const { backupId, database: _, errors, ...flags } = result;
    try {
      const { record: earlier } = await readVerification(this.#storage, backupId);
      const checksum = metadata?.checksum ?? null;
      const record: VerificationRecord = {
        backupId,
        checksum,
        ...flags,
        lastFull: lastFullOf(result, earlier?.checksum === checksum ? earlier : undefined),
        errorCount: errors.length,
        // Without a word of metadata it is not known whether table names were to be kept private.
        errors: errors.slice(0, rememberedProblems).map(({ code, object, tables }) => ({
          code,
          ...(object !== undefined && { object }),
          ...(tables !== undefined && metadata?.tables !== undefined && { tables }),
        })),
        version,
      };
      await writeVerification(this.#storage, record);
    } catch (error) {
      if (!(error instanceof PgkeepError) || errorTable[error.code].kind !== 'repository') throw error;
      this.#teller.warn(`the result for ${backupId} could not be remembered: ${error.message}`);
    }
  }
}

/** Gives an archive's segments in order, and keeps the last one at hand. */
class ArchiveReader {
  readonly #ids: readonly string[];
  readonly #checks: SegmentChecks;
  /** Whether a segment could not be read. */
  isBroken = false;

  constructor(ids: readonly string[], checks: SegmentChecks) {
    this.#ids = ids;
    this.#checks = checks;
  }

  async *read(): AsyncIterable<Buffer> {
    for (const id of this.#ids) {
      const plain = await this.#checks.read(id);
      if (plain === undefined) {
        this.isBroken = true;
        throw new PgkeepError('OBJECT_DAMAGED', `${segmentName(id)} cannot be read`);
      }
      yield plain;
    }
  }
}

const archiveNote = '; it holds part of the schema archive';

function isInMemory(ranges: Ranges | AsyncIterable<RangeEntry>): ranges is Ranges {
  return 'length' in ranges;
}

/** Bytes of a slice in a table index. */
const sliceBytes = 200;

/** How many segments a manifest names, about. */
function aboutHowMany({ archive, tables }: Manifest): number {
  const slices = tables.map(({ ranges = [], index = [] }) => {
    const inline = sum(ranges, range => slicesOf(range).length);
    return inline + Math.ceil(sum(index, ({ plainBytes }) => plainBytes) / sliceBytes);
  });
  return archive.segments.length + sum(slices, count => count);
}

function sizeProblem(
  ref: SegmentRef,
  checks: SegmentChecks,
  findings: Findings,
): VerificationProblem | undefined {
  const plainBytes = checks.readBytes(ref.id);
  if (plainBytes === undefined || plainBytes === ref.plainBytes) return undefined;
  const name = segmentName(ref.id);
  const message = `${name} holds ${plainBytes} bytes where the manifest says ${ref.plainBytes}`;
  return findings.add({ code: 'CONTENT_MISMATCH', message }, name);
}

/** What stands as the last time that all of it was found valid. */
function lastFullOf(
  result: VerificationResult,
  earlier: VerificationRecord | undefined,
): VerificationRecord['lastFull'] {
  const { valid, level, sample, verifiedAt } = result;
  if (!valid) return null;
  const isWhole = sample === null || sample.segments === sample.ofSegments;
  if (level !== 'metadata' && isWhole) return { level, verifiedAt };
  return earlier?.lastFull ?? null;
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}
