import { expect, test } from 'vitest';
import { LoadLimit, Turn } from '../../../../src/operations/create/load-limit.ts';

function limited(maxLoad: number | undefined) {
  const looks: string[] = [];
  const warnings: string[] = [];
  const limit: LoadLimit = new LoadLimit({
    maxLoad,
    onLook: () => looks.push(String(limit.heldBack?.workers ?? 'all')),
    onWarning: message => warnings.push(message),
  });
  const look = (active: number, hidden = 0) => limit.look({ active, hidden });
  return { limit, look, looks, warnings };
}

test('one worker fewer reads with each look above the limit, down to one, and one more with each that is not', () => {
  const { limit, look, looks } = limited(4);
  const shared = limit.begin(3);
  const turns = [new Turn(shared), new Turn(shared), new Turn(shared)];
  const reading = () => turns.map(turn => !turn.isHeldBack);
  expect(reading()).toEqual([true, true, true]);
  look(5);
  expect(reading()).toEqual([true, true, false]);
  expect(limit.heldBack).toEqual({ workers: 2, jobs: 3, activeSessions: 5 });
  for (const active of [9, 9, 9]) look(active);
  expect(reading()).toEqual([true, false, false]);
  for (const active of [4, 3, 0]) look(active);
  expect(reading()).toEqual([true, true, true]);
  look(5);
  expect(looks).toEqual(['2', '1', '1', '1', '2', 'all', 'all', '2']);
});

test('the time at fewer workers is counted until they have ended, and what is seen later changes nothing', async () => {
  const { limit, look, looks } = limited(0);
  limit.begin(2);
  expect(limit.heldBackMs).toBe(0);
  look(1);
  await new Promise(resolve => setTimeout(resolve, 20));
  const meanwhile = limit.heldBackMs;
  expect(meanwhile).toBeGreaterThan(10);
  limit.end();
  const atTheEnd = limit.heldBackMs;
  expect(atTheEnd).toBeGreaterThanOrEqual(meanwhile);
  look(1);
  expect(limit.heldBack).toBeUndefined();
  await new Promise(resolve => setTimeout(resolve, 20));
  expect(limit.heldBackMs).toBe(atTheEnd);
  expect(looks).toEqual(['1']);
  // What is read once more begins with all workers.
  const turn = [limit.begin(2), limit.begin(2)].map(shared => [new Turn(shared), new Turn(shared)]);
  expect(turn.flat().map(({ isHeldBack }) => isHeldBack)).toEqual([false, false, false, false]);
});

test('without a limit, or with nobody reading, there is nothing to look at', () => {
  const without = limited(undefined);
  without.limit.begin(2);
  const before = limited(4);
  for (const { limit, look, looks } of [without, before]) {
    expect(limit.isLooking).toBe(false);
    look(100);
    expect(looks).toEqual([]);
    expect(limit.heldBack).toBeUndefined();
  }
});

test('of sessions that hide their state there is one warning, and they hold nobody back', () => {
  const { limit, look, warnings } = limited(4);
  limit.begin(2);
  for (const hidden of [0, 12, 13]) look(0, hidden);
  expect(warnings).toEqual([
    'the state of 12 other sessions is hidden from the role, and --max-load does not count what is hidden',
  ]);
  expect(limit.heldBack).toBeUndefined();
});
