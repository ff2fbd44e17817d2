// Ascending whole numbers in few bytes: ctids of rows, numbers of lines. A list is the number of its runs, then of each
// run the distance from the end of the one before (from 0 for the first) and its length; all of them are
// variable-length integers, seven bits a byte, the lowest first, the high bit set on all but the last.
// Lists follow each other without anything between.
import { PgkeepError } from '../base/errors.ts';

/** Numbers are below this: pages of 32 bits, offsets of 16. */
export const maxNumber = 2 ** 48;

/** Several numbers that follow each other without a gap. */
export interface NumberRun {
  first: number;
  count: number;
}

/** Gathers ascending numbers. */
export class NumberListWriter {
  readonly #runs: number[] = [];
  #first = 0;
  #next = -1;
  #end = 0;
  count = 0;

  /** @throws RangeError when the number is not above the one before. */
  add(number: number): void {
    this.count++;
    if (number === this.#next) {
      this.#next++;
      return;
    }
    if (number < this.#next || !(number >= 0 && number < maxNumber)) {
      throw new RangeError(`${number} does not follow ${this.#next - 1} in an ascending list`);
    }
    this.#closeRun();
    this.#first = number;
    this.#next = number + 1;
  }

  bytes(): Buffer {
    this.#closeRun();
    this.#next = -1;
    const numbers = [this.#runs.length / 2, ...this.#runs];
    const out = Buffer.allocUnsafe(numbers.length * 7);
    let at = 0;
    for (let rest of numbers) {
      // Division, as the numbers have more than 32 bits.
      for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) out[at++] = (rest % 0x80) | 0x80;
      out[at++] = rest;
    }
    return out.subarray(0, at);
  }

  #closeRun(): void {
    if (this.#next < 0) return;
    this.#runs.push(this.#first - this.#end, this.#next - this.#first);
    this.#end = this.#next;
  }
}

/**
 * The runs of the list that begins at an offset, one by one.
 * @returns where the list ends.
 * @throws PgkeepError OBJECT_DAMAGED when it is none; found out while it is read.
 */
export function* readNumberList(bytes: Buffer, what: string, start = 0): Generator<NumberRun, number> {
  let at = start;
  const next = (): number => {
    let number = 0;
    for (let scale = 1; ; scale *= 0x80) {
      const byte = bytes[at++];
      if (byte === undefined || scale > maxNumber) throw damaged(what);
      number += (byte & 0x7f) * scale;
      if (byte < 0x80) return number;
    }
  };
  let end = 0;
  for (let left = next(), isFirst = true; left > 0; left--, isFirst = false) {
    const distance = next();
    const count = next();
    const first = end + distance;
    if (count === 0 || (distance === 0 && !isFirst) || first + count > maxNumber) throw damaged(what);
    yield { first, count };
    end = first + count;
  }
  return at;
}

/**
 * The lists that bytes hold, one after the other, each as its runs.
 * @throws PgkeepError OBJECT_DAMAGED when they are none; found out while they are read.
 */
export function* readNumberLists(bytes: Buffer, what: string): Iterable<NumberRun[]> {
  for (let at = 0; at < bytes.length; ) {
    const list = readNumberList(bytes, what, at);
    const runs: NumberRun[] = [];
    for (let run = list.next(); ; run = list.next()) {
      if (run.done) {
        at = run.value;
        break;
      }
      runs.push(run.value);
    }
    yield runs;
  }
}

function damaged(what: string): PgkeepError {
  return new PgkeepError('OBJECT_DAMAGED', `${what} is damaged: it is no list of ascending numbers`);
}
