// Brings the segments of a worker thread to the storage: hash, look up, compress, seal, check there; the storage itself
// is the main thread's.
import { freeBuffer } from '../../base/free-buffer.ts';
import type { DataKey } from '../../crypto/seal.ts';
import type { SegmentRef } from '../../repository/manifest.ts';
import { sealSegment, segmentId } from '../../repository/segment.ts';
import type { SegmentStore } from '../../repository/segment-store.ts';

interface SealedSegment {
  id: string;
  object: Uint8Array<ArrayBuffer>;
  plainBytes: number;
}

/** What the main thread answers. */
export type SealerHost = {
  find(id: string): Promise<SegmentRef | undefined>;
  put(segment: SealedSegment): Promise<SegmentRef>;
};

/** The main thread's side. */
export function sealerHost(store: SegmentStore): SealerHost {
  return {
    find: id => store.find(id),
    put: async ({ id, object, plainBytes }) => {
      const bytes = Buffer.from(object.buffer, object.byteOffset, object.length);
      try {
        return await store.put(id, bytes, plainBytes);
      } finally {
        freeBuffer(bytes);
      }
    },
  };
}

/** Sealed objects on their way to the storage. */
const maxPuts = 4;

export interface SealerOptions {
  find: (id: string) => Promise<SegmentRef | undefined>;
  /** Hands the object's memory over. */
  put: (segment: SealedSegment) => Promise<SegmentRef>;
  secret: Buffer;
  key: DataKey | null;
  level: number;
}

export class SegmentSealer {
  readonly #options: SealerOptions;
  readonly #waiters: (() => void)[] = [];
  #puts = 0;

  constructor(options: SealerOptions) {
    this.#options = options;
  }

  /** @param release gives back the memory that the bytes are in. */
  async store(plain: Buffer, release: () => void): Promise<SegmentRef> {
    const { find, put, secret, key, level } = this.#options;
    const id = segmentId(secret, plain);
    let object: Buffer;
    const plainBytes = plain.length;
    try {
      const found = await find(id);
      if (found !== undefined) return found;
      object = sealSegment(id, plain, key, level);
      // Holding the buffer while the storage is slow is what slows the reading down.
      await this.#turn();
    } finally {
      release();
    }
    try {
      const bytes = new Uint8Array(object.buffer as ArrayBuffer, object.byteOffset, object.length);
      return await put({ id, object: bytes, plainBytes });
    } finally {
      this.#puts--;
      this.#waiters.shift()?.();
    }
  }

  async #turn(): Promise<void> {
    while (this.#puts >= maxPuts) await new Promise<void>(resolve => this.#waiters.push(resolve));
    this.#puts++;
  }
}
