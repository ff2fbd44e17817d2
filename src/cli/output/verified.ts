// What a backup's last verification found, in a few words.
import type { VerificationSummary } from '../../operations/list-backups.ts';

/** `data 2026-11-21`, `data (10% of it) 2026-11-21`, `FAILED 2026-11-21`, or `-` for one that was never verified. */
export function verifiedText(verified: VerificationSummary | null): string {
  if (verified === null) return '-';
  const { level, valid, sample, lastFull, verifiedAt } = verified;
  if (!valid) return `FAILED ${day(verifiedAt)}`;
  // That all of it was read some time ago says more than that a part was looked at since.
  if (lastFull !== null) return `${lastFull.level} ${day(lastFull.verifiedAt)}`;
  return `${level}${sample === null ? '' : ` (${sample.percent}% of it)`} ${day(verifiedAt)}`;
}

function day(iso: string): string {
  return new Date(iso).toISOString().slice(0, 10);
}
