// Parts of a repository's address in messages: people put keys and signatures there, and messages are logged.

/** @returns the part in quotes; without it where it has what separates or encodes credentials. */
export function quoteOfAddress(part: string): string {
  return /[@?:=%&]/.test(part) ? 'what the address gives' : JSON.stringify(part);
}
