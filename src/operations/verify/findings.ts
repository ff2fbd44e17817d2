// What a verification finds wrong with one backup: every problem once, with the tables and page ranges it concerns.
import type { ErrorCode, PgkeepError } from '../../base/errors.ts';
import type { TableEntry } from '../../repository/manifest.ts';
import type { ConcernedTable, RangeSpan } from '../../repository/verification.ts';

export interface VerificationProblem {
  code: ErrorCode;
  message: string;
  /** The object that is damaged or missing, or contradicts others. */
  object?: string;
  /** The tables whose rows it concerns. */
  tables?: ConcernedTable[];
}

/** What the three flags of a result speak of. */
type Aspect = 'checksum' | 'encryption' | 'size';

export class Findings {
  readonly #isEncrypted: boolean;
  readonly #problems = new Map<string, VerificationProblem>();
  readonly #aspects = new Set<Aspect>();
  /** The tables of each problem, by name: a key that is lost may concern all there are. */
  readonly #concerned = new Map<VerificationProblem, Map<string, ConcernedTable>>();
  /** Whether what was asked for could not be tried, for reasons that are not the backup's. */
  isUntried = false;

  constructor(isEncrypted: boolean) {
    this.#isEncrypted = isEncrypted;
  }

  get problems(): VerificationProblem[] {
    return [...this.#problems.values()];
  }

  get isEmpty(): boolean {
    return this.#problems.size === 0;
  }

  /** Whether nothing of the kind was found. */
  isFine(aspect: Aspect): boolean {
    return !this.#aspects.has(aspect);
  }

  /** What follows from a problem, without being one of its own. */
  doubt(...aspects: Aspect[]): void {
    for (const aspect of aspects) this.#aspects.add(aspect);
  }

  /** Adds a problem; one of the same code about the same object is the same problem. */
  add(error: Pick<PgkeepError, 'code' | 'message'>, object?: string): VerificationProblem {
    this.doubt(...aspectsOf(error.code, object ?? '', this.#isEncrypted));
    const key = `${error.code} ${object ?? error.message}`;
    const known = this.#problems.get(key);
    if (known !== undefined) return known;
    const problem: VerificationProblem = { code: error.code, message: error.message };
    if (object !== undefined) problem.object = object;
    this.#problems.set(key, problem);
    return problem;
  }

  /** Notes that a problem concerns a range of a table, or all of the table. Ranges come in order. */
  concern(problem: VerificationProblem, table: TableEntry, ranges: number, range?: number): void {
    const concerned = this.#concern(problem, table);
    if (range === undefined) return;
    concerned.ranges ??= [];
    const span = spanOf(table.rangePages, range, ranges);
    const before = concerned.ranges.at(-1);
    if (before?.last === range) return;
    if (before !== undefined && before.last === range - 1) {
      before.last = span.last;
      before.lastPage = span.lastPage;
    } else {
      concerned.ranges.push(span);
    }
  }

  #concern(problem: VerificationProblem, { schema, name }: TableEntry): ConcernedTable {
    const byName = this.#concerned.get(problem) ?? new Map<string, ConcernedTable>();
    this.#concerned.set(problem, byName);
    const key = JSON.stringify([schema, name]);
    let concerned = byName.get(key);
    if (concerned === undefined) {
      concerned = { schema, name };
      byName.set(key, concerned);
      problem.tables ??= [];
      problem.tables.push(concerned);
    }
    return concerned;
  }
}

/** @param rangePages of the table; 0 when it was read as one. */
export function spanOf(rangePages: number, range: number, ranges: number): RangeSpan {
  if (rangePages === 0) return { first: range, last: range, firstPage: null, lastPage: null };
  return {
    first: range,
    last: range,
    firstPage: range * rangePages,
    // The last range is open: it has whatever the table held beyond.
    lastPage: range === ranges - 1 ? null : (range + 1) * rangePages - 1,
  };
}

function aspectsOf(code: ErrorCode, object: string, isEncrypted: boolean): Aspect[] {
  const isKey = object.startsWith('keys/');
  const isSealed = object.startsWith('segments/') || object.startsWith('backups/');
  switch (code) {
    case 'OBJECT_MISSING':
      return isKey ? ['size', 'encryption'] : ['size'];
    case 'OBJECT_DAMAGED':
    case 'REPOSITORY_UNSUPPORTED':
    case 'REPOSITORY_MISMATCH':
      if (isKey) return ['encryption'];
      return isSealed && isEncrypted ? ['checksum', 'encryption'] : ['checksum'];
    case 'KEY_WRONG':
    case 'RECIPIENT_UNSUPPORTED':
      return ['encryption'];
    case 'CONTENT_MISMATCH':
    case 'STORAGE_UNREACHABLE':
    case 'STORAGE_DENIED':
      return ['size'];
    default:
      return [];
  }
}
