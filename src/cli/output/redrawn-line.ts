// One line at the bottom of a terminal that is written over and over, with a spinner that shows that work goes on.
import type { OutputStream } from '../io.ts';
import { singleLine } from './table.ts';

const frames = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const frameMs = 80;
/** What terminals that tell no width (or 0, as some containers do) have at least. */
const assumedColumns = 80;
const clear = '\r\u001b[K';

export class RedrawnLine {
  readonly #stream: OutputStream;
  readonly #timer: NodeJS.Timeout;
  #text = '';
  #frame = 0;

  constructor(stream: OutputStream) {
    this.#stream = stream;
    this.#timer = setInterval(() => this.#draw(), frameMs);
    // The line ends with the run, and does not keep it going.
    this.#timer.unref();
  }

  /** Replaces the text; it is drawn with the next frame. */
  set(text: string): void {
    this.#text = singleLine(text);
  }

  /** Writes lines that stay, above the redrawn one. */
  printAbove(text: string): void {
    this.#stream.write(clear + text);
  }

  /** Clears the line for good; a second call is harmless. */
  stop(): void {
    if (this.#frame < 0) return;
    clearInterval(this.#timer);
    this.#frame = -1;
    this.#stream.write(clear);
  }

  #draw(): void {
    const frame = frames[this.#frame % frames.length];
    this.#frame++;
    // A line that wraps could not be cleared as one.
    const width = (this.#stream.columns || assumedColumns) - 3;
    const text = this.#text.length > width ? `${this.#text.slice(0, width - 1)}…` : this.#text;
    this.#stream.write(`${clear}${frame} ${text}`);
  }
}
