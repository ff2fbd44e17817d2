// What a run is doing, on stderr: one redrawn line on a terminal, else a line per step and now and then one between.
import { formatBytes, formatDuration, formatQuantity } from '../../base/units.ts';
import type { OperationEvent } from '../../operations/events.ts';
import type { Io } from '../io.ts';
import { phaseWords } from './phases.ts';
import { RateMeter } from './rate-meter.ts';
import { RedrawnLine } from './redrawn-line.ts';
import { warningText } from './report.ts';
import { styleFor } from './style.ts';

export interface Progress {
  /** Takes the events of an operation. */
  readonly onEvent: (event: OperationEvent) => void;
  /** Prints the warnings of a result that did not come as events, too. */
  warn(messages: readonly string[]): void;
  /** Clears the redrawn line; safe to call twice. */
  stop(): void;
}

const plainIntervalMs = 10_000;

/** Starts showing a run. With `quiet` only warnings are shown. */
export async function startProgress(quiet: boolean, io: Io): Promise<Progress> {
  const style = await styleFor(io.stderr, io);
  const line = quiet || !isInteractive(io) ? undefined : new RedrawnLine(io.stderr);
  const warned = new Set<string>();
  const describe = progressWords();
  const showStep = quiet ? () => {} : line ? (text: string) => line.set(text) : plainLines(io);

  const warn = (message: string, hint?: string) => {
    if (warned.has(message)) return;
    warned.add(message);
    tell(warningText(message, hint, style));
  };
  const tell = (text: string) => {
    if (line) line.printAbove(text);
    else io.stderr.write(text);
  };
  return {
    onEvent(event) {
      if (event.type === 'warning') warn(event.message, event.hint);
      else if (event.type === 'shards') tell(joinText(event));
      else showStep(describe(event, io.now()), event.type === 'phase', io.now());
    },
    warn: messages => {
      for (const message of messages) warn(message);
    },
    stop: () => line?.stop(),
  };
}

/** CI systems offer terminals that keep every redrawn line. */
function isInteractive(io: Io): boolean {
  return io.stderr.isTTY === true && !io.env.CI && io.env.TERM !== 'dumb';
}

type ShowStep = (text: string, isNewPhase: boolean, atMs: number) => void;

function plainLines(io: Io): ShowStep {
  let lastMs = Number.NEGATIVE_INFINITY;
  return (text, isNewPhase, atMs) => {
    if (!isNewPhase && atMs - lastMs < plainIntervalMs) return;
    lastMs = atMs;
    io.stderr.write(`${text}\n`);
  };
}

type ShownEvent = Extract<OperationEvent, { type: 'phase' | 'progress' }>;

/** Without it nobody can join, so it is told whatever else is not. */
function joinText({ shards, join }: Extract<OperationEvent, { type: 'shards' }>): string {
  return `waiting for ${formatQuantity(shards, 'shard')}: pgkeep create --shard <i>/${shards} --join ${join}\n`;
}

/** Turns steps and progress into a line; remembers the step and the speed. */
function progressWords(): (event: ShownEvent, nowMs: number) => string {
  let step = 'starting';
  let meter = new RateMeter();
  return (event, nowMs) => {
    if (event.type === 'phase') {
      step = phaseWords[event.phase];
      meter = new RateMeter();
      return event.detail === undefined ? step : `${step}: ${event.detail}`;
    }
    meter.add(nowMs, event.doneBytes);
    const rate = meter.bytesPerSecond;
    const remainingMs = meter.remainingMs(event.totalBytes);
    const facts = [
      // The total may be an estimate; once it is passed it says nothing.
      event.doneBytes <= event.totalBytes
        ? `${formatBytes(event.doneBytes)} of about ${formatBytes(event.totalBytes)}`
        : formatBytes(event.doneBytes),
      ...(rate === undefined ? [] : [`${formatBytes(rate)}/s`]),
      ...(remainingMs === undefined ? [] : [`${formatDuration(Math.max(1000, remainingMs))} left`]),
    ];
    const { heldBack } = event;
    if (heldBack !== undefined) {
      facts.push(
        `held back to ${heldBack.workers} of ${heldBack.jobs} workers by ${formatQuantity(heldBack.activeSessions, 'active session')}`,
      );
    }
    return `${step}: ${facts.join(', ')}`;
  };
}
