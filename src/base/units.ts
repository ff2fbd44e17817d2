// Sizes, durations and counts as people write and read them.

const durationUnitsMs = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 } as const;

/**
 * Reads `500ms`, `30s`, `1m30s`, `24h`, `7d`, `2w`, or `0`; the result is in milliseconds.
 * A bare number other than 0 gives undefined, as does anything else: tools disagree on what its unit would be.
 */
export function parseDuration(text: string): number | undefined {
  const trimmed = text.trim();
  if (trimmed === '0') return 0;
  if (!/^(?:\d+(?:\.\d+)?(?:ms|[smhdw]))+$/.test(trimmed)) return undefined;
  let totalMs = 0;
  for (const [, amount, unit] of trimmed.matchAll(/(\d+(?:\.\d+)?)(ms|[smhdw])/g)) {
    totalMs += Number(amount) * durationUnitsMs[unit as keyof typeof durationUnitsMs];
  }
  return Number.isSafeInteger(Math.round(totalMs)) ? Math.round(totalMs) : undefined;
}

const sizeUnits: Readonly<Record<string, number>> = {
  k: 1024,
  m: 1024 ** 2,
  g: 1024 ** 3,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
};

/**
 * Reads `512KiB`, `10M`, `1.5GiB` (powers of 1024) or `10MB` (of 1000); the result is in bytes.
 * A bare number gives undefined, as does anything else: tools disagree on what its unit would be.
 */
export function parseBytes(text: string): number | undefined {
  const [, amount, unit = ''] = /^(\d+(?:\.\d+)?) ?([kmg](?:i?b)?)$/i.exec(text.trim()) ?? [];
  const size = sizeUnits[unit.toLowerCase().replace('ib', '')];
  return amount === undefined || size === undefined ? undefined : Math.round(Number(amount) * size);
}

/** `340 ms`, `2.3 s`, `4 min 05 s`, `3 h 12 min`. */
export function formatDuration(durationMs: number): string {
  if (durationMs < 999.5) return `${Math.round(durationMs)} ms`;
  if (durationMs < 59_950) return `${(durationMs / 1000).toFixed(1)} s`;
  const totalSeconds = Math.round(durationMs / 1000);
  if (totalSeconds < 3600) {
    return `${Math.floor(totalSeconds / 60)} min ${String(totalSeconds % 60).padStart(2, '0')} s`;
  }
  const totalMinutes = Math.round(totalSeconds / 60);
  return `${Math.floor(totalMinutes / 60)} h ${String(totalMinutes % 60).padStart(2, '0')} min`;
}

/** `0 B`, `17 B`, `1.5 KiB`, `640 MiB`: three significant digits, powers of 1024. */
export function formatBytes(sizeBytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let size = sizeBytes;
  let unit = 0;
  // 1023.5 and not 1024: what would be rounded to 1024 of one unit is written as 1 of the next.
  while (size >= 1023.5 && unit < units.length - 1) {
    size /= 1024;
    unit++;
  }
  const digits = unit === 0 || size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
  return `${size.toFixed(digits)} ${units[unit]}`;
}

/** `1,234,567`, the same on every machine. */
export function formatCount(count: number): string {
  return count.toLocaleString('en-US');
}

/** `1 table`, `17 tables`. */
export function formatQuantity(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? '' : 's'}`;
}
