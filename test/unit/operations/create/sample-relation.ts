// A relation as the catalog gives it, for tests of what is decided about relations.

import type { Relation } from '../../../../src/postgres/catalog.ts';

let nextOid = 16_384;

/** An ordinary, selected, readable table without rows; `change` says what is different. */
export function sampleRelation(change: Partial<Relation> = {}): Relation {
  return {
    oid: String(nextOid++),
    schema: 'public',
    name: 't',
    kind: 'r',
    isUnlogged: false,
    isHeap: true,
    extension: null,
    isConfiguration: false,
    isSelected: true,
    isDataSelected: true,
    canRead: true,
    canLock: true,
    hidesRows: false,
    pages: 0,
    sizeBytes: (change.pages ?? 0) * 8192,
    columns: ['id'],
    parents: [],
    loadVia: null,
    owner: null,
    missing: null,
    ...change,
  };
}
