// How fast bytes have been moving lately, and how long the rest will take.

const windowMs = 10_000;

export class RateMeter {
  #samples: { atMs: number; bytes: number }[] = [];

  add(atMs: number, bytes: number): void {
    this.#samples.push({ atMs, bytes });
    // The newest sample from before the window stays: the rate is measured from there.
    while ((this.#samples[1]?.atMs ?? atMs) <= atMs - windowMs) this.#samples.shift();
  }

  /** Over the last ten seconds; undefined until there is half a second to measure. */
  get bytesPerSecond(): number | undefined {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || last.atMs - first.atMs < 500) return undefined;
    return ((last.bytes - first.bytes) * 1000) / (last.atMs - first.atMs);
  }

  /** Milliseconds until `totalBytes`; undefined when nothing moves or all has been done. */
  remainingMs(totalBytes: number): number | undefined {
    const rate = this.bytesPerSecond;
    const done = this.#samples.at(-1)?.bytes;
    if (rate === undefined || rate <= 0 || done === undefined || done >= totalBytes) return undefined;
    return ((totalBytes - done) * 1000) / rate;
  }
}
