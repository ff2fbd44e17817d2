import { expect, test } from 'vitest';
import { PgkeepError } from '../../../src/base/errors.ts';
import { abortAtSignal, withInterruption } from '../../../src/cli/interruption.ts';
import { testIo } from '../../support/cli-io.ts';

test('the first signal aborts, the second leaves at once', () => {
  const io = testIo();
  const { signal } = abortAtSignal(io);
  expect(signal.aborted).toBe(false);
  io.sendSignal('SIGTERM');
  expect(signal.reason).toMatchObject({ code: 'INTERRUPTED', message: 'the run was ended by SIGTERM' });
  expect(io.err()).toContain('stopping and cleaning up');
  expect(io.exits).toEqual([]);
  io.sendSignal('SIGINT');
  expect(io.exits).toEqual([130]);
});

test('after the run nobody listens any more', () => {
  const io = testIo();
  const { signal, stop } = abortAtSignal(io);
  stop();
  io.sendSignal('SIGINT');
  expect(signal.aborted).toBe(false);
});

test('what fails in the wake of a signal is the interruption; an error of its own kind stays', () => {
  const closed = new Error('the socket was closed');
  expect(withInterruption(closed, AbortSignal.abort())).toMatchObject({ code: 'INTERRUPTED', cause: closed });
  const missing = new PgkeepError('OBJECT_MISSING', 'gone');
  expect(withInterruption(missing, AbortSignal.abort())).toBe(missing);
  expect(withInterruption(closed, new AbortController().signal)).toBe(closed);
});
