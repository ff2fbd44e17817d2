// Colours, or none: chalk is loaded only when there is something to colour.
import type { Io, OutputStream } from '../io.ts';

type Paint = (text: string) => string;

export interface Style {
  bold: Paint;
  dim: Paint;
  red: Paint;
  yellow: Paint;
  green: Paint;
}

/** The style for one stream. NO_COLOR turns colours off, FORCE_COLOR on; else a terminal has them. */
export async function styleFor(stream: OutputStream, io: Pick<Io, 'env'>): Promise<Style> {
  if (!hasColors(stream, io.env)) return plain;
  const { Chalk } = await import('chalk');
  return new Chalk({ level: 1 });
}

export function hasColors(stream: OutputStream, env: Io['env']): boolean {
  if (env.NO_COLOR) return false;
  if (env.FORCE_COLOR) return env.FORCE_COLOR !== '0';
  return stream.isTTY === true && env.TERM !== 'dumb';
}

const asIs: Paint = text => text;
const plain: Style = { bold: asIs, dim: asIs, red: asIs, yellow: asIs, green: asIs };
