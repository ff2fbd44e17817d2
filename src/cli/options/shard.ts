// The value of --shard: one part of several.

/** @returns `undefined` when the text is no part; part 0 is the coordinator's. */
export function parseShard(text: string): { shard: number; shards: number } | undefined {
  const [, shard, shards] = /^(\d{1,3})\/(\d{1,3})$/.exec(text) ?? [];
  const part = { shard: Number(shard), shards: Number(shards) };
  return part.shards >= 1 && part.shards <= 100 && part.shard <= part.shards ? part : undefined;
}
