// Reads the repository's JSON without trusting it: whoever can write to the storage can put anything there. Text that
// would need absurd memory is refused before it is parsed, and every field is looked at before it is used.
import { PgkeepError } from '../base/errors.ts';

/** The longest path of JSON values inside each other; the format needs a dozen. */
const maxDepth = 64;
/** Once parsed, a value takes about ten bytes and an object fifty, however short their text was. */
export const maxJsonCost = 6_000_000;
const costOfObject = 3;

/** Looks at a value. @returns the path of the first thing that is not as it should be, or `undefined`. */
export type Shape = (value: unknown) => string | undefined;

/**
 * The value of an object's JSON text.
 * @throws PgkeepError OBJECT_DAMAGED when it is no JSON, is of another shape, or is too deep or too manifold to be ours.
 */
export function parseJson(name: string, text: Buffer, shape: Shape): unknown {
  if (costOfJson(text) > maxJsonCost) throw damaged(name, 'it is not JSON that pgkeep writes');
  let value: unknown;
  try {
    value = JSON.parse(text.toString('utf8'));
  } catch {
    // The parser's message repeats the text, which may be anything.
    throw damaged(name, 'it is not JSON');
  }
  const wrong = shape(value);
  if (wrong !== undefined) throw damaged(name, `${wrong === '' ? 'it' : wrong} is not what it should be`);
  return value;
}

function damaged(name: string, why: string): PgkeepError {
  return new PgkeepError('OBJECT_DAMAGED', `${name} is damaged: ${why}`, { context: { object: name } });
}

const [quote, backslash, comma] = [0x22, 0x5c, 0x2c];
const [openList, closeList, openObject, closeObject] = [0x5b, 0x5d, 0x7b, 0x7d];

/** What parsing would take: counts brackets and commas outside strings. Infinite for text that is too deep. */
export function costOfJson(text: Buffer): number {
  let depth = 0;
  let cost = 0;
  let isInString = false;
  for (let at = 0; at < text.length; at++) {
    const byte = text[at];
    if (isInString) {
      if (byte === backslash) at++;
      else if (byte === quote) isInString = false;
      continue;
    }
    if (byte === quote) isInString = true;
    else if (byte === comma) cost++;
    else if (byte === closeList || byte === closeObject) depth--;
    else if (byte === openList || byte === openObject) {
      cost += byte === openObject ? costOfObject : 1;
      depth++;
    }
    if (depth > maxDepth) return Number.POSITIVE_INFINITY;
    // More need not be known.
    if (cost > maxJsonCost) break;
  }
  return cost;
}

export const isText: Shape = value => ok(typeof value === 'string');
export const isFlag: Shape = value => ok(typeof value === 'boolean');
/** A size or a number of things: a whole number from 0 to 2^53 - 1. */
export const isCount: Shape = value => ok(Number.isSafeInteger(value) && (value as number) >= 0);
export const isWhole: Shape = value => ok(Number.isSafeInteger(value));
export const isTime: Shape = value => ok(typeof value === 'string' && !Number.isNaN(Date.parse(value)));

export function matching(pattern: RegExp): Shape {
  return value => ok(typeof value === 'string' && pattern.test(value));
}

export function oneOf(...words: readonly unknown[]): Shape {
  return value => ok(words.includes(value));
}

export function orNull(shape: Shape): Shape {
  return value => (value === null ? undefined : shape(value));
}

/** A field that may be missing. */
export function optional(shape: Shape): Shape {
  return value => (value === undefined ? undefined : shape(value));
}

export function listOf(shape: Shape): Shape {
  return value => {
    if (!Array.isArray(value)) return '';
    for (const [index, item] of value.entries()) {
      const wrong = shape(item);
      if (wrong !== undefined) return join(String(index), wrong);
    }
    return undefined;
  };
}

/** An object with these fields at least. */
export function fields(shapes: Readonly<Record<string, Shape>>): Shape {
  const entries = Object.entries(shapes);
  return value => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return '';
    const object = value as Readonly<Record<string, unknown>>;
    for (const [name, shape] of entries) {
      const wrong = shape(Object.hasOwn(object, name) ? object[name] : undefined);
      if (wrong !== undefined) return join(name, wrong);
    }
    return undefined;
  };
}

export function either(...shapes: readonly Shape[]): Shape {
  return value => ok(shapes.some(shape => shape(value) === undefined));
}

/** A further condition on a value of a shape. */
export function also<T>(shape: Shape, condition: (value: T) => boolean): Shape {
  return value => shape(value) ?? ok(condition(value as T));
}

function ok(isRight: boolean): string | undefined {
  return isRight ? undefined : '';
}

function join(name: string, path: string): string {
  return path === '' ? name : `${name}.${path}`;
}
