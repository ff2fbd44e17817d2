// Damage that can happen to each kind of object in a repository, how to do it, and the codes it is reported with. The tests
// do each of them; docs/damage.md is written from this table.

import { existsSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ErrorCode } from '../../src/base/errors.ts';
import { SecondReader } from '../unit/repository/second-reader.ts';

/**
 * A repository of two backups of a database that has a table with a table index, in which rows were changed in between; its
 * newest backup is damaged.
 */
export interface RepositoryToDamage {
  folder: string;
  key: string;
  /** Another repository made with the same user key, of the same contents. */
  foreign: string;
}

/** `nothing`: the command does not read it, or reads it without a key and cannot tell. */
export type Outcome = ErrorCode | 'nothing' | 'a warning';

export interface Damage {
  object: string;
  what: string;
  do(repository: RepositoryToDamage): void;
  /** `nothing`: it does without. */
  restore: ErrorCode | 'nothing';
  verify: ErrorCode;
  show: Outcome;
  list: Outcome;
}

interface Kind {
  object: string;
  /** Its names, those of another repository too. */
  names(repository: Pick<RepositoryToDamage, 'folder' | 'key'>): string[];
  /** Where a bit is flipped: a byte that means something. */
  flipAt(bytes: Buffer): number;
  missing: [verify: ErrorCode, show: Outcome, list: Outcome];
  foreign: [verify: ErrorCode, show: Outcome, list: Outcome];
  /** Which commands read it: they report that it is cut, empty or too large. */
  isShown: boolean;
  listed: Outcome;
  /** What a restore says, if it is not what verify says. */
  restore?: 'nothing';
}

const middle = (bytes: Buffer) => bytes.length >> 1;
/** A digit or letter of a field, so that the text stays what it was but for its meaning. */
const inField = (field: string) => (bytes: Buffer) => bytes.indexOf(`"${field}": `) + field.length + 5;

const segment: Omit<Kind, 'object' | 'names'> = {
  flipAt: middle,
  missing: ['OBJECT_MISSING', 'nothing', 'nothing'],
  foreign: ['REPOSITORY_MISMATCH', 'nothing', 'nothing'],
  isShown: false,
  listed: 'nothing',
};

const kinds: Kind[] = [
  {
    object: 'descriptor',
    names: () => ['pgkeep.json'],
    flipAt: inField('wrapped'),
    missing: ['REPOSITORY_NOT_FOUND', 'REPOSITORY_NOT_FOUND', 'REPOSITORY_NOT_FOUND'],
    foreign: ['OBJECT_DAMAGED', 'OBJECT_DAMAGED', 'nothing'],
    isShown: true,
    listed: 'OBJECT_DAMAGED',
  },
  {
    object: 'data key',
    names: repository => {
      const manifest = readFileSync(join(repository.folder, `backups/${newest(repository).backup}.backup`));
      return [`keys/${manifest.toString('hex', 9, 25)}.json`];
    },
    flipAt: inField('wrapped'),
    missing: ['OBJECT_MISSING', 'OBJECT_MISSING', 'nothing'],
    foreign: ['OBJECT_DAMAGED', 'OBJECT_DAMAGED', 'nothing'],
    isShown: true,
    listed: 'nothing',
  },
  {
    object: 'metadata',
    names: repository => [`metadata/${newest(repository).backup}.json`],
    flipAt: inField('checksum'),
    missing: ['BACKUP_NOT_FOUND', 'BACKUP_NOT_FOUND', 'nothing'],
    foreign: ['OBJECT_DAMAGED', 'OBJECT_DAMAGED', 'a warning'],
    isShown: true,
    listed: 'a warning',
  },
  {
    object: 'manifest',
    names: repository => [`backups/${newest(repository).backup}.backup`],
    flipAt: middle,
    missing: ['OBJECT_MISSING', 'OBJECT_MISSING', 'nothing'],
    foreign: ['REPOSITORY_MISMATCH', 'REPOSITORY_MISMATCH', 'nothing'],
    isShown: true,
    listed: 'nothing',
  },
  { ...segment, object: 'segment of rows', names: repository => segmentsOf(repository, 'rows') },
  {
    ...segment,
    object: 'segment of lines that are gone',
    names: repository => segmentsOf(repository, 'gone'),
  },
  {
    ...segment,
    object: 'segment of ctids',
    names: repository => segmentsOf(repository, 'ctids'),
    restore: 'nothing',
  },
  { ...segment, object: 'segment of the archive', names: repository => segmentsOf(repository, 'archive') },
  { ...segment, object: 'segment of a table index', names: repository => segmentsOf(repository, 'index') },
];

const maxObjectBytes = 16 * 1024 * 1024;

export const damages: Damage[] = [
  ...kinds.flatMap(damagesOf),
  {
    object: 'segment of rows',
    what: 'in the place of another one',
    do: repository => swap(repository, segmentsOf(repository, 'rows')),
    restore: 'OBJECT_DAMAGED',
    verify: 'OBJECT_DAMAGED',
    show: 'nothing',
    list: 'nothing',
  },
  {
    object: 'manifest',
    what: 'replaced by that of an older backup',
    do: repository => {
      const [newer, older] = new SecondReader(repository.folder, repository.key).backups();
      put(
        repository,
        `backups/${newer}.backup`,
        readFileSync(join(repository.folder, `backups/${older}.backup`)),
      );
    },
    restore: 'OBJECT_DAMAGED',
    verify: 'OBJECT_DAMAGED',
    show: 'OBJECT_DAMAGED',
    list: 'nothing',
  },
  {
    object: 'metadata',
    what: 'replaced by that of an older backup',
    do: repository => {
      const [newer, older] = new SecondReader(repository.folder, repository.key).backups();
      put(
        repository,
        `metadata/${newer}.json`,
        readFileSync(join(repository.folder, `metadata/${older}.json`)),
      );
    },
    restore: 'OBJECT_DAMAGED',
    verify: 'OBJECT_DAMAGED',
    show: 'OBJECT_DAMAGED',
    list: 'a warning',
  },
  ...[
    { field: 'recordCount', value: 7 },
    { field: 'database', value: 'elsewhere' },
    { field: 'timestamp', value: '2031-01-01T00:00:00.000Z' },
    { field: 'tags', value: ['keep'] },
    { field: 'complete', value: false },
    { field: 'part', value: { id: '0123456789abcdef' } },
    { field: 'server', value: '7056012489521631232' },
    { field: 'encrypted', value: false },
    { field: 'compressed', value: false },
  ].map(
    ({ field, value }): Damage => ({
      object: 'metadata',
      what: `another \`${field}\` written by hand`,
      do: repository => edit(repository, { [field]: value }),
      restore: 'OBJECT_DAMAGED',
      verify: 'OBJECT_DAMAGED',
      show: 'OBJECT_DAMAGED',
      list: 'nothing',
    }),
  ),
  {
    object: 'metadata',
    what: 'no number where one should be, by hand',
    do: repository => edit(repository, { recordCount: 'many' }),
    restore: 'OBJECT_DAMAGED',
    verify: 'OBJECT_DAMAGED',
    show: 'OBJECT_DAMAGED',
    list: 'a warning',
  },
];

function damagesOf(kind: Kind): Damage[] {
  const { object, names, isShown, listed } = kind;
  const outcome = ([verify, show, list]: Kind['missing']) => ({
    restore: kind.restore ?? verify,
    verify,
    show,
    list,
  });
  const found: Pick<Damage, 'restore' | 'verify' | 'show' | 'list'> = {
    restore: kind.restore ?? 'OBJECT_DAMAGED',
    verify: 'OBJECT_DAMAGED',
    show: isShown ? 'OBJECT_DAMAGED' : 'nothing',
    list: listed,
  };
  const change = (what: string, to: (bytes: Buffer) => Buffer, outcome = found): Damage => ({
    object,
    what,
    do: repository => {
      const name = first(names(repository));
      put(repository, name, to(readFileSync(join(repository.folder, name))));
    },
    ...outcome,
  });
  return [
    change(
      'a flipped bit',
      bytes => {
        const at = kind.flipAt(bytes);
        bytes[at] = (bytes[at] ?? 0) ^ 1;
        return bytes;
      },
      // Without the key, only what has lost its form is seen.
      { ...found, list: 'nothing' },
    ),
    change('cut short', bytes => bytes.subarray(0, bytes.length - 20)),
    change('emptied', () => Buffer.alloc(0)),
    change('grown beyond 16 MiB', bytes => Buffer.concat([bytes, Buffer.alloc(maxObjectBytes, ' ')])),
    {
      object,
      what: 'missing',
      do: repository => rmSync(join(repository.folder, first(names(repository)))),
      ...outcome(kind.missing),
    },
    {
      object,
      what: 'replaced by one of another repository',
      do: repository => {
        const theirs = first(names({ folder: repository.foreign, key: repository.key }));
        put(repository, first(names(repository)), readFileSync(join(repository.foreign, theirs)));
      },
      ...outcome(kind.foreign),
    },
  ];
}

function newest({ folder, key }: Pick<RepositoryToDamage, 'folder' | 'key'>) {
  const reader = new SecondReader(folder, key);
  const backup = first(reader.backups());
  return { reader, backup, manifest: reader.manifest(backup) };
}

function segmentsOf(
  repository: Pick<RepositoryToDamage, 'folder' | 'key'>,
  part: 'rows' | 'gone' | 'ctids' | 'archive' | 'index',
): string[] {
  const { reader, manifest } = newest(repository);
  const ranges = manifest.tables.flatMap(table => reader.ranges(table, manifest));
  const read = new Set(ranges.flatMap(({ slices, gone = [] }) => [...slices, ...gone]).map(({ id }) => id));
  const references = {
    rows: () => ranges.flatMap(({ slices }) => slices),
    gone: () => ranges.flatMap(({ gone = [] }) => gone),
    // Without those that hold rows as well.
    ctids: () => ranges.flatMap(({ ctids = [] }) => ctids).filter(({ id }) => !read.has(id)),
    archive: () => manifest.archive.segments,
    index: () => manifest.tables.flatMap(table => table.index ?? []),
  }[part]();
  return [...new Set(references.map(({ id }) => `segments/${id.slice(0, 2)}/${id}`))];
}

function swap({ folder }: RepositoryToDamage, names: readonly string[]): void {
  const [a, b] = names.map(name => join(folder, name));
  if (a === undefined || b === undefined) throw new Error('there are not two of them');
  renameSync(a, `${a}.x`);
  renameSync(b, a);
  renameSync(`${a}.x`, b);
}

function edit(repository: RepositoryToDamage, change: object): void {
  const name = `metadata/${newest(repository).backup}.json`;
  const metadata = JSON.parse(readFileSync(join(repository.folder, name), 'utf8'));
  put(repository, name, Buffer.from(JSON.stringify({ ...metadata, ...change }, null, 2)));
}

function put({ folder }: RepositoryToDamage, name: string, bytes: Buffer): void {
  const file = join(folder, name);
  if (!existsSync(file)) throw new Error(`there is no ${name}`);
  truncateSync(file);
  writeFileSync(file, bytes);
}

function first(names: readonly string[]): string {
  const [name] = names;
  if (name === undefined) throw new Error('there is none');
  return name;
}
