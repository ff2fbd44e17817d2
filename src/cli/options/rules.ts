// Rules about options that concern more than one of them.
import type { Problem } from './problem.ts';
import type { Resolved } from './resolved.ts';
import { parseShard } from './shard.ts';
import { isNamedByType, storageTypes } from './storage-type.ts';
import { type OptionName, optionTable } from './table.ts';

/** What is wrong with the resolved options of a command taken together. */
export function checkRules(resolved: ReadonlyMap<OptionName, Resolved>): Problem[] {
  return [
    ...storageType(resolved),
    ...oneKey(resolved),
    ...exclusive(resolved),
    ...verification(resolved),
    ...locking(resolved),
    ...sharding(resolved),
  ];
}

function storageType(resolved: ReadonlyMap<OptionName, Resolved>): Problem[] {
  const type = resolved.get('storageType');
  if (typeof type?.value !== 'string' || !isNamedByType(resolved)) return [];
  const found = storageTypes[type.value.toLowerCase()];
  const problem = { source: type.source, inConfigFile: false };
  if (found === undefined) {
    const message = `'${type.value}' is not a kind of storage that this version knows`;
    return [{ ...problem, message, hint: `supported: ${Object.keys(storageTypes).join(', ')}` }];
  }
  const repository = resolved.get('repository');
  // Named by the type, it is where the variables say.
  if (found === 'folder' || String(repository?.value).startsWith(`${found.scheme}://`)) return [];
  const isNamed = resolved.get(found.container)?.value !== undefined;
  const isBelow = found.path === 'prefix' || repository?.source.startsWith('BACKUP_STORAGE_PATH');
  const variables = [!isNamed && optionTable[found.container].env[0], !isBelow && 'BACKUP_STORAGE_PATH'];
  const needed = variables.filter(variable => variable !== false);
  return [{ ...problem, message: `'${type.value}' needs ${needed.join(' and ')} to say where` }];
}

/** The stronger origin of the key wins; two of the same strength leave it open which key was meant. */
function oneKey(resolved: ReadonlyMap<OptionName, Resolved>): Problem[] {
  const key = resolved.get('encryptionKey');
  const file = resolved.get('keyFile');
  if (key?.value === undefined || file?.value === undefined || key.origin !== file.origin) return [];
  return [
    {
      source: file.source,
      message: `cannot stand beside ${key.source}: give one of them`,
      inConfigFile: false,
    },
  ];
}

const exclusivePairs: readonly (readonly [OptionName, OptionName])[] = [
  ['definitionsOnly', 'dataOnly'],
  ['resume', 'cleanTarget'],
  ['resume', 'dataOnly'],
  ['cleanTarget', 'dataOnly'],
  ['asOf', 'repair'],
  ['shards', 'shard'],
];

function exclusive(resolved: ReadonlyMap<OptionName, Resolved>): Problem[] {
  return exclusivePairs.flatMap(([one, other]) => {
    const first = resolved.get(one);
    const second = resolved.get(other);
    if (!first?.value || !second?.value) return [];
    const message = `cannot be combined with ${first.source}`;
    return [{ source: second.source, message, inConfigFile: false }];
  });
}

/** A mode alone locks nothing; in the environment or the file it waits for the days. */
function locking(resolved: ReadonlyMap<OptionName, Resolved>): Problem[] {
  const mode = resolved.get('lockMode');
  if (mode?.origin !== 'flag' || resolved.get('lockDays')?.value !== undefined) return [];
  return [{ source: mode.source, message: 'is for --lock-days', inConfigFile: false }];
}

/** A part of nothing, or a token for nothing. In the environment the token waits until it is needed. */
function sharding(resolved: ReadonlyMap<OptionName, Resolved>): Problem[] {
  const [shards, shard, join] = (['shards', 'shard', 'join'] as const).map(name => resolved.get(name));
  const problems: Problem[] = [];
  if (shard?.value !== undefined && parseShard(String(shard.value)) === undefined) {
    const message = `'${shard.value}' is not a part such as 2/3`;
    problems.push({ source: shard.source, message, inConfigFile: false });
  }
  if (shard?.value !== undefined && join?.value === undefined) {
    const message = 'needs --join, to say of which backup';
    problems.push({ source: shard.source, message, inConfigFile: false });
  }
  if (join?.origin === 'flag' && shards?.value === undefined && shard?.value === undefined) {
    problems.push({ source: join.source, message: 'is for --shard or --shards', inConfigFile: false });
  }
  return problems;
}

/** Options of verify that go with one level alone. */
function verification(resolved: ReadonlyMap<OptionName, Resolved>): Problem[] {
  const level = resolved.get('level');
  const isGiven = (option: Resolved | undefined) => option?.value !== undefined;
  const problems: Problem[] = [];
  const sample = resolved.get('sample');
  if (sample !== undefined && isGiven(sample) && isGiven(level) && level?.value !== 'data') {
    const message = `is for --level data; ${level?.value} has no part for it`;
    problems.push({ source: sample.source, message, inConfigFile: false });
  }
  const scratch = resolved.get('scratch');
  // From the environment it waits until it is needed.
  if (scratch !== undefined && isGiven(scratch) && scratch.origin === 'flag' && level?.value !== 'restore') {
    problems.push({ source: scratch.source, message: 'is for --level restore', inConfigFile: false });
  }
  return problems;
}
