// backup.config.json: one JSON object, flat but for the section of the second repository, checked as a whole whatever the command.
import { readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { foreignCode, PgkeepError } from '../../base/errors.ts';
import { nearest } from './nearest.ts';
import {
  holdsPassword,
  InvalidValue,
  type OptionValue,
  parseJson,
  type ValueContext,
} from './parse-value.ts';
import type { Problem } from './problem.ts';
import {
  allOptions,
  type OptionName,
  type OptionRow,
  optionTable,
  replicaRows,
  replicaSection,
} from './table.ts';

export interface ConfigFile {
  /** As messages name it: relative to the working folder where that is shorter. */
  displayName: string;
  values: ReadonlyMap<OptionName, OptionValue>;
  /** Settings of the second repository's storage. */
  replica: ReadonlyMap<OptionName, OptionValue>;
  problems: readonly Problem[];
}

export const configFileName = 'backup.config.json';

/**
 * Reads the file that was asked for, or the one in the working folder if there is one.
 * @throws PgkeepError CONFIG_INVALID when it cannot be read or is not a JSON object.
 */
export function readConfigFile(given: string | undefined, cwd: string, now: number): ConfigFile {
  const path = given ?? join(cwd, configFileName);
  const shortName = relative(cwd, path);
  const displayName = shortName.startsWith('..') ? path : shortName;
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    if (given === undefined && foreignCode(cause) === 'ENOENT')
      return { displayName, values: new Map(), replica: new Map(), problems: [] };
    throw new PgkeepError('CONFIG_INVALID', `${displayName} cannot be read: ${describe(cause)}`, { cause });
  }
  const folder = dirname(path);
  const { [replicaSection]: section, ...entries } = parseObject(text, displayName);
  const main = readEntries(entries, mainKeys(), displayName, { folder, now });
  const replica = readSection(section, displayName, { folder, now });
  const place = replica.values.get('replica');
  if (place !== undefined) main.values.set('replica', place);
  return {
    displayName,
    values: main.values,
    replica: replica.values,
    problems: [...main.problems, ...replica.problems],
  };
}

function parseObject(text: string, displayName: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new PgkeepError('CONFIG_INVALID', `${displayName} is not JSON: ${describe(cause)}`, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new PgkeepError(
      'CONFIG_INVALID',
      `${displayName} must hold one JSON object, such as { "jobs": 4 }`,
    );
  }
  return { ...value };
}

interface Entries {
  values: Map<OptionName, OptionValue>;
  problems: Problem[];
}

type Keys = ReadonlyMap<string, { name: OptionName; row: OptionRow }>;

function mainKeys(): Keys {
  return keysOf(allOptions());
}

function keysOf(rows: readonly [OptionName, OptionRow][]): Keys {
  return new Map(rows.flatMap(([name, row]) => (row.config ? [[row.config, { name, row }]] : [])));
}

/** The section has the keys that the first repository's storage has, and its place. */
function readSection(section: unknown, displayName: string, context: ValueContext): Entries {
  if (section === undefined) return { values: new Map(), problems: [] };
  if (typeof section !== 'object' || section === null || Array.isArray(section)) {
    const message = 'must be an object, such as { "repository": "s3://bucket/prefix" }';
    const problem = { source: `${replicaSection} in ${displayName}`, inConfigFile: true, message };
    return { values: new Map(), problems: [problem] };
  }
  const place = { name: 'replica', row: optionTable.replica } as const;
  const keys: Keys = new Map([['repository', place], ...keysOf(replicaRows())]);
  return readEntries(section, keys, `${replicaSection} of ${displayName}`, context);
}

function readEntries(entries: object, rowOfKey: Keys, displayName: string, context: ValueContext): Entries {
  const values = new Map<OptionName, OptionValue>();
  const problems: Problem[] = [];
  for (const [key, json] of Object.entries(entries)) {
    if (key === '$schema') continue;
    const source = `${key} in ${displayName}`;
    const known = rowOfKey.get(key);
    if (known === undefined) {
      problems.push({ source, inConfigFile: true, ...unknownKey(key, [...rowOfKey.keys()]) });
      continue;
    }
    const value = parseJson(known.row, json, context);
    if (value instanceof InvalidValue) {
      problems.push({ source, inConfigFile: true, message: value.message });
    } else if (known.row.type === 'url' && holdsPassword(String(value))) {
      problems.push({
        source,
        inConfigFile: true,
        message: 'holds a password',
        hint: passwordHint(known.row.env),
      });
    } else {
      values.set(known.name, value);
    }
  }
  return { values, problems };
}

function unknownKey(key: string, known: readonly string[]): { message: string; hint?: string } {
  const words = key.toLowerCase().replaceAll(/[^a-z]/g, '');
  if (words.includes('encryptionkey') || words === 'key') {
    return {
      message: 'is not a key of this file',
      hint: `set ${optionTable.encryptionKey.env[0]}, or keyFile`,
    };
  }
  if (words.includes('password') || words === 'databaseurl') {
    return { message: 'is not a key of this file', hint: passwordHint(optionTable.database.env) };
  }
  const closest = nearest(key, known);
  return {
    message: 'is not a key of this file',
    hint: closest === undefined ? `the keys are ${known.join(', ')}` : `did you mean ${closest}?`,
  };
}

function passwordHint(env: readonly string[] | undefined): string {
  return `set ${env?.[0] ?? 'PGPASSWORD'}, or keep the password in ~/.pgpass`;
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
