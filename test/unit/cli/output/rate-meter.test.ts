import { expect, test } from 'vitest';
import { RateMeter } from '../../../../src/cli/output/rate-meter.ts';

test('says nothing until there is something to measure', () => {
  const meter = new RateMeter();
  expect(meter.bytesPerSecond).toBeUndefined();
  meter.add(0, 0);
  meter.add(100, 1000);
  expect(meter.bytesPerSecond).toBeUndefined();
  expect(meter.remainingMs(5000)).toBeUndefined();
});

test('follows the speed of the last ten seconds', () => {
  const meter = new RateMeter();
  for (let second = 0; second <= 20; second++) meter.add(second * 1000, second * 100);
  for (let second = 1; second <= 10; second++) meter.add(20_000 + second * 1000, 2000 + second * 1000);
  expect(meter.bytesPerSecond).toBe(1000);
  expect(meter.remainingMs(14_000)).toBe(2000);
});

test('has no estimate when nothing moves, or all is done', () => {
  const meter = new RateMeter();
  meter.add(0, 500);
  meter.add(1000, 500);
  expect(meter.remainingMs(1000)).toBeUndefined();
  meter.add(2000, 1000);
  expect(meter.remainingMs(1000)).toBeUndefined();
});
