// How long requests take, and how fast objects go to and fro.
import { formatBytes, formatDuration } from '../../base/units.ts';
import type { Checklist } from '../checklist.ts';
import type { Scratch } from './scratch.ts';

/** Times of single requests: of small objects, and of those of 16 MiB. */
export interface Stopwatch {
  putMs: number[];
  getMs: number[];
  statMs: number[];
  listMs: number[];
  largePutMs: number[];
  largeGetMs: number[];
}

export interface Measurements {
  /** Medians, of objects of 1 KiB; null for what was not measured. */
  putMs: number | null;
  getMs: number | null;
  statMs: number | null;
  listMs: number | null;
  /** Of objects of 16 MiB, one after the other. */
  putBytesPerSecond: number | null;
  getBytesPerSecond: number | null;
  /** The same, four at once. */
  putAtOnceBytesPerSecond: number | null;
  getAtOnceBytesPerSecond: number | null;
}

export function newStopwatch(): Stopwatch {
  return { putMs: [], getMs: [], statMs: [], listMs: [], largePutMs: [], largeGetMs: [] };
}

export async function timed<T>(times: number[], request: () => Promise<T>): Promise<T> {
  const started = performance.now();
  const result = await request();
  times.push(performance.now() - started);
  return result;
}

const atOnce = 4;
/** An object that takes longer says enough by itself. */
const longMs = 1_000;

/**
 * Stores and reads a few large objects more, one after the other and at once, where the first went quickly.
 * @param mayStore whether there may be more of them.
 */
export async function measureThroughput(
  scratch: Scratch,
  large: Buffer,
  watch: Stopwatch,
  mayStore: boolean,
): Promise<Pick<Measurements, 'putAtOnceBytesPerSecond' | 'getAtOnceBytesPerSecond'>> {
  const others = Array.from({ length: atOnce }, (_, n) => `large/${n}`);
  const put = (part: string) => scratch.put(part, large);
  const get = (part: string) => scratch.get(part, {}, large.length);
  const rates = { putAtOnceBytesPerSecond: null, getAtOnceBytesPerSecond: null } as {
    putAtOnceBytesPerSecond: number | null;
    getAtOnceBytesPerSecond: number | null;
  };
  const isQuick = (times: readonly number[]) => Math.max(...times) < longMs;
  if (mayStore && isQuick(watch.largePutMs)) {
    for (const part of others.slice(0, 2)) await timed(watch.largePutMs, () => put(part));
    const together: number[] = [];
    await timed(together, () => Promise.all(others.map(put)));
    rates.putAtOnceBytesPerSecond = rate(large.length * atOnce, together);
  }
  if (isQuick(watch.largeGetMs)) {
    const parts = rates.putAtOnceBytesPerSecond === null ? others.map(() => 'large/0') : others;
    for (const part of parts.slice(0, 2)) await timed(watch.largeGetMs, () => get(part));
    const together: number[] = [];
    await timed(together, () => Promise.all(parts.map(get)));
    rates.getAtOnceBytesPerSecond = rate(large.length * atOnce, together);
  }
  return rates;
}

export function measurements(
  watch: Stopwatch,
  largeBytes: number,
  together: Pick<Measurements, 'putAtOnceBytesPerSecond' | 'getAtOnceBytesPerSecond'>,
): Measurements {
  return {
    putMs: median(watch.putMs),
    getMs: median(watch.getMs),
    statMs: median(watch.statMs),
    listMs: median(watch.listMs),
    putBytesPerSecond: rate(largeBytes * watch.largePutMs.length, watch.largePutMs),
    getBytesPerSecond: rate(largeBytes * watch.largeGetMs.length, watch.largeGetMs),
    ...together,
  };
}

export function reportSpeed(list: Checklist, measured: Measurements): void {
  const { putMs, getMs, statMs, listMs } = measured;
  if (putMs === null || getMs === null || statMs === null || listMs === null)
    list.skip(['latency'], 'too little could be tried');
  else
    list.ok(
      'latency',
      `a small object is stored in ${took(putMs)}, read in ${took(getMs)}, looked for in ${took(statMs)}; a listing takes ${took(listMs)}`,
    );
  // What failed stands there already.
  if (list.has('throughput')) return;
  const { putBytesPerSecond, getBytesPerSecond } = measured;
  if (putBytesPerSecond === null || getBytesPerSecond === null) {
    list.skip(['throughput'], 'too little could be tried');
    return;
  }
  const words = (one: number, many: number | null) =>
    `${formatBytes(one)}/s${many === null ? '' : `, ${formatBytes(many)}/s with ${atOnce} at once`}`;
  list.ok(
    'throughput',
    `stores ${words(putBytesPerSecond, measured.putAtOnceBytesPerSecond)}; reads ${words(getBytesPerSecond, measured.getAtOnceBytesPerSecond)}`,
  );
}

function took(ms: number): string {
  return ms < 1 ? 'less than 1 ms' : formatDuration(ms);
}

function median(times: readonly number[]): number | null {
  const sorted = times.toSorted((a, b) => a - b);
  const middle = sorted[sorted.length >> 1];
  return middle === undefined ? null : Math.round(middle * 100) / 100;
}

function rate(bytes: number, times: readonly number[]): number | null {
  const ms = times.reduce((sum, one) => sum + one, 0);
  return ms === 0 ? null : Math.round((bytes * 1000) / ms);
}
