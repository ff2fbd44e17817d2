// Divides the large objects of an archive into work, and says where segments end. Both go by the objects themselves, so
// that one more or one less moves the borders beside it and no others (docs/decisions/large-objects.md).
import { mixBits } from '../../base/mix-bits.ts';
import { sharedNumbers } from '../../base/shared-numbers.ts';
import type { LargeObjectGroup } from '../../postgres/archive-scan.ts';

export interface LargeObjectPlan {
  /** All of them, in the order of the archive; in memory that threads share, for there may be hundreds of millions. */
  oids: Uint32Array;
  /** Where each group begins, by index, and the dump id of its entry. */
  groups: { first: number; dumpId: number }[];
  /** Where each item begins, by index. */
  items: Uint32Array;
  /** A segment ends with an object only once it has so many bytes. */
  segmentMinBytes: number;
  /** Objects from this size on have segments of their own: equal ones are stored once, and changing one leaves its neighbours. */
  ownSegmentBytes: number;
}

/** What an item has about: some segments, and a worker is done with it in no time. */
const itemSegments = 8;
const maxItemObjects = 1024;
/** Enough for workers to end together; of more, items have more objects. */
const itemsWanted = 4096;
const minSegmentMinBytes = 512 * 1024;
const maxSegmentMinBytes = 4 * 1024 * 1024;
/** Of more than these, segments are larger: each is named in the manifest. */
const segmentsWanted = 32_768;
/** How many bytes of objects a segment takes about, once it might end. */
const tailBytes = 128 * 1024;

/** @param totalBytes of all of them, roughly. */
export function planLargeObjects(groups: readonly LargeObjectGroup[], totalBytes: number): LargeObjectPlan {
  const count = groups.reduce((sum, { oids }) => sum + oids.length, 0);
  const oids = sharedNumbers(count);
  const begun: LargeObjectPlan['groups'] = [];
  let first = 0;
  for (const { dumpId, oids: members } of groups) {
    begun.push({ first, dumpId });
    oids.set(members, first);
    first += members.length;
  }
  // Powers of two, so that borders stay until there is twice as much, and then each second one does.
  const segmentMinBytes = powerOfTwo(totalBytes / segmentsWanted, minSegmentMinBytes, maxSegmentMinBytes);
  const itemBytes = itemSegments * segmentMinBytes;
  // By the number as well: of objects that are small but for a few, each item ends a small segment.
  const perItem = powerOfTwo(
    Math.max((count * itemBytes) / Math.max(1, totalBytes), count / itemsWanted),
    1,
    maxItemObjects,
  );
  const items = count === 0 ? [] : [0];
  for (let index = 1; index < count; index++)
    if (isChosen(oids[index - 1] ?? 0, 1 / perItem)) items.push(index);
  const shared = sharedNumbers(items.length);
  shared.set(items);
  return {
    oids,
    groups: begun,
    items: shared,
    segmentMinBytes,
    ownSegmentBytes: 2 * segmentMinBytes,
  };
}

/** Whether a segment that may end does so with this object. */
export function endsSegment(oid: number, objectBytes: number): boolean {
  return isChosen(oid, objectBytes / tailBytes);
}

/** The power of two, times `least`, that is not below the value; `most` at most. */
function powerOfTwo(value: number, least: number, most: number): number {
  let power = least;
  while (power < value && power < most) power *= 2;
  return power;
}

/** Chooses so many of all oids; always the same ones, and of a smaller part some of them. */
function isChosen(oid: number, part: number): boolean {
  return (mixBits(oid) >>> 0) / 0x1_0000_0000 < part;
}
