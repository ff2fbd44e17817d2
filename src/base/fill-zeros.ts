// For arrays of numbers by the places of something.

/** Makes an array reach an index, zero by zero: one with holes takes several times the memory. */
export function fillZeros(numbers: number[], index: number): void {
  while (numbers.length <= index) numbers.push(0);
}
