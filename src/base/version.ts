// The version of this package.
import { readFileSync } from 'node:fs';

/** As in package.json, which is two folders up both from the source and from the build. */
export const version: string = (
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
).version;
