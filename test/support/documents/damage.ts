// docs/damage.md, written from the table of damages that the tests do.

import { damages, type Outcome } from '../damages.ts';

export function damageDocument(): string {
  return `# What damage shows as

<!-- Written from test/support/damages.ts; after a change there: npx vitest run --config test/vitest.config.ts damage-document -u -->

What is reported when an object of an encrypted repository was damaged, lost, or put in another's place. A restore that meets
damage leaves its target as it was: an existing database as empty as before, a new one not made. Codes: [errors.md](errors.md).

\`list\` reads descriptor and metadata alone, without the key, so it cannot know what was changed in them with care; whatever has
the key compares them with the manifest, which nobody can write without it. A data segment is only read by what needs its data; ctids
(where rows lay) by no restore, but by the next \`create\` that builds on the backup.

| object | damage | restore | verify | show | list |
| --- | --- | --- | --- | --- | --- |
${damages.map(({ object, what, restore, verify, show, list }) => `| ${object} | ${what} | ${cell(restore)} | ${cell(verify)} | ${cell(show)} | ${cell(list)} |`).join('\n')}

What to do: take the object from a copy of the repository, if there is one. A missing segment, and a damaged one once
\`verify --repair\` has removed it, is stored anew by the next \`create\` that meets the same rows, and the older backups that name it are whole again. Other backups are not touched by any
of this but for what they share with the damaged one: its segments, the descriptor, and data keys.
`;
}

function cell(outcome: Outcome): string {
  if (outcome === 'nothing') return '–';
  return outcome === 'a warning' ? outcome : `\`${outcome}\``;
}
