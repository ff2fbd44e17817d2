// Series: backups of one database of one server, whole or by the same choice of a part. They alone stand for each other, and
// what tells them apart can be read without a key. Why: docs/decisions/series.md
import { createHmac } from 'node:crypto';
import type { Manifest } from './manifest.ts';

/** What a backup that is not whole was made with. */
export interface Part {
  /** The same for the same choice, in one repository: 16 hexadecimal digits. */
  id: string;
  /** The options in force; left out with --private-metadata. */
  options?: Partial<Manifest['options']>;
}

/** What says which series a backup belongs to. */
export interface SeriesMember {
  database: string;
  /** The system identifier; `null` where the server does not tell it. Missing from metadata that somebody changed. */
  server?: string | null;
  /** Missing when the backup is of the whole database. */
  part?: Part;
}

/** Lists of patterns, in the order in which an id is made of them. */
const flags = {
  schemas: '--schema',
  excludeSchemas: '--exclude-schema',
  tables: '--table',
  excludeTables: '--exclude-table',
  excludeTableData: '--exclude-table-data',
} as const;
const lists = Object.keys(flags) as (keyof typeof flags)[];

/** The options that leave something out, as far as they are in force; `undefined` when none is. */
export function narrowing(options: Manifest['options']): Part['options'] {
  const used = lists.filter(list => options[list].length > 0);
  if (used.length === 0 && !options.schemaOnly) return undefined;
  const inForce = Object.fromEntries(used.map(list => [list, options[list]]));
  return { ...inForce, ...(options.schemaOnly && { schemaOnly: true }) };
}

/**
 * The part that a backup made with these options holds; `undefined` when they leave nothing out.
 * @param secret the repository's, so that patterns cannot be guessed from the id.
 */
export function partOf(
  options: Manifest['options'],
  { secret, isPrivate }: { secret: Buffer; isPrivate: boolean },
): Part | undefined {
  const narrowed = narrowing(options);
  if (narrowed === undefined) return undefined;
  const choice = [...lists.map(list => [...new Set(options[list])].sort()), options.schemaOnly];
  const id = createHmac('sha256', secret)
    .update(`pgkeep/1/part ${JSON.stringify(choice)}`)
    .digest('hex')
    .slice(0, 16);
  return isPrivate ? { id } : { id, options: narrowed };
}

/** The options of a part as they are given to create; its id where they are private. */
export function partText({ id, options }: Part): string {
  return options === undefined ? id : narrowingText(options);
}

/** The options as they are given to create. */
export function narrowingText(options: NonNullable<Part['options']>): string {
  const patterns = lists.flatMap(list => (options[list] ?? []).map(pattern => `${flags[list]} ${pattern}`));
  return [...patterns, ...(options.schemaOnly ? ['--schema-only'] : [])].join(' ');
}

/** The same for the backups of one series, and for no others. */
export function seriesOf({ database, server, part }: SeriesMember): string {
  return JSON.stringify([database, server ?? null, part?.id ?? null]);
}

/** Whether a backup stands for one that is gone: it is of the same series, or whole and of the same server. */
export function standsFor(backup: SeriesMember, gone: SeriesMember): boolean {
  const { part, ...ofWhole } = gone;
  return [seriesOf(gone), seriesOf(ofWhole)].includes(seriesOf(backup));
}

export interface Latest<B> {
  latest: B;
  /** The newest of each other series that somebody may have meant: newer, of another server, or another part. */
  others: B[];
}

/**
 * The backup that `latest` is: the newest whole one; if there is none, the newest part.
 * @param backups newest first.
 * @param database that of the newest complete backup, when none is named.
 */
export function chooseLatest<B extends SeriesMember & { complete: boolean }>(
  backups: readonly B[],
  database: string | undefined,
): Latest<B> | undefined {
  const complete = backups.filter(backup => backup.complete);
  const name = database ?? complete[0]?.database;
  const own = complete.filter(backup => backup.database === name);
  const latest = own.find(backup => backup.part === undefined) ?? own[0];
  if (latest === undefined) return undefined;
  const newest = [...Map.groupBy(own, seriesOf).values()].flatMap(([first]) => first ?? []);
  const isMeant = (other: B) =>
    own.indexOf(other) < own.indexOf(latest) ||
    (other.server ?? null) !== (latest.server ?? null) ||
    latest.part !== undefined;
  return { latest, others: newest.filter(other => other !== latest && isMeant(other)) };
}
