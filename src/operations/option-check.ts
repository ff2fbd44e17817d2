// Numbers that a program passes to an operation; the command line has checked its own by then.
import { PgkeepError } from '../base/errors.ts';

/** Limits of the options that several operations have. */
export const jobsLimits = { min: 1, max: 64 };
export const durationLimits = { min: 0, max: 2_147_483_647 };
export const maxLoadLimits = { min: 0, max: Number.MAX_SAFE_INTEGER };

/** @throws PgkeepError OPTION_INVALID when a number is given that is no integer within the limits. */
export function requireInteger(
  option: string,
  value: number | undefined,
  { min, max }: { min: number; max: number },
): void {
  if (value === undefined || (Number.isInteger(value) && value >= min && value <= max)) return;
  throw new PgkeepError('OPTION_INVALID', `${option} is ${value}, not a whole number from ${min} to ${max}`);
}
