// docs/errors.md, written from the error table.

import { errorTable, exitCodes, type FailureKind } from '../../../src/base/errors.ts';

const kinds: Readonly<Record<FailureKind, string>> = {
  success: 'the command did what it was asked to do',
  internal: 'a fault in pgkeep itself',
  usage: 'the command line, the environment or the configuration file',
  key: 'the encryption key',
  repository: 'the repository, or the storage below it',
  database: 'the connection to PostgreSQL',
  backup: 'the backup could not be completed; nothing was added to the list',
  program: "PostgreSQL's client programs",
  restore: 'the target of a restore, or what arrived there',
  verification: 'a backup that was verified is not whole',
  partial: 'the backup was stored, but is incomplete',
  doctor: 'a check of doctor or storage probe failed',
  replica: 'a copy in a second repository could not be made; what was stored first counts',
  mismatch: 'the backup was stored and is right, but earlier ones may not be',
  interrupted: 'ended by a signal, after cleaning up',
};

export function errorsDocument(): string {
  return `# Errors and exit codes

<!-- Written from src/base/errors.ts; after a change there: npx vitest run --config test/vitest.config.ts errors -u -->

Every failure has a code. People read, on stderr, what happened and what to do next:

\`\`\`text
pgkeep: the repository at ./backups is encrypted and no key was given [KEY_MISSING]
hint: set BACKUP_ENCRYPTION_KEY, or make a key with: pgkeep key generate
\`\`\`

With \`--json\` the same failure is on stdout too, as the only document there
([json-output.md](json-output.md#errors)). The exit code says which kind of failure it was:

| exit code | kind | what it concerns |
| ---: | --- | --- |
${Object.entries(exitCodes)
  .map(([kind, code]) => `| ${code} | ${kind} | ${kinds[kind as FailureKind]} |`)
  .join('\n')}

A backup that is stored may have more than one thing to tell: all are printed, and the exit code is that of the gravest, ${exitCodes.mismatch} before ${exitCodes.partial} before ${exitCodes.replica}. So ${exitCodes.replica} means that the backup
is complete and counts, also when Ctrl-C ended the copying alone.

A second Ctrl-C ends the program at once, also with ${exitCodes.interrupted}. Codes are kept from release to release; messages may change.
${Object.entries(exitCodes)
  .flatMap(([kind, exitCode]) => kindSection(kind as FailureKind, exitCode))
  .join('')}`;
}

function kindSection(kind: FailureKind, exitCode: number): string[] {
  const rows = Object.entries(errorTable).filter(([, entry]) => entry.kind === kind);
  if (rows.length === 0) return [];
  const lines = rows.map(([code, { meaning }]) => `| \`${code}\` | ${meaning} |`);
  return [`\n## ${kind}: exit code ${exitCode}\n\n| code | meaning |\n| --- | --- |\n${lines.join('\n')}\n`];
}
