// Whether the storage keeps its contract (src/storage/storage.ts), promise by promise.
import { randomBytes } from 'node:crypto';
import { PgkeepError } from '../../base/errors.ts';
import { forEachAtOnce } from '../../base/for-each-at-once.ts';
import { formatCount } from '../../base/units.ts';
import { maxObjectBytes, type StorageFacts } from '../../storage/storage.ts';
import type { Checklist } from '../checklist.ts';
import { requireSame } from './rights.ts';
import type { Scratch } from './scratch.ts';
import { type Stopwatch, timed } from './speed.ts';

const useAnother = 'keep the repository in another store: this one does not do what backups rely on';
const putsAtOnce = 16;
const rounds = 10;
const oddNames = ['A-Z_a.z/0..9/x', '_', '-', `${'0123456789abcdef'.repeat(4)}`];
/** More than a page of most listings has. */
const manyObjects = 1_100;

/** Stores small objects one after the other, each read and listed at once; what that takes is measured. */
export async function checkConsistency(list: Checklist, scratch: Scratch, watch: Stopwatch): Promise<void> {
  let unread = 0;
  let unlisted = 0;
  const stored: string[] = [];
  for (let round = 0; round < rounds; round++) {
    const part = `small/${round}`;
    const bytes = randomBytes(1024);
    await timed(watch.putMs, () => scratch.put(part, bytes));
    stored.push(part);
    const read = await timed(watch.getMs, () => scratch.get(part).catch(undefinedIfMissing));
    const told = await timed(watch.statMs, () => scratch.stat(part));
    if (read === undefined || told?.sizeBytes !== bytes.length) unread++;
    else requireSame(part, bytes, read);
    const listed = await timed(watch.listMs, () => scratch.list('small/'));
    if (!stored.every(one => listed.has(one))) unlisted++;
  }
  if (unread === 0) list.ok('read-after-put', 'an object can be read as soon as it was stored');
  else
    list.fail(
      'read-after-put',
      `${unread} of ${rounds} objects could not be read right after they were stored: a backup would miss its own`,
      useAnother,
    );
  if (unlisted === 0) list.ok('list-after-put', 'a listing shows what was stored before it began');
  else
    list.fail(
      'list-after-put',
      `${unlisted} of ${rounds} listings lacked what was stored before: a cleanup could delete what a new backup needs`,
      useAnother,
    );
}

export async function checkOverwriting(list: Checklist, scratch: Scratch): Promise<void> {
  for (const sizeBytes of [3_000, 10, 2_000]) {
    const bytes = randomBytes(sizeBytes);
    await scratch.put('overwritten', bytes);
    const read = await scratch.get('overwritten');
    const told = await scratch.stat('overwritten');
    if (!bytes.equals(read) || told?.sizeBytes !== sizeBytes) {
      const message =
        'an object that was overwritten is still read as it was: a damaged segment could not be mended';
      list.fail('overwrite', message, useAnother);
      return;
    }
  }
  list.ok('overwrite', 'an object that is stored again is read as the new one at once');
}

/** No bytes, and as many as an object can have. @param large so many random bytes. */
export async function checkSizes(
  list: Checklist,
  scratch: Scratch,
  large: Buffer,
  watch: Stopwatch,
): Promise<void> {
  await scratch.put('empty', Buffer.alloc(0));
  requireSame('empty', Buffer.alloc(0), await scratch.get('empty'));
  const told = await scratch.stat('empty');
  if (told?.sizeBytes !== 0) throw new PgkeepError('STORAGE_UNFIT', 'an object of no bytes is not kept');
  list.ok('empty-object', 'an object of no bytes is kept');
  await timed(watch.largePutMs, () => scratch.put('large/0', large));
  const read = await timed(watch.largeGetMs, () => scratch.get('large/0', {}, large.length));
  requireSame('large/0', large, read);
  list.ok('largest-object', 'an object of 16 MiB, the largest there is, is kept whole');
}

export async function checkPartialReading(list: Checklist, scratch: Scratch, large: Buffer): Promise<void> {
  const firstBytes = 1_000;
  const read = await scratch.get('large/0', { firstBytes }, maxObjectBytes);
  if (read.length < firstBytes || !large.subarray(0, read.length).equals(read))
    throw new PgkeepError(
      'STORAGE_UNFIT',
      'the first bytes of an object were read as others than were stored',
    );
  if (read.length < large.length) list.ok('partial-get', 'the beginning of an object can be read alone');
  else
    list.warn(
      'partial-get',
      'objects are read whole where their beginning would do: create and cleanup read more than they need',
      'nothing, where reading costs neither time nor money; otherwise use a store that answers Range requests',
    );
}

export async function checkNames(list: Checklist, scratch: Scratch): Promise<void> {
  for (const name of oddNames) await scratch.put(`names/${name}`, Buffer.from(name));
  const listed = await scratch.list('names/');
  for (const name of oddNames) {
    requireSame(name, Buffer.from(name), await scratch.get(`names/${name}`));
    if (!listed.has(`names/${name}`))
      throw new PgkeepError(
        'STORAGE_UNFIT',
        `an object named ${JSON.stringify(name)} is not listed by that name`,
      );
  }
  list.ok('names', 'every kind of name that objects have is kept');
}

const oneMachine =
  'make the first backup of a new repository from one machine, and wait for its end; do not run cleanup or replicate into it twice at once';
const lookFirst =
  'pgkeep looks first and then stores, which leaves a moment in which two machines can make the same repository';

/** One put after the other, and many at once, of which only the first may store something. */
export async function checkConditions(
  list: Checklist,
  scratch: Scratch,
  { conditionalPut }: StorageFacts,
): Promise<void> {
  const outcomes = [];
  for (const text of ['first', 'second'])
    outcomes.push(await scratch.put('new', Buffer.from(text), { ifAbsent: true }));
  const isKept = outcomes.join() === 'stored,exists' && String(await scratch.get('new')) === 'first';
  if (!isKept)
    list.fail('conditional-put', 'an object that must be new replaced one that was there', useAnother);
  else if (conditionalPut === 'refused')
    list.warn('conditional-put', `the store does not know puts on condition (501): ${lookFirst}`, oneMachine);
  else if (conditionalPut === 'ignored')
    list.warn(
      'conditional-put',
      `the store takes puts on condition and ignores the condition: ${lookFirst}`,
      oneMachine,
    );
  else list.ok('conditional-put', 'an object that must be new never replaces one that is there');
  await checkRace(list, scratch);
}

async function checkRace(list: Checklist, scratch: Scratch): Promise<void> {
  const name = 'conditional-put-at-once';
  const outcomes = await Promise.all(
    Array.from({ length: putsAtOnce }, (_, n) =>
      scratch.put('race', Buffer.alloc(512, n), { ifAbsent: true }),
    ),
  );
  const winners = [...outcomes.keys()].filter(n => outcomes[n] === 'stored');
  const [kept = -1] = await scratch.get('race');
  const message = `of ${putsAtOnce} puts at once that must be the first, ${winners.length} stored something`;
  if (!winners.includes(kept)) list.fail(name, `${message}, and not what is there now`, useAnother);
  else if (winners.length === 1) list.ok(name, message);
  else list.warn(name, `${message}: two machines could make the same repository`, oneMachine);
}

/** More objects than a page of a listing has. */
export async function checkPages(list: Checklist, scratch: Scratch): Promise<void> {
  const parts = Array.from({ length: manyObjects }, (_, n) => `many/${n}`);
  await forEachAtOnce(parts, async part => {
    await scratch.put(part, Buffer.from(part));
  });
  const listed = await scratch.list('many/');
  const missing = parts.filter(part => !listed.has(part)).length;
  const all = formatCount(manyObjects);
  if (missing === 0) list.ok('pages', `a listing of ${all} objects is complete`);
  else
    list.fail(
      'pages',
      `a listing of ${all} objects lacks ${formatCount(missing)}: a cleanup could delete what backups need`,
      useAnother,
    );
}

function undefinedIfMissing(error: unknown): undefined {
  if (error instanceof PgkeepError && error.code === 'OBJECT_MISSING') return undefined;
  throw error;
}
