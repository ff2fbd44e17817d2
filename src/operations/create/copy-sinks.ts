// What COPYs that are not simply text go through: packed ctids in binary, and rows with their ctid in front.
import { PgkeepError } from '../../base/errors.ts';
import type { CopySink } from '../../postgres/wire.ts';
import { NumberListWriter } from '../../repository/number-list.ts';

const signature = Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1');
const [lineFeed, tab, openBracket, comma, closeBracket] = [0x0a, 0x09, 0x28, 0x2c, 0x29];

/** The one row of a COPY in binary. */
export class BinaryRow implements CopySink {
  readonly #pieces: Buffer[] = [];

  write(chunk: Buffer, start: number, end: number): void {
    // A copy: what was received is overwritten by what comes next.
    this.#pieces.push(Buffer.from(chunk.subarray(start, end)));
  }

  /** Its values; NULL, as of an aggregate over nothing, is empty. @throws PgkeepError DATABASE_CONNECTION_LOST when it is none. */
  get values(): Buffer[] {
    const bytes = Buffer.concat(this.#pieces);
    const values: Buffer[] = [];
    try {
      if (!bytes.subarray(0, signature.length).equals(signature)) throw new RangeError('no signature');
      // Flags, and an extension of the header that is as long as it says.
      let at = signature.length + 8 + bytes.readUInt32BE(signature.length + 4);
      const count = bytes.readInt16BE(at);
      at += 2;
      for (let index = 0; index < count; index++) {
        const length = Math.max(0, bytes.readInt32BE(at));
        at += 4;
        if (at + length > bytes.length) throw new RangeError('it is cut short');
        values.push(bytes.subarray(at, at + length));
        at += length;
      }
      return values;
    } catch (error) {
      throw new PgkeepError('DATABASE_CONNECTION_LOST', 'the server sent a COPY that cannot be read', {
        cause: error,
      });
    }
  }
}

/** Takes the ctid off each row and hands on the rest. */
export class CtidSink implements CopySink {
  readonly ctids = new NumberListWriter();
  readonly #rest: CopySink;
  #isInCtid = true;
  #page = 0;
  #number = 0;

  constructor(rest: CopySink) {
    this.#rest = rest;
  }

  /** @throws RangeError when the ctids do not ascend. */
  write(chunk: Buffer, start: number, end: number): void {
    let at = start;
    while (at < end) {
      if (this.#isInCtid) {
        this.#takeCtidByte(chunk[at++] ?? 0);
        continue;
      }
      const found = chunk.indexOf(lineFeed, at);
      const isEnd = found >= 0 && found < end;
      const stop = isEnd ? found + 1 : end;
      this.#rest.write(chunk, at, stop);
      this.#isInCtid = isEnd;
      at = stop;
    }
  }

  #takeCtidByte(byte: number): void {
    switch (byte) {
      case openBracket:
      case comma:
        this.#page = this.#number;
        this.#number = 0;
        return;
      case closeBracket:
        return;
      case tab:
        this.ctids.add(this.#page * 0x1_0000 + this.#number);
        this.#number = 0;
        this.#isInCtid = false;
        return;
      default:
        this.#number = this.#number * 10 + byte - 0x30;
    }
  }
}
