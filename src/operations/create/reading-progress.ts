// How far the reading of rows has come, told together with what holds it back, whichever of the two has changed.
import type { Teller } from '../events.ts';
import { LoadLimit } from './load-limit.ts';

export class ReadingProgress {
  /** --max-load. */
  readonly limit: LoadLimit;
  readonly #teller: Teller;
  #reached = { doneBytes: 0, totalBytes: 0, rows: 0 };

  constructor(maxLoad: number | undefined, teller: Teller) {
    this.#teller = teller;
    this.limit = new LoadLimit({
      maxLoad,
      onLook: () => this.#tell(),
      onWarning: (message, hint) => teller.warn(message, hint),
    });
  }

  /** @param totalBytes of tables, as on disk. */
  begin(totalBytes: number): void {
    this.#reached = { doneBytes: 0, totalBytes, rows: 0 };
  }

  reach(doneBytes: number, rows: number): void {
    this.#reached = { ...this.#reached, doneBytes, rows };
    this.#tell();
  }

  #tell(): void {
    const { heldBack } = this.limit;
    this.#teller.emit({ type: 'progress', ...this.#reached, ...(heldBack && { heldBack }) });
  }
}
