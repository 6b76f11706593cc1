-- How far the index is that the backend $1 builds, as a percentage of the phase that it is in.
SELECT phase AS "phase!",
       CASE WHEN tuples_total > 0 THEN 100 * tuples_done / tuples_total
            WHEN blocks_total > 0 THEN 100 * blocks_done / blocks_total END AS percent
  FROM pg_stat_progress_create_index WHERE pid = $1::int AND phase IS NOT NULL
