// What tables of backups say of their series: nothing where all are whole and of one server.
import { formatCount } from '../../base/units.ts';
import { type Part, partText } from '../../repository/series.ts';
import type { Column } from './table.ts';

interface Row {
  database: string | null;
  server?: string | null;
  part?: Part;
}

/** Filled in when a database of one name comes from several servers. */
export function serverColumn<R extends Row>(rows: readonly R[]): Column<R> {
  const named = new Set(rows.map(row => JSON.stringify([row.database, row.server ?? null])));
  const databases = new Set(rows.map(row => row.database));
  const isAmbiguous = named.size > databases.size;
  return { title: 'SERVER', text: row => (isAmbiguous ? (row.server ?? 'unknown') : '') };
}

/** Empty for a backup as it should be. */
export function stateText(backup: Row & { complete: boolean | null; missingCount?: number }): string {
  const { complete, missingCount, part } = backup;
  const missing = missingCount === undefined ? '' : `: ${formatCount(missingCount)} missing`;
  const words = [
    ...(complete === false ? [`incomplete${missing}`] : []),
    ...(part === undefined ? [] : [`part: ${shortened(partText(part))}`]),
  ];
  return words.join('; ');
}

function shortened(text: string): string {
  return text.length <= 60 ? text : `${text.slice(0, 59)}…`;
}
