// The memory of segments that are read one after the other, and of those that several look at.

import { expect, test } from 'vitest';
import { SegmentShelf } from '../segment-shelf.ts';

/** More than is left to the garbage collector. */
const bytes = 2 * 1024 * 1024;
const text = (character: string) => Buffer.alloc(bytes, `${character}\n`);

async function next(pieces: AsyncGenerator<Buffer, void>): Promise<Buffer> {
  const { value } = await pieces.next();
  if (value === undefined) throw new Error('there are no more pieces');
  return value;
}

test('a piece is there until the next one is asked for, and then its memory is given back', async () => {
  const shelf = new SegmentShelf();
  const pieces = shelf.reader({ isFreed: true }).read([shelf.put(text('a')), shelf.put(text('b'))]);
  const first = await next(pieces);
  expect(first.equals(text('a'))).toBe(true);
  const second = await next(pieces);
  expect(second.equals(text('b'))).toBe(true);
  expect(first).toHaveLength(0);
});

test('what another reader looks at stays, however often it was fetched', async () => {
  const shelf = new SegmentShelf();
  const slices = [shelf.put(text('a')), shelf.put(text('b'))];
  const reader = shelf.reader({ isFreed: true });
  const [fast, slow] = [reader.read(slices), reader.read(slices)];
  await next(fast);
  const piece = await next(slow);
  await next(fast);
  await fast.next();
  expect(piece.equals(text('a'))).toBe(true);
  expect((await next(slow)).equals(text('b'))).toBe(true);
  expect(shelf.fetched).toHaveLength(4);
});

test('a segment of which a small part was read is kept for the other parts', async () => {
  const shelf = new SegmentShelf();
  const rest = text('r').length;
  const small = shelf.put(Buffer.from('small\n'), 0, rest);
  const slices = [small, shelf.put(text('a')), shelf.put(text('b')), small];
  const read: string[] = [];
  for await (const piece of shelf.reader({ isFreed: true }).read(slices)) {
    read.push(piece.toString('latin1', 0, 2));
  }
  expect(read).toEqual(['sm', 'a\n', 'b\n', 'sm']);
  expect(shelf.fetched).toHaveLength(3);
});

test('pieces stay as they are for those who keep them', async () => {
  const shelf = new SegmentShelf();
  const kept: Buffer[] = [];
  const slices = ['a', 'b', 'c'].map(character => shelf.put(text(character)));
  for await (const piece of shelf.reader().read(slices)) kept.push(piece);
  expect(kept.map(piece => piece.equals(text(piece.toString('latin1', 0, 1))))).toEqual([true, true, true]);
  expect(new Set(kept.map(piece => piece[0])).size).toBe(3);
});
