// Which backups stay: a pure rule over what the metadata say. Whatever the clocks did, the newest good backup of a
// series, its newest verified one, and the newest that is not known to be damaged stay.
import { formatQuantity } from '../base/units.ts';
import { type SeriesMember, seriesOf } from './series.ts';

/** What the rule looks at. */
export interface RetainedBackup extends SeriesMember {
  id: string;
  /** ISO 8601. */
  timestamp: string;
  /** Whether it is good. Those that are not go by age like others, but protect nothing and are never counted. */
  complete: boolean;
  /** Whether the last verification of its rows succeeded. */
  verified: boolean;
  /** Whether it is known not to be whole: it takes no other's place. */
  damaged: boolean;
}

export interface RetentionRules {
  /** A backup at most so many days older than the newest good one of its database stays; a whole one, than the newest whole. */
  keepDays: number;
  /** So many of the newest good ones of each series stay, whatever their age. */
  keepLast: number;
}

export interface RetentionDecision<B extends RetainedBackup = RetainedBackup> {
  backup: B;
  stays: boolean;
  /** Why, for people. */
  reason: string;
}

const dayMs = 86_400_000;
/** A longer time without a backup is no age: backups had stopped, or a clock jumped. */
const longestGapDays = 90;

/**
 * Decides on every backup, newest first within each database. A backup stays if any rule keeps it.
 * @param nowMs the storage's time; a backup dated more than a day later stays, and is not the newest for the others.
 */
export function applyRetention<B extends RetainedBackup>(
  backups: readonly B[],
  rules: RetentionRules,
  nowMs: number,
): RetentionDecision<B>[] {
  const databases = Map.groupBy(backups, backup => backup.database);
  return [...databases.values()].flatMap(ofOne => decideDatabase(ofOne, rules, nowMs));
}

function decideDatabase<B extends RetainedBackup>(
  backups: readonly B[],
  rules: RetentionRules,
  nowMs: number,
): RetentionDecision<B>[] {
  const sorted = backups.toSorted(
    (a, b) => Date.parse(b.timestamp) - Date.parse(a.timestamp) || b.id.localeCompare(a.id),
  );
  const isAhead = (backup: B) => Date.parse(backup.timestamp) > nowMs + dayMs;
  const good = sorted.filter(backup => backup.complete && !isAhead(backup));
  const goodOfSeries = Map.groupBy(good, seriesOf);
  const kept = new Map([...goodOfSeries.values()].flatMap(ofOne => [...protect(ofOne, rules)]));
  const longestGapMs = Math.max(rules.keepDays, longestGapDays) * dayMs;
  const ages = agesOf(sorted, good, longestGapMs);
  // Parts going on are no reason for whole ones to go.
  const whole = good.filter(backup => backup.part === undefined);
  const agesOfWhole = agesOf(sorted, whole, longestGapMs);
  return sorted.map(backup => {
    const keep = (reason: string) => ({ backup, stays: true, reason });
    if (isAhead(backup)) return keep('dated later than the storage has it now');
    if (!goodOfSeries.has(seriesOf(backup))) return keep('its series has no good backup');
    const reason = kept.get(backup);
    if (reason !== undefined) return keep(reason);
    const ageMs = (backup.part === undefined ? agesOfWhole : ages).get(backup) ?? 0;
    const limit = `${formatQuantity(rules.keepDays, 'day')}`;
    const age = `${ageText(ageMs)} than the newest`;
    return ageMs <= rules.keepDays * dayMs
      ? keep(`${age}, within ${limit}`)
      : { backup, stays: false, reason: `${age}, beyond ${limit}` };
  });
}

/**
 * What stays of a series whatever its age, and why.
 * @param good newest first.
 */
function protect<B extends RetainedBackup>(good: readonly B[], { keepLast }: RetentionRules): Map<B, string> {
  const sound = good.filter(backup => !backup.damaged);
  const reasons = new Map<B, string>();
  const keep = (backups: readonly (B | undefined)[], reason: string) => {
    for (const backup of backups) if (backup && !reasons.has(backup)) reasons.set(backup, reason);
  };
  keep([good[0]], 'the newest good backup of its series');
  keep([good.find(backup => backup.verified)], 'the newest verified backup of its series');
  keep([sound[0]], 'the newest good backup of its series that is not damaged');
  keep([...good.slice(0, keepLast), ...sound.slice(0, keepLast)], `one of the newest ${keepLast}`);
  return reasons;
}

function ageText(ageMs: number): string {
  if (ageMs === 0) return 'not older';
  return ageMs < dayMs
    ? 'less than a day older'
    : `${formatQuantity(Math.floor(ageMs / dayMs), 'day')} older`;
}

/** Milliseconds from each backup to the newest good one, without the gaps between good ones that are too long. */
function agesOf<B extends RetainedBackup>(
  sorted: readonly B[],
  good: readonly B[],
  longestGapMs: number,
): Map<B, number> {
  const ages = new Map<B, number>();
  const isGood = new Set(good);
  const [newest] = good;
  if (newest === undefined) return ages;
  let ageMs = 0;
  let previousMs = Date.parse(newest.timestamp);
  for (const backup of sorted) {
    // Not older than the newest good one: 0 or less, and no step back in time for those that follow.
    const stepMs = Math.max(0, previousMs - Date.parse(backup.timestamp));
    const atMs = ageMs + (stepMs > longestGapMs ? 0 : stepMs);
    ages.set(backup, atMs);
    if (!isGood.has(backup)) continue;
    ageMs = atMs;
    previousMs = Date.parse(backup.timestamp);
  }
  return ages;
}
