// What has happened to the rows of a page range: its state, compared with the ctids that are there now. Pure data.
import { NumberListWriter, type NumberRun } from '../../repository/number-list.ts';

/** The lines of a range, and where their rows lay. */
export interface RangeState {
  /** The runs of ctids of the base and of each delta, in the order of the lines. */
  ctids: readonly NumberRun[][];
  /** Lines that were gone already. */
  gone: readonly NumberRun[];
}

export interface RangeChange {
  /** All lines that are gone by now. */
  gone: NumberListWriter;
  /** Rows there are that the state does not know: none, if history has gone on. */
  unknown: number;
}

/** In what the server's tidsend makes. */
export const ctidBytes = 6;

/** Page and line pointer as one number, in the order of both. */
export function ctidAt(packed: Buffer, at: number): number {
  return packed.readUInt32BE(at) * 0x1_0000 + packed.readUInt16BE(at + 4);
}

/** As SQL writes it. */
export function ctidText(ctid: number): string {
  return `(${Math.floor(ctid / 0x1_0000)},${ctid % 0x1_0000})`;
}

/**
 * The list of ctids as the server packed them.
 * @throws RangeError when they do not ascend, so that the order of the rows cannot have been that of their lines.
 */
export function listCtids(packed: Buffer): NumberListWriter {
  const list = new NumberListWriter();
  for (let at = 0; at < packed.length; at += ctidBytes) list.add(ctidAt(packed, at));
  return list;
}

/**
 * Which lines are gone.
 * @param old ctids of the rows that are there and are not younger than the state, ascending, as the server packed them.
 * @throws RangeError when they do not ascend.
 */
export function compareRange(state: RangeState, old: Buffer): RangeChange {
  requireAscending(old);
  const gone = new NumberListWriter();
  const isGone = goneBefore(state.gone);
  const [base = [], ...deltas] = state.ctids;
  /** Rows that are not the base's. */
  const others = new Set<number>();
  let line = 0;
  let at = 0;
  for (const { first, count } of base) {
    for (let ctid = first; ctid < first + count; ctid++, line++) {
      if (isGone(line)) {
        gone.add(line);
        continue;
      }
      let found = at < old.length ? ctidAt(old, at) : Number.POSITIVE_INFINITY;
      while (found < ctid) {
        others.add(found);
        at += ctidBytes;
        found = at < old.length ? ctidAt(old, at) : Number.POSITIVE_INFINITY;
      }
      if (found === ctid) at += ctidBytes;
      else gone.add(line);
    }
  }
  for (; at < old.length; at += ctidBytes) others.add(ctidAt(old, at));
  for (const runs of deltas) {
    for (const { first, count } of runs) {
      for (let ctid = first; ctid < first + count; ctid++, line++) {
        if (isGone(line) || !others.delete(ctid)) gone.add(line);
      }
    }
  }
  return { gone, unknown: others.size };
}

function requireAscending(packed: Buffer): void {
  let before = -1;
  for (let at = 0; at < packed.length; at += ctidBytes) {
    const ctid = ctidAt(packed, at);
    if (ctid <= before) throw new RangeError(`${ctidText(ctid)} came after ${ctidText(before)}`);
    before = ctid;
  }
}

/** Tells of lines, asked for in ascending order, whether they are in the runs. */
function goneBefore(runs: readonly NumberRun[]): (line: number) => boolean {
  let index = 0;
  return line => {
    let run = runs[index];
    while (run !== undefined && line >= run.first + run.count) run = runs[++index];
    return run !== undefined && line >= run.first;
  };
}
