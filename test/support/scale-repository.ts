// A repository as a huge database has it, made without one. Descriptor, key, manifest, metadata and table indexes are made and
// sealed by the product's own code. Segments of rows are there by name, size and header alone: hard links to some sparse
// files, so that millions of them take a minute to make and next to no space.

import { createHash } from 'node:crypto';
import {
  closeSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  statSync,
  utimesSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { type DataKey, seal, sealedHeadBytes } from '../../src/crypto/seal.ts';
import { storeRanges } from '../../src/operations/table-index.ts';
import { manifestName, segmentName } from '../../src/repository/layout.ts';
import type { RangeEntry, Ranges, Slice, TableEntry } from '../../src/repository/manifest.ts';
import { Repository } from '../../src/repository/repository.ts';
import { SegmentStore } from '../../src/repository/segment-store.ts';
import { LocalStorage } from '../../src/storage/local/local-storage.ts';
import { sampleManifest, sampleMetadata } from '../unit/repository/sample-backup.ts';

export interface ScaleOptions {
  folder: string;
  key: string;
  /** Of rows: one of each range, as create stores them. */
  segments: number;
  tables: number;
  /** Segments that nothing names. */
  garbage: number;
  onProgress?: (segments: number) => void;
}

export interface ScaleRepository {
  backup: string;
  /** All that the manifest and the table indexes name. */
  named: number;
  indexSegments: number;
  indexPlainBytes: number;
  indexStoredBytes: number;
  manifestBytes: number;
}

/** Ranges whose ctids share a segment: as many as wait for each other in create. */
const rangesOfSmall = 512;
const smallPlainBytes = 100 * rangesOfSmall;
const smallStoredBytes = 40_000;
/** Stored sizes of segments of rows: as many files are linked to. */
const sizes = Array.from({ length: 64 }, (_, index) => 1_200_000 + 3_137 * index);
/** File systems have their limits; that of ext4 is 65,000. */
const maxLinks = 60_000;
/** What is there is older than any grace. */
const ageSeconds = 5 * 86_400;

export async function makeScaleRepository(options: ScaleOptions): Promise<ScaleRepository> {
  const { folder, segments, tables: tableCount, garbage, onProgress } = options;
  const storage = new LocalStorage(folder);
  const repository = await Repository.create(storage, options.key);
  const key = await repository.newDataKey();
  if (key === null) throw new Error('the repository is encrypted');
  const store = new SegmentStore(repository, key, 2);
  const archive = await store.store(Buffer.from('no archive, and nobody reads it'));
  const files = new LinkedFiles(folder, key);
  const tables: TableEntry[] = [];
  let made = 0;
  for (let table = 0; table < tableCount; table++) {
    const ranges = new MadeUpRanges(table, Math.ceil((segments - made) / (tableCount - table)));
    const total = { rows: 0, bytes: 0 };
    for (const { rows, bytes, slices, ctids = [] } of ranges) {
      total.rows += rows;
      total.bytes += bytes;
      for (const { id, storedBytes } of slices) files.link(id, storedBytes);
      for (const { id, storedBytes, offset } of ctids) if (offset === 0) files.link(id, storedBytes);
      if (++made % 100_000 === 0) onProgress?.(made);
    }
    tables.push({
      oid: String(16_384 + table),
      schema: 'public',
      name: `table_${table}`,
      parents: [],
      columns: ['id', 'payload'],
      ...total,
      rangePages: 1024,
      ...(await storeRanges(store, ranges)),
    });
  }
  for (let index = 0; index < garbage; index++) files.link(idOf('garbage', index), sizes[0] ?? 0);
  const manifest = sampleManifest(repository, {
    change: {
      keys: store.keys,
      archive: { programVersion: '15.0', bytes: archive.plainBytes, segments: [archive] },
      tables,
    },
  });
  const object = await repository.writeManifest(manifest, key);
  await repository.writeMetadata(sampleMetadata(manifest, { ...object, encrypted: true }));
  const index = tables.flatMap(table => table.index ?? []);
  return {
    backup: manifest.backup,
    named: files.linked - garbage + index.length + 1,
    indexSegments: index.length,
    indexPlainBytes: index.reduce((sum, ref) => sum + ref.plainBytes, 0),
    indexStoredBytes: index.reduce((sum, ref) => sum + ref.storedBytes, 0),
    manifestBytes: statSync(join(folder, manifestName(manifest.backup))).size,
  };
}

/** Those of a table in which every range is a segment and has its ctids in one that it shares: made when asked for. */
export class MadeUpRanges implements Ranges {
  readonly length: number;
  readonly #table: number;

  constructor(table: number, length: number) {
    this.length = length;
    this.#table = table;
  }

  at(index: number): RangeEntry | undefined {
    if (index >= this.length) return undefined;
    const id = idOf(`table ${this.#table}`, index);
    const chance = Number.parseInt(id.slice(0, 8), 16);
    const bytes = 4_100_000 + (chance % 200_000);
    const text: Slice = {
      id,
      key: 0,
      plainBytes: bytes,
      storedBytes: sizes[chance % sizes.length] ?? 0,
      offset: 0,
      bytes,
    };
    const ctids: Slice = {
      id: idOf(`small ${this.#table}`, Math.floor(index / rangesOfSmall)),
      key: 0,
      plainBytes: smallPlainBytes,
      storedBytes: smallStoredBytes,
      offset: (index % rangesOfSmall) * 100,
      bytes: 100,
    };
    return { rows: 20_000 + (chance % 5_000), bytes, slices: [text], ctids: [ctids] };
  }

  *[Symbol.iterator](): Generator<RangeEntry, void> {
    for (let index = 0; index < this.length; index++) {
      const range = this.at(index);
      if (range !== undefined) yield range;
    }
  }
}

function idOf(what: string, index: number): string {
  return createHash('sha256').update(`${what} ${index}`).digest('hex');
}

/** Files of given sizes that begin like segments, each linked to by many names. */
class LinkedFiles {
  linked = 0;
  readonly #folder: string;
  readonly #head: Buffer;
  readonly #files = new Map<number, { path: string; links: number }>();
  readonly #folders = new Set<string>();
  #count = 0;

  constructor(folder: string, key: DataKey) {
    this.#folder = folder;
    this.#head = seal(segmentName('0'.repeat(64)), 'segment', key, [Buffer.alloc(0)]).subarray(
      0,
      sealedHeadBytes,
    );
    // The dot keeps them out of listings.
    mkdirSync(join(folder, '.linked'));
  }

  link(id: string, sizeBytes: number): void {
    let file = this.#files.get(sizeBytes);
    if (file === undefined || file.links === maxLinks) {
      file = { path: this.#make(sizeBytes), links: 0 };
      this.#files.set(sizeBytes, file);
    }
    const name = segmentName(id);
    const parent = name.slice(0, name.lastIndexOf('/'));
    if (!this.#folders.has(parent)) {
      mkdirSync(join(this.#folder, parent), { recursive: true });
      this.#folders.add(parent);
    }
    linkSync(file.path, join(this.#folder, name));
    file.links++;
    this.linked++;
  }

  #make(sizeBytes: number): string {
    const path = join(this.#folder, '.linked', String(this.#count++));
    const handle = openSync(path, 'wx');
    writeSync(handle, this.#head);
    ftruncateSync(handle, sizeBytes);
    closeSync(handle);
    const then = Date.now() / 1000 - ageSeconds;
    utimesSync(path, then, then);
    return path;
  }
}
