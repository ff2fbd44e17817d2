// The steps of a run in words.
import type { Phase } from '../../operations/events.ts';

export const phaseWords: Readonly<Record<Phase, string>> = {
  connect: 'connecting',
  lock: 'locking the tables',
  data: 'copying the rows',
  'wait-for-shards': 'waiting for the shards',
  'wait-for-coordinator': 'waiting for the coordinator',
  reconcile: 'comparing with the catalog',
  finish: 'finishing',
  preflight: 'checking backup and target',
  'open-backup': 'reading the backup',
  'create-database': 'creating the database',
  'pre-data': 'restoring the definitions',
  'post-data': 'building indexes and constraints',
  analyze: 'collecting statistics',
  check: 'checking what is there',
  read: 'reading the segments',
  'write-definitions': 'writing the definitions',
  'write-rows': 'writing the rows',
  'write-indexes': 'writing indexes and constraints',
  retention: 'deciding which backups stay',
  collect: 'collecting what none needs',
  scratch: 'preparing a database to restore into',
  compare: 'comparing the rows',
  probe: 'trying the storage',
  replicate: 'copying to the replica',
};
