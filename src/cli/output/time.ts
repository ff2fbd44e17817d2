// Points in time as people read them.

/** `2026-01-31 18:00:05`, in UTC, from ISO 8601. */
export function formatTime(iso: string): string {
  return new Date(iso).toISOString().slice(0, 19).replace('T', ' ');
}
