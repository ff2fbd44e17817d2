import { describe, expect, test } from 'vitest';
import {
  applyRetention,
  type RetainedBackup,
  type RetentionRules,
} from '../../../src/repository/retention.ts';
import { seriesOf } from '../../../src/repository/series.ts';

const dayMs = 86_400_000;
const now = Date.parse('2026-06-01T12:00:00Z');
let count = 0;

/** A good, unverified backup, so many days before now. */
function backup(daysAgo: number, change: Partial<RetainedBackup> = {}): RetainedBackup {
  return {
    id: `backup-${String(count++).padStart(13, '0')}-00000000`,
    database: 'shop',
    timestamp: new Date(now - daysAgo * dayMs).toISOString(),
    complete: true,
    verified: false,
    damaged: false,
    ...change,
  };
}

function going(backups: readonly RetainedBackup[], rules: Partial<RetentionRules> = {}, nowMs = now) {
  const decided = applyRetention(backups, { keepDays: 30, keepLast: 0, ...rules }, nowMs);
  expect(decided.map(({ backup: { id } }) => id).sort()).toEqual(backups.map(({ id }) => id).sort());
  for (const { reason } of decided) expect(reason).not.toBe('');
  const ids = new Set(decided.filter(({ stays }) => !stays).map(decision => decision.backup.id));
  return backups.filter(({ id }) => ids.has(id));
}

const daily = (days: number) => Array.from({ length: days }, (_, day) => backup(day));

describe('a backup', () => {
  test('goes once it is older than the newest by more than keep-days', () => {
    const backups = daily(60);
    expect(going(backups)).toEqual(backups.slice(31));
    expect(going(backups, { keepDays: 7 })).toEqual(backups.slice(8));
    expect(going(backups, { keepDays: 0 })).toEqual(backups.slice(1));
  });

  test('stays if any rule keeps it', () => {
    const backups = daily(60);
    expect(going(backups, { keepDays: 0, keepLast: 5 })).toEqual(backups.slice(5));
    expect(going(backups, { keepDays: 10, keepLast: 5 })).toEqual(backups.slice(11));
  });

  test('stays as the newest good one, however old', () => {
    expect(going([backup(4000)], { keepDays: 0 })).toEqual([]);
  });

  test('stays as the newest verified one, however old', () => {
    const [verified, older] = [backup(50, { verified: true }), backup(55, { verified: true })];
    const backups = [...daily(45), verified, older];
    expect(going(backups)).toContain(older);
    expect(going(backups)).not.toContain(verified);
  });

  test('stays as the newest that is not damaged, however old, as damaged ones take no place', () => {
    const damaged = [backup(0, { damaged: true }), backup(1, { damaged: true })];
    const [sound, older] = [backup(50), backup(60)];
    expect(going([...damaged, sound, older], { keepDays: 0 })).toEqual([damaged[1], older]);
    expect(going([...damaged, sound, older], { keepDays: 0, keepLast: 2 })).toEqual([]);
  });

  test('is judged among those of its own database', () => {
    const backups = [...daily(3), backup(80, { database: 'other' }), backup(85, { database: 'other' })];
    expect(going(backups)).toEqual([]);
    expect(going(backups, { keepDays: 1 })).toEqual([backups[2], backups[4]]);
  });

  test('says why', () => {
    const reasons = applyRetention(
      [backup(-3), backup(0), backup(1), backup(20, { verified: true }), backup(40)],
      { keepDays: 10, keepLast: 2 },
      now,
    ).map(({ stays, reason }) => `${stays ? 'stays' : 'goes'}: ${reason}`);
    expect(reasons).toEqual([
      'stays: dated later than the storage has it now',
      'stays: the newest good backup of its series',
      'stays: one of the newest 2',
      'stays: the newest verified backup of its series',
      'goes: 40 days older than the newest, beyond 10 days',
    ]);
    const close = applyRetention(
      [backup(0, { complete: false }), backup(0.1), backup(0.2), backup(1.3)],
      { keepDays: 1, keepLast: 0 },
      now,
    ).map(({ stays, reason }) => `${stays ? 'stays' : 'goes'}: ${reason}`);
    expect(close).toEqual([
      'stays: not older than the newest, within 1 day',
      'stays: the newest good backup of its series',
      'stays: less than a day older than the newest, within 1 day',
      'goes: 1 day older than the newest, beyond 1 day',
    ]);
  });
});

describe('series', () => {
  const orders = { part: { id: 'orders' } };
  const logs = { part: { id: 'logs' } };

  test('a part never takes the place of a whole backup, nor makes it older', () => {
    const whole = [backup(80), backup(85), backup(111)];
    const hourly = Array.from({ length: 9 }, (_, n) => backup(n / 24, orders));
    expect(going([...hourly, ...whole], { keepDays: 30 })).toEqual([whole[2]]);
    expect(going([...hourly, ...whole], { keepDays: 0, keepLast: 2 })).toEqual([
      ...hourly.slice(2),
      whole[2],
    ]);
  });

  test('parts by one choice are judged apart from those by another, and the newest of each stays', () => {
    const parts = [backup(0, orders), backup(1, orders), backup(60, logs), backup(61, logs)];
    expect(going(parts)).toEqual([parts[3]]);
    expect(going(parts, { keepDays: 0 })).toEqual([parts[1], parts[3]]);
    expect(going([backup(0, { ...orders, damaged: true }), backup(50, orders)], { keepDays: 0 })).toEqual([]);
  });

  test('a series that ended shrinks to its newest backup as others go on', () => {
    const before = Array.from({ length: 10 }, (_, day) => backup(40 + day, { server: '1' }));
    const after = Array.from({ length: 40 }, (_, day) => backup(day, { server: '2' }));
    expect(going([...after, ...before])).toEqual([...after.slice(31), ...before.slice(1)]);
    const verified = { ...before[5], verified: true } as RetainedBackup;
    expect(going([...after, ...before.with(5, verified)])).not.toContain(verified);
    const otherChoice = before.map(one => ({ ...one, server: '2', ...logs }));
    expect(going([...after, ...otherChoice])).toEqual([...after.slice(31), ...otherChoice.slice(1)]);
  });

  test('of one name on two servers keep the newest of each', () => {
    const one = [backup(1, { server: '1' }), backup(2, { server: '1' })];
    const other = [backup(0, { server: '2' }), backup(3, { server: '2' })];
    const unknown = [backup(70, { server: null }), backup(75)];
    expect(going([...one, ...other, ...unknown], { keepDays: 0 })).toEqual([one[1], other[1], unknown[1]]);
  });
});

describe('an incomplete backup', () => {
  test('goes by age, and neither counts nor protects', () => {
    const incomplete = Array.from({ length: 5 }, (_, n) => backup(n, { complete: false }));
    const good = [backup(10), backup(20)];
    expect(going([...incomplete, ...good], { keepDays: 0, keepLast: 2 })).toEqual([]);
    const old = backup(25, { complete: false, verified: true });
    expect(going([...good, old], { keepDays: 0, keepLast: 3 })).toEqual([old]);
  });

  test('stays while its database has no good one', () => {
    expect(going([backup(0, { complete: false }), backup(99, { complete: false })], { keepDays: 1 })).toEqual(
      [],
    );
  });
});

describe('a clock that jumped', () => {
  test('a year ahead, for all that is written since, deletes nothing of before', () => {
    const year = 365 * dayMs;
    const backups = daily(20);
    const after = [backup(-365), backup(-366)];
    expect(going([...after, ...backups], {}, now + year + dayMs)).toEqual([]);
  });

  test('a year ahead for one backup, and back, makes that one neither the newest nor a measure', () => {
    const wrong = backup(-365);
    const backups = daily(40);
    expect(going([wrong, ...backups])).toEqual(backups.slice(31));
    expect(going([wrong, ...backups], { keepDays: 0, keepLast: 3 })).toEqual(backups.slice(3));
  });

  test('a year back deletes nothing that it should not', () => {
    const backups = daily(20);
    // All of them are dated later than now, by far; the new one alone is not.
    const fresh = backup(365);
    expect(going([...backups, fresh], { keepDays: 1 }, now - 365 * dayMs)).toEqual([]);
  });

  test('while backups had stopped for long is a gap that does not count', () => {
    const before = Array.from({ length: 10 }, (_, day) => backup(200 + day));
    expect(going([backup(0), ...before], { keepDays: 30 })).toEqual([]);
    expect(going([backup(0), backup(80)], { keepDays: 30 })).toHaveLength(1);
    // A gap that is shorter than what is to be kept anyhow does count.
    expect(going([backup(0), backup(100), backup(200)], { keepDays: 140 })).toHaveLength(1);
  });
});

describe('whatever the history, the clocks and the rules', () => {
  /** Numbers that are the same in every run of the tests. */
  function chance(seed: number): () => number {
    let state = seed;
    return () => {
      state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) | 0;
      return ((state ^ (state >>> 12)) >>> 0) / 2 ** 32;
    };
  }

  test('the newest good, the newest verified and what is dated ahead stay, and more rules keep more', () => {
    let gone = 0;
    for (let seed = 1; seed <= 500; seed++) {
      const next = chance(seed);
      const jumps = [0, 0, 0, 365, -365, 3];
      let clock = 0;
      const backups = Array.from({ length: Math.floor(next() * 40) }, () => {
        clock += next() * 5 + (jumps[Math.floor(next() * 60)] ?? 0);
        return backup(-clock, {
          database: next() < 0.7 ? 'shop' : 'other',
          server: next() < 0.8 ? '1' : '2',
          ...(next() < 0.2 && { part: { id: 'a' } }),
          complete: next() < 0.8,
          verified: next() < 0.2,
          damaged: next() < 0.2,
        });
      });
      const nowMs = now + (clock + next()) * dayMs;
      const rules = { keepDays: Math.floor(next() * 40), keepLast: Math.floor(next() * 5) };
      const gonners = going(backups, rules, nowMs);
      gone += gonners.length;
      for (const series of new Set(backups.map(seriesOf))) {
        const good = backups
          .filter(one => seriesOf(one) === series && one.complete)
          .filter(one => Date.parse(one.timestamp) <= nowMs + dayMs)
          .sort((a, b) => b.timestamp.localeCompare(a.timestamp) || b.id.localeCompare(a.id));
        const kept = good.filter(one => !gonners.includes(one));
        expect(kept[0]).toBe(good[0]);
        expect(kept.find(one => one.verified)).toBe(good.find(one => one.verified));
        const sound = good.filter(one => !one.damaged);
        expect(kept.find(one => !one.damaged)).toBe(sound[0]);
        expect(kept.filter(one => !one.damaged).length).toBeGreaterThanOrEqual(
          Math.min(sound.length, rules.keepLast),
        );
        expect(kept.length).toBeGreaterThanOrEqual(Math.min(good.length, rules.keepLast));
        if (good.length === 0) expect(gonners.filter(one => seriesOf(one) === series)).toEqual([]);
      }
      for (const one of gonners) expect(Date.parse(one.timestamp)).toBeLessThanOrEqual(nowMs + dayMs);
      const more = going(backups, { keepDays: rules.keepDays, keepLast: rules.keepLast + 1 }, nowMs);
      expect(more.every(one => gonners.includes(one))).toBe(true);
      const shuffled = backups.toSorted(
        (a, b) => a.id.slice(-9).localeCompare(b.id.slice(-9)) || (a.id < b.id ? 1 : -1),
      );
      expect(new Set(going(shuffled, rules, nowMs))).toEqual(new Set(gonners));
    }
    expect(gone).toBeGreaterThan(500);
  });
});
