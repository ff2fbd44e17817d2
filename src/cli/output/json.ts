// The one JSON document of a run with --json.
import type { Io } from '../io.ts';

export function printJson(document: object, io: Pick<Io, 'stdout'>): void {
  io.stdout.write(`${JSON.stringify(document, null, 2)}\n`);
}
