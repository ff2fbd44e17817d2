// Gives back the memory of a large buffer at once. The garbage collector counts such memory but sees no hurry: left
// to it, megabytes per object pile up, and the collections they bring about cost a tenth of the time.

/** Far more than the pool that small buffers share, which cannot be freed; smaller ones are not worth it. */
const smallestFreedBytes = 1024 * 1024;

/** Frees what no one uses any longer; the buffer, and every other view of its memory, is empty afterwards. */
export function freeBuffer(buffer: Buffer): void {
  const memory = buffer.buffer;
  if (memory instanceof ArrayBuffer && memory.byteLength >= smallestFreedBytes) memory.transfer(0);
}
