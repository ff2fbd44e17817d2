// Gives back the memory of a large buffer at once. The garbage collector counts such memory but sees no hurry: left
// to it, megabytes per object pile up, and the collections they bring about cost a tenth of the time.

/** Far more than the pool that small buffers share, which cannot be freed; smaller ones are not worth it. */
const smallestFreedBytes = 256 * 1024;

/** Frees what no one uses any longer; the buffer, and every other view of its memory, is empty afterwards. */
export function freeBuffer(buffer: Buffer): void {
  const memory = buffer.buffer;
  if (memory instanceof ArrayBuffer && memory.byteLength >= smallestFreedBytes) memory.transfer(0);
}

/** The most that glibc takes as a measure of what programs free. */
const measuredBytes = 31 * 1024 * 1024;

/**
 * Has the C library keep the memory of large buffers that are freed, for the next ones: each page that it gives back to
 * the system is cleared again when it is taken anew, which took 4 % of the CPU of a backup. glibc keeps twice the size of the largest block that was ever
 * freed (mallopt(3), M_MMAP_THRESHOLD); this one is never touched, so it is no memory. Others do as they do.
 */
export function keepFreedMemory(): void {
  freeBuffer(Buffer.allocUnsafeSlow(measuredBytes));
}
