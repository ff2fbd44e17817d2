// Patterns of schema and table names as pg_dump takes them (psql's \d patterns), turned into SQL conditions with
// the same meaning: * and ? are wildcards, double quotes keep capitals and special characters, other characters of
// regular expressions pass through. After processSQLNamePattern in PostgreSQL's src/fe_utils/string_utils.c.
import { PgkeepError } from '../base/errors.ts';
import { quoteLiteral, quoteName } from './identifiers.ts';

const regexSpecials = '|*+?()[]{}.^\\';

/** The parts of a pattern between unquoted dots, each as an anchored regular expression. */
function regexParts(pattern: string): string[] {
  const parts: string[] = [];
  let part = '';
  let isQuoted = false;
  for (let at = 0; at < pattern.length; at++) {
    const character = pattern.charAt(at);
    if (character === '"') {
      if (isQuoted && pattern.charAt(at + 1) === '"') {
        part += '"';
        at++;
      } else {
        isQuoted = !isQuoted;
      }
    } else if (!isQuoted && character === '.') {
      parts.push(part);
      part = '';
    } else if (!isQuoted && character === '*') {
      part += '.*';
    } else if (!isQuoted && character === '?') {
      part += '.';
    } else if (character === '$' || (isQuoted && regexSpecials.includes(character))) {
      part += `\\${character}`;
    } else if (character === '[' && pattern.charAt(at + 1) === ']') {
      // An empty bracket would be an error in a regular expression; here it is the name of an array type.
      part += '\\[';
    } else {
      part += isQuoted ? character : foldCase(character);
    }
  }
  parts.push(part);
  return parts.map(text => `^(${text})$`);
}

/** As the server folds names and pg_dump patterns: ASCII letters only. */
function foldCase(character: string): string {
  return /[A-Z]/.test(character) ? character.toLowerCase() : character;
}

/** A condition on `n.nspname`. @throws PgkeepError OPTION_INVALID for a pattern with a dot. */
export function schemaCondition(pattern: string): string {
  const [regex, ...more] = regexParts(pattern);
  if (regex === undefined || more.length > 0) throw tooManyDots(pattern);
  return matches('n.nspname', regex);
}

/** A condition on `n.nspname` and `c.relname`; without a schema the relation must be on the search path. */
export function tableCondition(pattern: string): string {
  const parts = regexParts(pattern);
  const [first = '', second] = parts;
  if (parts.length > 2) throw tooManyDots(pattern);
  if (second === undefined)
    return `(${matches('c.relname', first)} AND pg_catalog.pg_table_is_visible(c.oid))`;
  return `(${matches('c.relname', second)} AND ${matches('n.nspname', first)})`;
}

/** Whether a name matches a pattern, judged here instead of by a server; without a schema any schema will do. */
export function matchesTable(pattern: string, schema: string, name: string): boolean {
  const parts = regexParts(pattern);
  const [first = '', second] = parts;
  if (parts.length > 2) throw tooManyDots(pattern);
  try {
    if (second === undefined) return new RegExp(first, 'su').test(name);
    return new RegExp(first, 'su').test(schema) && new RegExp(second, 'su').test(name);
  } catch {
    throw unreadablePattern(pattern);
  }
}

interface Named {
  schema: string;
  name: string;
}

/** So many names to a pattern that lists them. */
const perPattern = 100;
/** Of that many characters are endings by which many names are told from all others. */
const endingLengths = [1, 2, 3, 4];

/**
 * Patterns that name these tables, as few as can be: pg_dump runs a query for each, and the server compares every name
 * with every name that a pattern lists. Many tables of a schema are named by endings that none of the others has.
 * @param others relations of which none may be named.
 */
export function patternsForTables(tables: readonly Named[], others: readonly Named[]): string[] {
  const patterns: string[] = [];
  const othersBySchema = Map.groupBy(others, ({ schema }) => schema);
  for (const [schema, members] of Map.groupBy(tables, table => table.schema)) {
    let left = members.map(({ name }) => name);
    const addPattern = (beginning: string, names: readonly string[]) => {
      const [first = ''] = names;
      const either = names.length === 1 ? quoteName(first) : `(${names.map(quoteName).join('|')})`;
      patterns.push(`${quoteName(schema)}.${beginning}${either}`);
    };
    for (const length of endingLengths) {
      if (left.length <= perPattern) break;
      const taken = new Set((othersBySchema.get(schema) ?? []).map(({ name }) => ending(name, length)));
      const own = Map.groupBy(left, name => ending(name, length));
      const free = [...own.keys()].filter(end => end !== undefined && !taken.has(end)) as string[];
      if (free.length === 0 || free.length > perPattern) continue;
      addPattern('*', free);
      left = [...own].flatMap(([end, names]) => (end !== undefined && free.includes(end) ? [] : names));
    }
    for (let first = 0; first < left.length; first += perPattern)
      addPattern('', left.slice(first, first + perPattern));
  }
  return patterns;
}

/** The last characters of a name; `undefined` when it has fewer. */
function ending(name: string, length: number): string | undefined {
  const characters = [...name];
  return characters.length < length ? undefined : characters.slice(-length).join('');
}

function matches(column: string, regex: string): string {
  return `${column} OPERATOR(pg_catalog.~) ${quoteLiteral(regex)} COLLATE pg_catalog."default"`;
}

function tooManyDots(pattern: string): PgkeepError {
  return new PgkeepError('OPTION_INVALID', `the pattern ${JSON.stringify(pattern)} has too many dots`, {
    hint: 'put names with dots in double quotes',
  });
}

export function unreadablePattern(pattern: string): PgkeepError {
  return new PgkeepError('OPTION_INVALID', `the pattern ${JSON.stringify(pattern)} cannot be read`, {
    hint: 'put names with brackets, parentheses and the like in double quotes',
  });
}
