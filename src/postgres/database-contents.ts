// What a database holds of its own, for refusing to restore over something and for taking back a restore that failed.
import type pg from 'pg';
import { queryRows } from './client.ts';
import { quoteLiteral } from './identifiers.ts';
import { dropSubscriptions } from './subscriptions.ts';

export interface DatabaseObject {
  /** In the words of pg_identify_object, such as `table` or `operator family`. */
  type: string;
  /** As SQL. */
  identity: string;
}

const schemaCatalogs: [catalog: string, namespace: string, condition: string][] = [
  ['pg_class', 'relnamespace', "o.relkind IN ('r','p','v','m','f','S')"],
  ['pg_proc', 'pronamespace', 'true'],
  ['pg_type', 'typnamespace', 'true'],
  ['pg_operator', 'oprnamespace', 'true'],
  ['pg_opfamily', 'opfnamespace', 'true'],
  ['pg_collation', 'collnamespace', 'true'],
  ['pg_conversion', 'connamespace', 'true'],
  ['pg_ts_config', 'cfgnamespace', 'true'],
  ['pg_ts_dict', 'dictnamespace', 'true'],
  ['pg_ts_parser', 'prsnamespace', 'true'],
  ['pg_ts_template', 'tmplnamespace', 'true'],
  ['pg_statistic_ext', 'stxnamespace', 'true'],
];

const firstUserOid = 16384;
const otherCatalogs: [catalog: string, condition: string][] = [
  ['pg_event_trigger', 'true'],
  ['pg_publication', 'true'],
  [
    'pg_subscription',
    'o.subdbid = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())',
  ],
  ['pg_foreign_server', 'true'],
  ['pg_foreign_data_wrapper', 'true'],
  ['pg_largeobject_metadata', 'true'],
  ['pg_cast', `o.oid >= ${firstUserOid}`],
  ['pg_transform', `o.oid >= ${firstUserOid}`],
  ['pg_language', `o.oid >= ${firstUserOid}`],
  ['pg_am', `o.oid >= ${firstUserOid}`],
  ['pg_namespace', "o.nspname !~ '^pg_' AND o.nspname NOT IN ('information_schema', 'public')"],
  ['pg_default_acl', 'true'],
  ['pg_extension', "o.extname <> 'plpgsql'"],
];

/**
 * Everything that is not the system's own and does not come with something else (a row type with its table, a member
 * with its extension). Extensions are in the list; a database with nothing but extensions counts as empty.
 */
export async function listObjects(client: pg.Client): Promise<DatabaseObject[]> {
  const parts = [
    ...schemaCatalogs.map(
      ([
        catalog,
        namespace,
        condition,
      ]) => `SELECT '${catalog}'::regclass AS classid, o.oid FROM pg_catalog.${catalog} o
         JOIN pg_catalog.pg_namespace n ON n.oid = o.${namespace}
         WHERE ${condition} AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`,
    ),
    ...otherCatalogs.map(
      ([catalog, condition]) =>
        `SELECT '${classOf(catalog)}'::regclass, o.oid FROM pg_catalog.${catalog} o WHERE ${condition}`,
    ),
  ];
  const rows = await queryRows(
    client,
    `SELECT i.type, i.identity FROM (${parts.join(' UNION ALL ')}) own,
       LATERAL pg_catalog.pg_identify_object(own.classid, own.oid, 0) i
     WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d
                       WHERE d.classid = own.classid AND d.objid = own.oid AND d.objsubid = 0 AND d.deptype IN ('i', 'e'))
     ORDER BY 1, 2`,
    'looking at what the database holds',
  );
  return rows.map(row => ({ type: row.type ?? '', identity: row.identity ?? '' }));
}

/** Where addresses of objects have the catalog's name: large objects go by that of their data. */
function classOf(catalog: string): string {
  return catalog === 'pg_largeobject_metadata' ? 'pg_largeobject' : catalog;
}

/** "3 tables (public.a, public.b, public.c), 1 function (public.f(integer))": for a message. */
export function describeObjects(objects: readonly DatabaseObject[]): string {
  const named = 3;
  const groups = [...Map.groupBy(objects, object => object.type)];
  return groups
    .map(([type, members]) => {
      const names = members.slice(0, named).map(member => member.identity);
      const more = members.length > named ? ', ...' : '';
      return `${members.length} × ${type} (${names.join(', ')}${more})`;
    })
    .join(', ');
}

/**
 * Drops everything that is not in `before`.
 * @param isKept what stays although it is not.
 * @returns what could not be dropped.
 */
export async function dropObjectsSince(
  client: pg.Client,
  before: readonly DatabaseObject[],
  isKept: (object: DatabaseObject) => boolean = () => false,
): Promise<DatabaseObject[]> {
  const known = new Set(before.map(keyOf));
  const added = async () =>
    (await listObjects(client)).filter(object => !known.has(keyOf(object)) && !isKept(object));
  // Not to be dropped is reported below.
  await dropSubscriptions(client, name => known.has(`subscription ${name}`)).catch(() => undefined);
  for (const statement of await defaultPrivilegeResets(client))
    await client.query(statement).catch(() => undefined);
  for (const object of await added()) {
    // What depends on something else may be gone, or go with the next; what is left in the end is reported.
    await client.query(dropStatement(object)).catch(() => undefined);
  }
  return added();
}

/** Default privileges cannot be dropped; an entry vanishes when it says what holds without one. */
async function defaultPrivilegeResets(client: pg.Client): Promise<string[]> {
  const rows = await queryRows(
    client,
    `SELECT pg_catalog.quote_ident(r.rolname) AS role, pg_catalog.quote_ident(n.nspname) AS schema, d.defaclobjtype AS kind,
       (SELECT pg_catalog.string_agg(DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(g.rolname) END, ', ')
        FROM pg_catalog.aclexplode(d.defaclacl) a LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantee) AS grantees
     FROM pg_catalog.pg_default_acl d JOIN pg_catalog.pg_roles r ON r.oid = d.defaclrole
     LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace`,
    'reading the default privileges',
  );
  const words: Record<string, string> = {
    r: 'TABLES',
    S: 'SEQUENCES',
    f: 'FUNCTIONS',
    T: 'TYPES',
    n: 'SCHEMAS',
  };
  return rows.flatMap(({ role, schema, kind, grantees }) => {
    const what = words[kind ?? ''];
    if (what === undefined) return [];
    const begin = `ALTER DEFAULT PRIVILEGES FOR ROLE ${role}${schema === null ? '' : ` IN SCHEMA ${schema}`}`;
    const revoke = grantees === null ? [] : [`${begin} REVOKE ALL ON ${what} FROM ${grantees}`];
    if (schema !== null) return revoke;
    const toPublic = kind === 'f' || kind === 'T' ? [`${begin} GRANT ALL ON ${what} TO PUBLIC`] : [];
    return [...revoke, `${begin} GRANT ALL ON ${what} TO ${role}`, ...toPublic];
  });
}

function dropStatement({ type, identity }: DatabaseObject): string {
  if (type === 'large object') return `SELECT pg_catalog.lo_unlink(${quoteLiteral(identity)}::oid)`;
  if (type === 'transform')
    return `DROP TRANSFORM IF EXISTS ${identity.replace(' on language ', ' LANGUAGE ')} CASCADE`;
  const words: Record<string, string> = {
    'statistics object': 'STATISTICS',
    'foreign-data wrapper': 'FOREIGN DATA WRAPPER',
    'composite type': 'TYPE',
  };
  return `DROP ${words[type] ?? type.toUpperCase()} IF EXISTS ${identity} CASCADE`;
}

function keyOf(object: DatabaseObject): string {
  return `${object.type} ${object.identity}`;
}
