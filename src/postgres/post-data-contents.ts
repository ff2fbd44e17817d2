// What of an archive's post-data section a database has already: for going on with a restore that died in it. Each
// entry is one statement to the server and so there or not; entries whose owner is set by a second statement, and
// those that cost little, are dropped and made again.
import type pg from 'pg';
import type { ArchiveEntry } from './archive-contents.ts';
import { queryRows } from './client.ts';
import { dropSubscriptions } from './subscriptions.ts';

/** Found again by name, and left. */
const lasting = new Set(['INDEX', 'CONSTRAINT', 'FK CONSTRAINT', 'CHECK CONSTRAINT']);
/** Dropped by {@link dropRepeated}; the members of publications go with these. */
const dropped = new Set([
  'TRIGGER',
  'RULE',
  'POLICY',
  'STATISTICS',
  'EVENT TRIGGER',
  'PUBLICATION',
  'PUBLICATION TABLE',
  'PUBLICATION TABLES IN SCHEMA',
  'SUBSCRIPTION',
]);
/** Mean the same when they are done again. */
const repeatable = new Set([
  'ACL',
  'DEFAULT ACL',
  'COMMENT',
  'SECURITY LABEL',
  'ROW SECURITY',
  'INDEX ATTACH',
  'MATERIALIZED VIEW DATA',
  'STATISTICS DATA',
]);

/**
 * Whether a restore that died in this section can be gone on with: not when it has definitions that pg_dump had to put
 * off (a materialized view that needs a primary key), nor when two entries cannot be told apart by their names.
 */
export function canRepeat(postData: readonly ArchiveEntry[]): boolean {
  const texts = postData.filter(entry => lasting.has(entry.kind)).map(entry => oneLine(entry.text));
  return (
    postData.every(({ kind }) => lasting.has(kind) || dropped.has(kind) || repeatable.has(kind)) &&
    new Set(texts).size === texts.length
  );
}

/**
 * Drops what is better made again. Nothing of the kind was there before this section, but with extensions.
 * @throws PgkeepError as translateDatabaseError says.
 */
export async function dropRepeated(client: pg.Client): Promise<void> {
  const doing = 'dropping what is made again';
  const own = (catalog: string, oid: string) =>
    `NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.${catalog}'::regclass AND d.objid = ${oid} AND d.deptype = 'e')`;
  const onOwnTable = (oid: string) => own('pg_class', oid);
  // Event triggers first: they would see the others go.
  const queries = [
    `SELECT format('DROP EVENT TRIGGER %I', evtname) AS sql FROM pg_catalog.pg_event_trigger t WHERE ${own('pg_event_trigger', 't.oid')}`,
    `SELECT format('DROP PUBLICATION %I', pubname) AS sql FROM pg_catalog.pg_publication p WHERE ${own('pg_publication', 'p.oid')}`,
    `SELECT format('DROP POLICY %I ON %s', polname, polrelid::regclass) AS sql FROM pg_catalog.pg_policy p WHERE ${own('pg_policy', 'p.oid')}`,
    `SELECT format('DROP RULE %I ON %s', rulename, ev_class::regclass) AS sql FROM pg_catalog.pg_rewrite r
     WHERE rulename <> '_RETURN' AND r.oid >= 16384 AND ${own('pg_rewrite', 'r.oid')} AND ${onOwnTable('r.ev_class')}`,
    `SELECT format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass) AS sql FROM pg_catalog.pg_trigger t
     WHERE NOT tgisinternal AND tgparentid = 0 AND ${own('pg_trigger', 't.oid')} AND ${onOwnTable('t.tgrelid')}`,
    `SELECT format('DROP STATISTICS %I.%I', n.nspname, stxname) AS sql FROM pg_catalog.pg_statistic_ext s JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace
     WHERE ${own('pg_statistic_ext', 's.oid')} AND ${onOwnTable('s.stxrelid')}`,
  ];
  for (const query of queries) {
    for (const { sql } of await queryRows(client, query, doing)) await queryRows(client, sql ?? '', doing);
  }
  await dropSubscriptions(client);
}

/**
 * The entries that are still to be restored.
 * @param roles by which an entry's text may end: its owner.
 */
export async function missingEntries(
  client: pg.Client,
  entries: readonly ArchiveEntry[],
  roles: ReadonlySet<string>,
): Promise<ArchiveEntry[]> {
  const rows = await queryRows(
    client,
    `SELECT 'INDEX ' || n.nspname || ' ' || c.relname AS label
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('i', 'I')
     UNION ALL
     SELECT CASE k.contype WHEN 'f' THEN 'FK CONSTRAINT ' WHEN 'c' THEN 'CHECK CONSTRAINT ' ELSE 'CONSTRAINT ' END
       || n.nspname || ' ' || c.relname || ' ' || k.conname
     FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE k.contype IN ('p', 'u', 'x') OR (k.conislocal AND k.conparentid = 0)
     UNION ALL
     SELECT 'CHECK CONSTRAINT ' || n.nspname || ' ' || t.typname || ' ' || k.conname
     FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_type t ON t.oid = k.contypid JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace`,
    'reading which indexes and constraints are there',
  );
  const there = new Set(rows.map(row => oneLine(row.label ?? '')));
  return entries.filter(({ kind, text }) => {
    if (!lasting.has(kind)) return true;
    // The owner comes last; names may hold spaces.
    const words = oneLine(text);
    for (let at = words.lastIndexOf(' '); at > 0; at = words.lastIndexOf(' ', at - 1)) {
      if (roles.has(words.slice(at + 1)) && there.has(words.slice(0, at))) return false;
    }
    return true;
  });
}

/** As pg_restore lists names that hold line ends. */
function oneLine(text: string): string {
  return text.replace(/[\r\n]/g, ' ');
}
