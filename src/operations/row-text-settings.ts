// The settings of a session that reads rows with COPY: pg_dump's, and what makes the text of a row the same in every run.
// Only scans by page and line pointer are left, in that order: the ctids of rows are asked for after their text.

export const rowTextSettings = `
  SET DateStyle = ISO; SET IntervalStyle = postgres; SET extra_float_digits = 3; SET bytea_output = hex;
  SET lc_monetary = 'C'; SET TimeZone = 'UTC'; SET search_path = ''; SET row_security = off;
  SET synchronize_seqscans = off; SET max_parallel_workers_per_gather = 0; SET jit = off;
  SET enable_seqscan = on; SET enable_tidscan = on; SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off;
  SET xmloption = content`;
