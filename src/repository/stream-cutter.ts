// Cuts a stream into segments where its contents say so: what is inserted or removed moves the cuts beside it and no
// others, so that the next backup finds the rest again.
import { createHmac } from 'node:crypto';
import { segmentBytes } from './segment.ts';

/** No piece but the last is smaller. */
const minBytes = 512 * 1024;
/** So many bits of the hash are zero where a piece ends: once in a MiB, so pieces have 1.5 MiB on the average. */
const cutBits = 20;

/**
 * The pieces of a stream, each at most {@link segmentBytes}.
 * @param secret of the repository: sizes of segments tell an outsider nothing about contents he knows.
 */
export async function* cutByContent(
  secret: Buffer,
  source: AsyncIterable<Buffer>,
): AsyncGenerator<Buffer, void, undefined> {
  const numbers = numbersOfBytes(secret);
  let parts: Buffer[] = [];
  let filled = 0;
  let hash = 0;
  for await (const chunk of source) {
    let from = 0;
    while (from < chunk.length) {
      const stop = Math.min(chunk.length, from + segmentBytes - filled);
      let at = Math.min(stop, from + Math.max(0, minBytes - filled));
      let isEnd = false;
      while (at < stop && !isEnd) {
        // Each byte is shifted out after 32 more: the hash is that of the last 32 bytes.
        hash = ((hash << 1) + (numbers[chunk[at] ?? 0] ?? 0)) | 0;
        isEnd = hash >>> (32 - cutBits) === 0;
        at++;
      }
      parts.push(chunk.subarray(from, at));
      filled += at - from;
      from = at;
      if (!isEnd && filled < segmentBytes) continue;
      yield Buffer.concat(parts, filled);
      parts = [];
      filled = 0;
      hash = 0;
    }
  }
  if (filled > 0) yield Buffer.concat(parts, filled);
}

/** A number of 32 bits for each byte, other ones in each repository. */
function numbersOfBytes(secret: Buffer): Int32Array {
  const numbers = new Int32Array(256);
  for (let first = 0; first < numbers.length; first += 8) {
    const digest = createHmac('sha256', secret).update(`pgkeep/1/cut ${first}`).digest();
    for (let index = 0; index < 8; index++) numbers[first + index] = digest.readInt32LE(index * 4);
  }
  return numbers;
}
