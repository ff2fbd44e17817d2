// Changes to bytes and to JSON, by chance: what a bad disk, a careless editor or a stranger would do.

import { below, pick, type Random } from './seeded-random.ts';

/** Bytes with one to three changes: flipped bits, cuts, insertions, repetitions, huge lengths. */
export function mutateBytes(random: Random, bytes: Buffer): Buffer {
  let changed: Buffer = Buffer.from(bytes);
  for (let count = 1 + below(random, 3); count > 0; count--)
    changed = pick(random, byteChanges)(random, changed);
  return changed;
}

/** JSON text with one to three changes to its values: missing, of another type, huge, deep, doubled, renamed. */
export function mutateJson(random: Random, text: Buffer): Buffer {
  const root = { value: JSON.parse(text.toString('utf8')) };
  for (let count = 1 + below(random, 3); count > 0; count--) changeValue(random, root);
  // Numbers that JSON cannot write are put in as text.
  const written = JSON.stringify(root.value) ?? '';
  return Buffer.from(written.replace(/"(1e999|-1e999|00|NaN|0x10)"/, '$1'));
}

const byteChanges: ((random: Random, bytes: Buffer) => Buffer)[] = [
  (random, bytes) => {
    if (bytes.length === 0) return bytes;
    const at = below(random, bytes.length);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << below(random, 8));
    return bytes;
  },
  (random, bytes) => bytes.subarray(0, below(random, bytes.length + 1)),
  (random, bytes) => bytes.subarray(below(random, bytes.length + 1)),
  (random, bytes) => {
    const at = below(random, bytes.length + 1);
    const added = Buffer.from(Array.from({ length: 1 + below(random, 40) }, () => below(random, 256)));
    return Buffer.concat([bytes.subarray(0, at), added, bytes.subarray(at)]);
  },
  (random, bytes) => {
    const from = below(random, bytes.length + 1);
    const to = from + below(random, bytes.length - from + 1);
    return Buffer.concat([bytes.subarray(0, to), bytes.subarray(from)]);
  },
  (random, bytes) => {
    const at = below(random, bytes.length + 1);
    return bytes.fill(pick(random, [0, 0xff, 0x22, 0x5b, 0x7b]), at, Math.min(bytes.length, at + 64));
  },
  (random, bytes) => {
    if (bytes.length < 8) return bytes;
    bytes.writeUInt32LE(
      pick(random, [0xffffffff, 0x7fffffff, 0x04000000, 0x04000001, 0]),
      below(random, 12) % (bytes.length - 4),
    );
    return bytes;
  },
];

const values: (() => unknown)[] = [
  () => null,
  () => true,
  () => -1,
  () => 0.5,
  () => 2 ** 53,
  () => 1e308,
  () => '1e999',
  () => 'NaN',
  () => '',
  () => 'x',
  () => '\0\u001b[31m',
  () => "'; DROP TABLE x; --",
  () => '../../etc/passwd',
  () => 'x'.repeat(100_000),
  () => [],
  () => ({}),
  () => [[]],
  () => [null],
  () => Array.from({ length: 10_000 }, () => 0),
  () => nested(20),
  () => nested(300),
  () => JSON.parse('{"__proto__": {"length": 1}, "constructor": 1, "toString": null}'),
];

function nested(depth: number): unknown {
  let value: unknown = 1;
  for (let level = 0; level < depth; level++) value = level % 2 === 0 ? [value] : { a: value };
  return value;
}

function changeValue(random: Random, root: { value: unknown }): void {
  const places = [...placesIn(root)];
  const [holder, key] = pick(random, places);
  const change = below(random, 5);
  if (change === 0) {
    if (Array.isArray(holder)) holder.splice(Number(key), 1);
    else if (holder !== root) delete holder[key];
  } else if (change === 1 && Array.isArray(holder)) {
    holder.push(holder[Number(key)]);
  } else if (change === 2 && !Array.isArray(holder) && holder !== root) {
    holder[`${key}_`] = holder[key];
    delete holder[key];
  } else if (change === 3) {
    // Something else of the same document: of the right type, in the wrong place.
    const [from, name] = pick(random, places);
    if (from !== root) put(holder, key, structuredClone(read(from, name)));
  } else {
    put(holder, key, pick(random, values)());
  }
}

type Holder = unknown[] | Record<string, unknown>;

function* placesIn(holder: Holder): Generator<[Holder, string]> {
  for (const [key, value] of Object.entries(holder)) {
    yield [holder, key];
    if (typeof value === 'object' && value !== null) yield* placesIn(value as Holder);
  }
}

function read(holder: Holder, key: string): unknown {
  return Array.isArray(holder) ? holder[Number(key)] : holder[key];
}

function put(holder: Holder, key: string, value: unknown): void {
  if (Array.isArray(holder)) holder[Number(key)] = value;
  else holder[key] = value;
}
