// Walks the messages of PostgreSQL's wire protocol (version 3) in received buffers. CopyData bodies are handed on
// where they lie, in pieces, without being joined; every other message is small and handed on whole.
// Message format: one byte of type, four bytes of length (itself included), body.
import { PgkeepError } from '../base/errors.ts';

export interface FrameHandler {
  /** A piece of a CopyData body: `chunk[start..end)`, valid only during the call. */
  copyData(chunk: Buffer, start: number, end: number): void;
  /** Any other message; `body` may be kept. */
  message(type: number, body: Buffer): void;
}

const headerBytes = 5;
const copyDataType = 0x64;

export class FrameReader {
  readonly #handler: FrameHandler;
  readonly #header = Buffer.alloc(headerBytes);
  #headerFilled = 0;
  /** Bytes of the current body still to come; meaningful once the header is complete. */
  #bodyLeft = 0;
  /** The body of a message other than CopyData, as far as it has come. */
  #body: Buffer[] = [];

  constructor(handler: FrameHandler) {
    this.#handler = handler;
  }

  /**
   * Takes in received bytes, cut anywhere.
   * @throws PgkeepError DATABASE_CONNECTION_LOST when they are no messages of PostgreSQL's protocol.
   */
  push(chunk: Buffer): void {
    const end = chunk.length;
    let at = 0;
    while (at < end) {
      if (this.#headerFilled === 0) at = this.#walkWholeRows(chunk, at, end);
      if (at === end) return;
      if (this.#headerFilled < headerBytes) {
        at = this.#fillHeader(chunk, at, end);
        // Incomplete, and the chunk is at its end; or a message without body, which is finished.
        if (this.#headerFilled < headerBytes) continue;
      }
      const stop = Math.min(end, at + this.#bodyLeft);
      this.#takeBody(chunk, at, stop);
      at = stop;
    }
  }

  /** The common case: CopyData messages that lie in the chunk whole. @returns where the first other byte is. */
  #walkWholeRows(chunk: Buffer, from: number, end: number): number {
    const handler = this.#handler;
    let at = from;
    while (at + headerBytes <= end && chunk[at] === copyDataType) {
      const stop = at + headerBytes + bodyBytesOf(chunk, at);
      if (stop > end) break;
      handler.copyData(chunk, at + headerBytes, stop);
      at = stop;
    }
    return at;
  }

  #fillHeader(chunk: Buffer, at: number, end: number): number {
    const copied = chunk.copy(
      this.#header,
      this.#headerFilled,
      at,
      Math.min(end, at + headerBytes - this.#headerFilled),
    );
    this.#headerFilled += copied;
    if (this.#headerFilled === headerBytes) {
      this.#bodyLeft = bodyBytesOf(this.#header, 0);
      if (this.#bodyLeft === 0) this.#finish();
    }
    return at + copied;
  }

  #takeBody(chunk: Buffer, start: number, stop: number): void {
    if (stop === start) return;
    this.#bodyLeft -= stop - start;
    if (this.#header[0] === copyDataType) this.#handler.copyData(chunk, start, stop);
    // A copy: the receive buffer is used again.
    else this.#body.push(Buffer.from(chunk.subarray(start, stop)));
    if (this.#bodyLeft === 0) this.#finish();
  }

  #finish(): void {
    const type = this.#header[0] ?? 0;
    const body = this.#body.length === 1 && this.#body[0] ? this.#body[0] : Buffer.concat(this.#body);
    this.#headerFilled = 0;
    this.#body = [];
    if (type !== copyDataType) this.#handler.message(type, body);
  }
}

/** The length of the body of the message that begins at `at`. */
function bodyBytesOf(bytes: Buffer, at: number): number {
  const bodyBytes = bytes.readInt32BE(at + 1) - 4;
  // Going on would read the same bytes for ever.
  if (bodyBytes < 0) {
    throw new PgkeepError('DATABASE_CONNECTION_LOST', 'the server sent something that is not its protocol', {
      hint: 'check what stands between: a proxy or pooler that does not pass COPY through unharmed',
    });
  }
  return bodyBytes;
}
