// The schema public, which is there before a restore and after: what a restore sets on it can only be set back.
import type pg from 'pg';
import { queryRows } from './client.ts';
import { quoteLiteral, quoteName } from './identifiers.ts';

export interface PublicSchema {
  owner: string;
  comment: string | null;
  /** As the catalog prints them; `null` when nobody ever changed them. */
  acl: string | null;
  grants: { grantee: string | null; privilege: string; isGrantable: boolean }[];
}

/** @returns `undefined` where there is none. */
export async function readPublicSchema(client: pg.Client): Promise<PublicSchema | undefined> {
  const [row] = await queryRows(
    client,
    `SELECT pg_catalog.pg_get_userbyid(n.nspowner) AS owner, pg_catalog.obj_description(n.oid, 'pg_namespace') AS comment, n.nspacl::text AS acl,
       (SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
          'grantee', CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee) END,
          'privilege', a.privilege_type, 'isGrantable', a.is_grantable)), '[]')
        FROM pg_catalog.aclexplode(coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) a)::text AS grants
     FROM pg_catalog.pg_namespace n WHERE n.nspname = 'public'`,
    'looking at the schema public',
  );
  if (row === undefined) return undefined;
  return {
    owner: row.owner ?? '',
    comment: row.comment ?? null,
    acl: row.acl ?? null,
    grants: JSON.parse(row.grants ?? '[]') as PublicSchema['grants'],
  };
}

/** The statements that make the schema what it was. */
export function publicSchemaResets(before: PublicSchema, now: PublicSchema): string[] {
  const statements: string[] = [];
  if (now.owner !== before.owner) statements.push(`ALTER SCHEMA public OWNER TO ${quoteName(before.owner)}`);
  if (now.comment !== before.comment) {
    const comment = before.comment === null ? 'NULL' : quoteLiteral(before.comment);
    statements.push(`COMMENT ON SCHEMA public IS ${comment}`);
  }
  if (now.acl !== before.acl) {
    const grantees = new Set(now.grants.map(({ grantee }) => roleOf(grantee)));
    if (grantees.size > 0)
      statements.push(`REVOKE ALL ON SCHEMA public FROM ${[...grantees].join(', ')} CASCADE`);
    for (const { grantee, privilege, isGrantable } of before.grants) {
      const option = isGrantable ? ' WITH GRANT OPTION' : '';
      statements.push(`GRANT ${privilege} ON SCHEMA public TO ${roleOf(grantee)}${option}`);
    }
  }
  return statements;
}

function roleOf(grantee: string | null): string {
  return grantee === null ? 'PUBLIC' : quoteName(grantee);
}
