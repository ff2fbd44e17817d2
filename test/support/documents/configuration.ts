// docs/configuration.md and docs/backup.config.schema.json, written from the option table.

import {
  allOptions,
  type OptionRow,
  replicaPrefix,
  replicaRows,
  replicaSection,
} from '../../../src/cli/options/table.ts';

export function configurationDocument(): string {
  return `# Configuration

<!-- Written from src/cli/options/table.ts; after a change there: npx vitest run --config test/vitest.config.ts documents -u -->

An option is looked for in this order, and the first place that has it wins:

1. the flag on the command line
2. the environment
3. the file \`.env\` in the working folder
4. the configuration file: \`backup.config.json\` in the working folder, or the one of \`--config\`
5. the default

A variable that is set to nothing counts as not set. Everything wrong with the options is reported at once, each
with the place it came from, before anything is connected to or written. A boolean that the environment or the
file turned on is turned off by its flag with \`no-\` in front (\`--no-private-metadata\`), and the other way round.

## Secrets

The encryption key has neither a flag nor a place in the configuration file: flags show up in the list of processes,
and configuration files are committed. The secrets of storages have neither as well. Set \`BACKUP_ENCRYPTION_KEY\` in the environment or in \`.env\`, or put the key in a
file and name the file. Passwords of databases belong in \`DATABASE_URL\` and \`RESTORE_DATABASE_URL\`, in \`PGPASSWORD\`, or in
\`~/.pgpass\`. A URL given as a flag may hold a password, but brings a warning; in the configuration file it is refused.

## PostgreSQL's own variables

Without a URL the database is the one that libpq's variables name: \`PGHOST\`, \`PGPORT\`, \`PGDATABASE\`, \`PGUSER\`,
\`PGPASSWORD\`, \`PGPASSFILE\`, \`PGSSLMODE\` and so on, from the environment or from \`.env\`.

In a URL the parameters \`sslmode\`, \`sslrootcert\`, \`sslcert\`, \`sslkey\`, \`channel_binding\`, \`connect_timeout\` and \`options\` mean what they
mean to libpq. Those of other clients that do not matter here (\`schema\`, \`pgbouncer\`, \`connection_limit\`, \`application_name\`, …) are passed over. Any
other is an error that names it, as what it asks for would not be done: \`hostaddr\`, \`sslcrl\`, a misspelt \`sslmode\`.

## How values are written

| kind | in flags and environment | in the file |
| --- | --- | --- |
| number | \`4\` | \`4\` |
| yes or no | the flag alone; \`true\`, \`yes\`, \`on\`, \`1\` or \`false\`, \`no\`, \`off\`, \`0\` in the environment | \`true\`, \`false\` |
| time span | \`500ms\`, \`30s\`, \`5m\`, \`1h30m\`, \`7d\` | \`"30s"\` |
| rate | \`512KiB\`, \`10MiB\`, \`10MB\` | \`"10MiB"\` |
| list | the flag repeated | \`["public.a", "public.b"]\` |
| file, folder | from the working folder; \`~/\` is the home folder | from the folder of the configuration file |

## All options

| flag | environment | key in the file | default | commands | meaning |
| --- | --- | --- | --- | --- | --- |
${allOptions()
  .map(([, row]) => optionLine(row))
  .join('\n')}

Patterns of schemas and tables are those of \`pg_dump\`: \`*\` and \`?\` stand for any characters, double quotes keep
capitals and odd characters, \`schema.table\` names both.

## A second repository

\`BACKUP_REPLICATE_TO\` names it for \`create\`, \`list\` and \`replicate\`, or \`repository\` in the section \`${replicaSection}\` of the configuration file. How its storage is
reached can be said apart: every variable of the storages above exists with \`${replicaPrefix}\` in front as well, and every key of theirs in the section. As soon as one of a kind of storage (S3, Google's, Azure, SFTP)
is given there, all of that kind are taken from there; otherwise both repositories share them.

${replicaRows()
  .map(
    ([, row]) =>
      `- ${(row.env ?? []).map(name => code(replicaPrefix + name)).join(', ')}${row.config === undefined ? '' : `; in the section ${code(row.config)}`}`,
  )
  .join('\n')}

## The configuration file

\`\`\`json
{
  "$schema": "./node_modules/pgkeep/docs/backup.config.schema.json",
  "repository": "./backups",
  "jobs": 4,
  "excludeTableData": ["public.sessions", "public.audit_*"],
  "lockTimeout": "30s"
}
\`\`\`

A key that is not in the table is an error, so that a slip of the pen does not pass for a setting.
[backup.config.schema.json](backup.config.schema.json) describes the file to editors.

## Colours and progress

\`NO_COLOR\` turns colours off, \`FORCE_COLOR\` turns them on where there is no terminal. On a terminal progress is one line
that is redrawn; elsewhere, and where \`CI\` is set, it is a line per step and at most one every ten seconds between.
`;
}

function optionLine(row: OptionRow): string {
  const cells = [
    code(row.flags),
    (row.env ?? []).map(code).join(', '),
    code(row.config),
    row.type === 'boolean' ? '' : code(row.default),
    row.commands.join(', '),
    row.help.replaceAll('|', '\\|'),
  ];
  return `| ${cells.join(' | ')} |`;
}

function code(text: string | number | undefined): string {
  return text === undefined ? '' : `\`${text}\``;
}

/** The JSON schema of the configuration file, formatted as the project formats JSON. */
export function configSchema(): string {
  const properties: Record<string, object> = { $schema: { type: 'string' } };
  for (const [, row] of allOptions()) {
    if (row.config !== undefined) properties[row.config] = { description: row.help, ...schemaOf(row) };
  }
  const place = { type: 'string', minLength: 1 };
  const ofReplica = replicaRows().flatMap(([, row]) =>
    row.config === undefined ? [] : [[row.config, schemaOf(row)] as const],
  );
  properties[replicaSection] = {
    description: 'the second repository, and how its storage is reached',
    type: 'object',
    additionalProperties: false,
    properties: { repository: place, ...Object.fromEntries(ofReplica) },
  };
  const schema = {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'backup.config.json of pgkeep',
    type: 'object',
    additionalProperties: false,
    properties,
  };
  // Short lists on one line.
  const text = JSON.stringify(schema, null, 2).replaceAll(/\[\s+([^[\]]*?)\s+\]/g, (_, items: string) => {
    return `[${items.replaceAll(/\s*\n\s*/g, ' ')}]`;
  });
  return `${text}\n`;
}

function schemaOf(row: OptionRow): object {
  switch (row.type) {
    case 'boolean':
      return { type: 'boolean', ...(row.default !== undefined && { default: row.default }) };
    case 'integer':
      return { type: 'integer', minimum: row.min, maximum: row.max, default: row.default };
    case 'duration':
      return { type: 'string', pattern: '^(0|(\\d+(\\.\\d+)?(ms|[smhdw]))+)$', default: row.default };
    case 'size':
      return { type: 'string', pattern: '^\\d+(\\.\\d+)? ?[KMGkmg]([Ii]?[Bb])?$' };
    case 'list':
      return { type: 'array', items: { type: 'string', minLength: 1 } };
    case 'string':
      return row.choices === undefined ? { type: 'string', minLength: 1 } : { enum: row.choices };
    default:
      return { type: 'string', minLength: 1, ...(row.default !== undefined && { default: row.default }) };
  }
}
