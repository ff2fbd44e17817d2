// A value and where it came from.
import type { OptionValue } from './parse-value.ts';

/** From strongest to weakest. */
const origins = ['flag', 'environment', 'file', 'default'] as const;

export interface Resolved {
  value: OptionValue | undefined;
  origin: (typeof origins)[number];
  /** As messages name it: `--jobs`, `PGKEEP_JOBS`, `PGKEEP_JOBS in .env`, `jobs in backup.config.json`. */
  source: string;
}

/** Whether a value from `left` outranks one from `right`. */
export function outranks(left: Resolved, right: Resolved): boolean {
  return origins.indexOf(left.origin) < origins.indexOf(right.origin);
}
