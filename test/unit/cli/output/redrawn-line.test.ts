import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { RedrawnLine } from '../../../../src/cli/output/redrawn-line.ts';
import { testIo } from '../../../support/cli-io.ts';

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

/** What a terminal shows after these writes: `\r` and the code that clears the line start it anew. */
const shown = (written: string) => written.split('\n').map(line => line.split('\r\u001b[K').at(-1));

test('shows the newest text, and lines that stay above it', () => {
  const io = testIo({ isTTY: true });
  const line = new RedrawnLine(io.stderr);
  line.set('first');
  vi.advanceTimersByTime(80);
  expect(shown(io.err())).toEqual(['⠋ first']);
  line.printAbove('warning: low on space\n');
  line.set('second\nstep');
  vi.advanceTimersByTime(160);
  expect(shown(io.err())).toEqual(['warning: low on space', '⠹ second\\nstep']);
});

test('leaves nothing behind', () => {
  const io = testIo({ isTTY: true });
  const line = new RedrawnLine(io.stderr);
  line.set('working');
  vi.advanceTimersByTime(200);
  line.stop();
  const written = io.err();
  expect(shown(written)).toEqual(['']);
  line.stop();
  vi.advanceTimersByTime(200);
  expect(io.err()).toBe(written);
});

test.each([
  [40, 39],
  [0, 79],
])('on a terminal of %d columns uses at most %d', (columns, expected) => {
  const io = testIo({ isTTY: true });
  io.stderr.columns = columns;
  const line = new RedrawnLine(io.stderr);
  line.set('x'.repeat(500));
  vi.advanceTimersByTime(80);
  const [text] = shown(io.err());
  expect(text).toHaveLength(expected);
  expect(text).toMatch(/^⠋ x+…$/);
  line.stop();
});
