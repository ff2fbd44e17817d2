// From what was given (flags over environment over .env over configuration file over defaults) to one read-only object.
// Nothing behind it reads the environment or the file again.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseEnv } from 'node:util';
import { foreignCode, PgkeepError } from '../../base/errors.ts';
import type { Io } from '../io.ts';
import { type ConfigFile, readConfigFile } from './config-file.ts';
import {
  holdsPassword,
  InvalidValue,
  type OptionValue,
  parseText,
  type ValueContext,
} from './parse-value.ts';
import { type Problem, throwProblems } from './problem.ts';
import type { Resolved } from './resolved.ts';
import { checkRules } from './rules.ts';
import { repositoryByType } from './storage-type.ts';
import {
  allOptions,
  type CommandName,
  flagParts,
  type OptionName,
  type OptionRow,
  type OptionsOf,
  optionsOf,
  type ReplicaSettings,
  replicaPrefix,
  replicaRows,
  storageKinds,
} from './table.ts';

/** What the command line held, as text; a flag without a value as a boolean. */
export type GivenFlags = ReadonlyMap<OptionName, string | boolean | readonly string[]>;

export interface Settings<C extends CommandName> {
  options: OptionsOf<C>;
  /** How the second repository is reached: by settings of its own for its kind of storage, or else by those of the first. */
  replica: ReplicaSettings;
  /** Where the values came from. */
  resolved: ReadonlyMap<OptionName, Resolved>;
  /** libpq's variables and the rest of the environment, .env included, without this tool's secrets. */
  environment: Readonly<Record<string, string | undefined>>;
  warnings: readonly string[];
}

/**
 * Resolves every option of a command.
 * @throws PgkeepError OPTION_INVALID or CONFIG_INVALID, naming all problems at once.
 */
export function resolveOptions<C extends CommandName>(
  command: C,
  given: GivenFlags,
  io: Pick<Io, 'env' | 'cwd' | 'now'>,
): Settings<C> {
  const context: ValueContext = { folder: io.cwd, now: io.now() };
  const environment = readEnvironment(io);
  const problems: Problem[] = [];
  const rows = optionsOf(command);
  const resolveRow = (name: OptionName, row: OptionRow, file?: ConfigFile): Resolved =>
    fromFlag(name, row, given, context, problems) ??
    fromEnvironment(row, environment, context, problems) ??
    fromFile(name, row, file) ??
    fromDefault(row, context);

  const config = rows.find(([name]) => name === 'config');
  const configPath = config && resolveRow(...config);
  throwProblems(problems);
  const file = config && readConfigFile(configPath?.value as string | undefined, io.cwd, context.now);
  if (file !== undefined) problems.push(...file.problems);

  const resolved = new Map<OptionName, Resolved>();
  for (const [name, row] of rows) {
    resolved.set(name, name === 'config' && configPath ? configPath : resolveRow(name, row, file));
  }
  const repository = repositoryByType(resolved, environment.values);
  if (repository !== undefined) resolved.set('repository', repository);
  const replica = resolveReplica(resolved, environment, file, context, problems);
  problems.push(...checkRules(resolved));
  throwProblems(problems);
  return {
    options: Object.freeze(
      Object.fromEntries(rows.map(([name]) => [name, resolved.get(name)?.value])),
    ) as OptionsOf<C>,
    replica,
    resolved,
    environment: withoutSecrets(environment.values),
    warnings: rows.flatMap(([name, row]) => visiblePassword(row, resolved.get(name))),
  };
}

/** All settings of one kind of storage are taken from the same side, so that keys never go to the other's server. */
function resolveReplica(
  first: ReadonlyMap<OptionName, Resolved>,
  environment: Environment,
  file: ConfigFile | undefined,
  context: ValueContext,
  problems: Problem[],
): ReplicaSettings {
  const rows = replicaRows();
  const own = new Map(
    rows.map(([name, row]) => {
      const named = row.env === undefined ? row : { ...row, env: row.env.map(env => replicaPrefix + env) };
      const value =
        fromEnvironment(named, environment, context, problems) ??
        fromFile(name, row, file && { ...file, values: file.replica }) ??
        fromDefault(row, context);
      return [name, value] as const;
    }),
  );
  const ofItsOwn = storageKinds.filter(kind =>
    rows.some(([name]) => name.startsWith(kind) && own.get(name)?.origin !== 'default'),
  );
  const settings = rows.map(([name]) => {
    const side = ofItsOwn.some(kind => name.startsWith(kind)) ? own : first;
    return [name, side.get(name)?.value];
  });
  return Object.freeze(Object.fromEntries(settings)) as ReplicaSettings;
}

interface Environment {
  values: Readonly<Record<string, string | undefined>>;
  /** The names that .env supplied. */
  fromDotEnv: ReadonlySet<string>;
}

function readEnvironment(io: Pick<Io, 'env' | 'cwd'>): Environment {
  const dotEnv = readDotEnv(io.cwd);
  const fromDotEnv = new Set(Object.keys(dotEnv).filter(name => io.env[name] === undefined));
  return { values: { ...dotEnv, ...io.env }, fromDotEnv };
}

function readDotEnv(cwd: string): Record<string, string | undefined> {
  try {
    return parseEnv(readFileSync(join(cwd, '.env'), 'utf8'));
  } catch (cause) {
    if (foreignCode(cause) === 'ENOENT') return {};
    throw new PgkeepError(
      'CONFIG_INVALID',
      `.env cannot be read: ${cause instanceof Error ? cause.message : cause}`,
      {
        cause,
      },
    );
  }
}

function fromFlag(
  name: OptionName,
  row: OptionRow,
  given: GivenFlags,
  context: ValueContext,
  problems: Problem[],
): Resolved | undefined {
  const value = given.get(name);
  const source = flagParts(row)?.long;
  if (value === undefined || source === undefined) return undefined;
  if (typeof value === 'boolean') return { value, origin: 'flag', source };
  const texts = typeof value === 'string' ? [value] : value;
  const parsed = texts.map(text => checked(parseText(row, text, context), source, problems));
  return { value: row.type === 'list' ? parsed.flat().map(String) : parsed.at(-1), origin: 'flag', source };
}

function fromEnvironment(
  row: OptionRow,
  environment: Environment,
  context: ValueContext,
  problems: Problem[],
): Resolved | undefined {
  // A name that is set to nothing counts as not set: that is how a template of .env leaves it.
  const name = row.env?.find(candidate => (environment.values[candidate] ?? '').trim() !== '');
  if (name === undefined) return undefined;
  const source = environment.fromDotEnv.has(name) ? `${name} in .env` : name;
  const value = checked(parseText(row, environment.values[name] ?? '', context), source, problems);
  return { value, origin: 'environment', source };
}

function fromFile(name: OptionName, row: OptionRow, file: ConfigFile | undefined): Resolved | undefined {
  const value = file?.values.get(name);
  if (file === undefined || value === undefined) return undefined;
  return { value, origin: 'file', source: `${row.config} in ${file.displayName}` };
}

function fromDefault(row: OptionRow, context: ValueContext): Resolved {
  const source = 'the default';
  if (row.type === 'list') return { value: [], origin: 'default', source };
  const value =
    typeof row.default === 'string' ? checked(parseText(row, row.default, context), source, []) : row.default;
  return { value, origin: 'default', source };
}

function checked(
  value: OptionValue | InvalidValue,
  source: string,
  problems: Problem[],
): OptionValue | undefined {
  if (!(value instanceof InvalidValue)) return value;
  problems.push({ source, message: value.message, inConfigFile: false });
  return undefined;
}

function withoutSecrets(values: Environment['values']): Environment['values'] {
  const names = new Set<string>(
    allOptions().flatMap(([, row]) => (row.type === 'secret' || row.type === 'url' ? (row.env ?? []) : [])),
  );
  const isSecret = (name: string) => names.has(name) || names.has(name.replace(replicaPrefix, ''));
  return Object.fromEntries(Object.entries(values).filter(([name]) => !isSecret(name)));
}

function visiblePassword(row: OptionRow, resolved: Resolved | undefined): string[] {
  if (row.type !== 'url' || resolved?.origin !== 'flag' || !holdsPassword(String(resolved.value))) return [];
  return [
    `the password in ${resolved.source} is visible in the list of processes; set ${row.env?.[0]} instead`,
  ];
}
