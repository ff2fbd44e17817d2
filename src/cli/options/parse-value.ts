// One value of one option, from text (flags, environment) or from JSON (configuration file), to its resolved form.
import { homedir } from 'node:os';
import { resolve } from 'node:path';
import { Secret } from '../../base/secret.ts';
import { formatCount, parseBytes, parseDuration } from '../../base/units.ts';
import type { OptionRow } from './table.ts';

export type OptionValue = string | number | boolean | readonly string[] | Date | Secret;

/** What a value is read against. */
export interface ValueContext {
  /** Where relative paths start. */
  folder: string;
  /** Milliseconds since 1970, for times such as `24h` ago. */
  now: number;
}

/** A value that cannot be used; `message` continues a sentence that begins with where the value came from. */
export class InvalidValue {
  readonly message: string;

  constructor(message: string) {
    this.message = message;
  }
}

/** Reads a value as a flag or an environment variable gives it. */
export function parseText(row: OptionRow, text: string, context: ValueContext): OptionValue | InvalidValue {
  switch (row.type) {
    case 'boolean':
      return parseBoolean(text);
    case 'integer':
      return /^[+-]?\d+$/.test(text.trim()) ? inRange(Number(text), row) : notAnInteger(text, row);
    case 'duration':
      return (
        parseDuration(text) ?? new InvalidValue(`${quote(text)} is not a time such as 500ms, 30s, 5m or 2h`)
      );
    case 'size':
      return parseSize(text);
    case 'time':
      return parseTime(text, context.now);
    case 'share':
      return parseShare(text);
    case 'list':
      return parseList(text, row.separator);
    case 'secret':
      return new Secret(text.trim());
    case 'url':
      return parseDatabaseUrl(text);
    case 'path':
      if (text === '-' && row.takesDash) return text;
      return text === '' ? empty() : absolutePath(text, context.folder);
    case 'place':
      return text === '' ? empty() : absolutePlace(text, context.folder);
    case 'string':
      return text === '' ? empty() : oneOf(row.choices, text);
  }
}

/** Reads a value of the configuration file, where every option has the JSON type that fits it. */
export function parseJson(row: OptionRow, value: unknown, context: ValueContext): OptionValue | InvalidValue {
  switch (row.type) {
    case 'boolean':
      return typeof value === 'boolean' ? value : new InvalidValue('must be true or false');
    case 'integer':
      return Number.isInteger(value) ? inRange(Number(value), row) : notAnInteger(JSON.stringify(value), row);
    case 'list': {
      if (!Array.isArray(value) || !value.every(item => typeof item === 'string' && item !== '')) {
        return new InvalidValue('must be a list of non-empty strings');
      }
      return value.map(String);
    }
    default:
      return typeof value === 'string'
        ? parseText(row, value, context)
        : new InvalidValue('must be a string');
  }
}

/** Whether a postgres:// URL carries a password. */
export function holdsPassword(url: string): boolean {
  return /^\w+:\/\/[^/?#]*:[^/?#]+@/.test(url) || /[?&]password=[^&]/.test(url);
}

function oneOf(choices: readonly string[] | undefined, text: string): string | InvalidValue {
  if (choices === undefined) return text;
  const chosen = choices.find(choice => choice.toLowerCase() === text.trim().toLowerCase());
  return chosen ?? new InvalidValue(`${quote(text)} is not one of ${choices.join(', ')}`);
}

function parseSize(text: string): number | InvalidValue {
  const bytes = parseBytes(text);
  return bytes === undefined || bytes === 0
    ? new InvalidValue(`${quote(text)} is not a size such as 512KiB, 10MiB or 1GiB`)
    : bytes;
}

function parseBoolean(text: string): boolean | InvalidValue {
  switch (text.trim().toLowerCase()) {
    case 'true':
    case 'yes':
    case 'on':
    case '1':
      return true;
    case 'false':
    case 'no':
    case 'off':
    case '0':
      return false;
    default:
      return new InvalidValue(`${quote(text)} is neither true nor false`);
  }
}

function inRange(value: number, row: OptionRow & { type: 'integer' }): number | InvalidValue {
  return value >= row.min && value <= row.max ? value : notAnInteger(String(value), row);
}

function notAnInteger(text: string, row: OptionRow & { type: 'integer' }): InvalidValue {
  return new InvalidValue(`${quote(text)} is not a whole number from ${row.min} to ${formatCount(row.max)}`);
}

function parseShare(text: string): number | InvalidValue {
  const [, percent] = /^(\d+(?:\.\d+)?)\s*%$/.exec(text.trim()) ?? [];
  const share = Number(percent) / 100;
  return share > 0 && share <= 1
    ? share
    : new InvalidValue(`${quote(text)} is not a share such as 10% or 0.5%`);
}

function parseTime(text: string, now: number): Date | InvalidValue {
  const agoMs = parseDuration(text);
  if (agoMs !== undefined) return new Date(now - agoMs);
  const match = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)(Z|[+-]\d\d:\d\d)?)?$/.exec(
    text.trim(),
  );
  const [, day, clock = '00:00', zone = 'Z'] = match ?? [];
  const time = new Date(`${day}T${clock}${zone}`);
  if (day === undefined || Number.isNaN(time.getTime()) || !isDay(day)) {
    return new InvalidValue(
      `${quote(text)} is neither a date (2026-01-31, 2026-01-31T18:00) nor a time back from now (24h, 7d)`,
    );
  }
  return time;
}

/** Date turns 31 February into March; a day that comes back different is no day. */
function isDay(day: string): boolean {
  const midnight = new Date(`${day}T00:00Z`);
  return !Number.isNaN(midnight.getTime()) && midnight.toISOString().startsWith(day);
}

/** Commas inside double quotes belong to a name. */
function parseList(text: string, separator: ',' | undefined): readonly string[] | InvalidValue {
  const items = separator === undefined ? [text] : (text.match(/(?:"(?:[^"]|"")*"|[^,])+/g) ?? []);
  const trimmed = items.map(item => item.trim()).filter(item => item !== '');
  return trimmed.length === 0 ? empty() : trimmed;
}

/** Never repeats the text: it may hold a password. */
function parseDatabaseUrl(text: string): string | InvalidValue {
  const url = text.trim();
  if (url === '') return empty();
  return /^postgres(?:ql)?:\/\//i.test(url)
    ? url
    : new InvalidValue('is not a postgres:// URL, such as postgres://user@host:5432/shop');
}

function absolutePlace(text: string, folder: string): string {
  return /^[a-z][a-z0-9+.-]+:\/\//i.test(text) ? text : absolutePath(text, folder);
}

/** `~/` is for the shell, but no shell reads .env, the configuration file or `--flag=~/…`. */
function absolutePath(text: string, folder: string): string {
  return text === '~' || text.startsWith('~/') ? resolve(homedir(), text.slice(2)) : resolve(folder, text);
}

function empty(): InvalidValue {
  return new InvalidValue('is empty');
}

function quote(text: string): string {
  return `'${text}'`;
}
