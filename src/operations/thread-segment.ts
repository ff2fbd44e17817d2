// A sealed segment as it crosses into a worker thread, which opens it: handed over, not copied.
import { Handover } from '../base/thread-calls.ts';
import type { DataKey } from '../crypto/seal.ts';

/** A sealed segment with the key its header names; `null` without encryption. */
export interface FetchedSegment {
  object: Buffer;
  key: DataKey | null;
}

export interface ThreadSegment {
  object: Uint8Array;
  key: { id: string; bytes: Uint8Array } | null;
}

/** A result that hands the segment over, together with whatever else is said about it. */
export function handOver<T extends object>(
  { object, key }: FetchedSegment,
  more: T,
): Handover<T & ThreadSegment> {
  // Memory that a buffer shares with others cannot be handed over.
  const own = object.byteLength === object.buffer.byteLength ? object : new Uint8Array(object);
  return new Handover({ ...more, object: own, key }, [own.buffer as ArrayBuffer]);
}

export function takeOver({ object, key }: ThreadSegment): FetchedSegment {
  return { object: asBuffer(object), key: key && { id: key.id, bytes: asBuffer(key.bytes) } };
}

/** Bytes that crossed between threads have lost their class. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}
