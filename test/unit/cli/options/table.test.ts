import { describe, expect, test } from 'vitest';
import { commandNames } from '../../../../src/cli/commands/table.ts';
import { allOptions, flagParts, optionsOf } from '../../../../src/cli/options/table.ts';

test('every flag has a form that the parser, the documents and the completion understand', () => {
  for (const [name, row] of allOptions()) {
    if (row.flags === undefined) continue;
    const parts = flagParts(row);
    expect(parts, name).toBeDefined();
    expect(parts?.placeholder === undefined, name).toBe(row.type === 'boolean');
  }
});

describe.each(commandNames)('%s', command => {
  test('has no flag and no environment name twice', () => {
    const rows = optionsOf(command).map(([, row]) => row);
    const words = rows.flatMap(row =>
      [flagParts(row)?.short, flagParts(row)?.long].filter(word => word !== undefined),
    );
    expect(new Set(words).size).toBe(words.length);
    const names = rows.flatMap(row => row.env ?? []);
    expect(new Set(names).size).toBe(names.length);
  });
});

test('a key of the configuration file belongs to one option', () => {
  const keys = allOptions().flatMap(([, row]) => row.config ?? []);
  expect(new Set(keys).size).toBe(keys.length);
});

test('secrets have neither a flag nor a key in the configuration file', () => {
  const secrets = allOptions().filter(([, row]) => row.type === 'secret');
  expect(secrets.length).toBeGreaterThan(0);
  for (const [, row] of secrets) expect([row.flags, row.config]).toEqual([undefined, undefined]);
});
