// Numbers that threads share: handed to a worker, their memory is not copied.

/** @returns so many zeros. */
export function sharedNumbers(count: number): Uint32Array {
  return new Uint32Array(new SharedArrayBuffer(count * Uint32Array.BYTES_PER_ELEMENT));
}
