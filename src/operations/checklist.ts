// The list that checks of a setup or a storage write to: one entry for each thing looked at, whatever became of the others.
import { errorToData, PgkeepError } from '../base/errors.ts';

export type CheckStatus = 'ok' | 'warning' | 'failure' | 'skipped';

export interface Check {
  /** What was looked at; stays the same from release to release. */
  name: string;
  status: CheckStatus;
  message: string;
  /** The command or setting that mends it. */
  remedy?: string;
}

export interface CheckReport {
  /** Whether nothing failed; there may be warnings. */
  ok: boolean;
  /** How many checks came to which end. */
  counts: Record<CheckStatus, number>;
  checks: Check[];
}

export class Checklist {
  readonly checks: Check[] = [];

  has(name: string): boolean {
    return this.checks.some(check => check.name === name);
  }

  report(): CheckReport {
    const counts = { ok: 0, warning: 0, failure: 0, skipped: 0 };
    for (const { status } of this.checks) counts[status]++;
    return { ok: counts.failure === 0, counts, checks: this.checks };
  }

  ok(name: string, message: string): void {
    this.checks.push({ name, status: 'ok', message });
  }

  warn(name: string, message: string, remedy: string): void {
    this.checks.push({ name, status: 'warning', message, remedy });
  }

  fail(name: string, message: string, remedy: string): void {
    this.checks.push({ name, status: 'failure', message, remedy });
  }

  skip(names: readonly string[], reason: string): void {
    for (const name of names)
      this.checks.push({ name, status: 'skipped', message: `not checked: ${reason}` });
  }

  /** An error as the outcome of a check. @param otherwise what to do when the error itself does not say it. */
  failWith(name: string, error: unknown, otherwise: string): void {
    const { message, hint } = errorToData(error);
    this.fail(name, message, hint ?? otherwise);
  }
}

/**
 * The promise's result, if it comes in time; what is waited for goes on unheard.
 * @throws PgkeepError STORAGE_UNREACHABLE, with the time in its context, when it does not.
 */
export async function within<T>(timeoutMs: number, what: string, promise: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () =>
      late.reject(
        new PgkeepError('STORAGE_UNREACHABLE', `${what} took longer than ${timeoutMs / 1000} s`, {
          context: { timeoutMs },
        }),
      ),
    timeoutMs,
  );
  promise.catch(() => undefined);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** `a, b, c and 4 more`. */
export function listSome(names: readonly string[], shown = 10): string {
  const more = names.length - shown;
  return more > 0 ? `${names.slice(0, shown).join(', ')} and ${more} more` : names.join(', ');
}

/** A clock that is off by more than this is wrong. */
const maxSkewMs = 60_000;

/**
 * How far another clock is from ours, judged by a time read from it between two looks at ours; 0 when the round trip
 * explains it.
 */
export function clockSkewMs(theirsMs: number, beforeMs: number, afterMs: number): number {
  if (theirsMs < beforeMs) return theirsMs - beforeMs;
  return theirsMs > afterMs ? theirsMs - afterMs : 0;
}

export function checkClock(list: Checklist, name: string, whose: string, skewMs: number): void {
  const seconds = Math.round(Math.abs(skewMs) / 1000);
  if (Math.abs(skewMs) <= maxSkewMs) {
    list.ok(name, `the clock of ${whose} agrees with this machine's${seconds > 1 ? ` to ${seconds} s` : ''}`);
    return;
  }
  const direction = skewMs > 0 ? 'ahead of' : 'behind';
  list.warn(
    name,
    `the clock of ${whose} is ${seconds} s ${direction} this machine's`,
    'let both follow a time server, as in: timedatectl set-ntp true',
  );
}
