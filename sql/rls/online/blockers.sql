-- Whom the backend $1 waits for, directly.
SELECT b.pid AS "pid!", coalesce(a.usename::text, '') AS "role!", coalesce(a.application_name, '') AS "application!",
       coalesce(a.state, '') AS "state!", extract(epoch FROM clock_timestamp() - a.xact_start)::bigint AS seconds,
       coalesce(left(regexp_replace(a.query, '\s+', ' ', 'g'), 80), '') AS "query!"
  FROM (SELECT DISTINCT unnest(pg_blocking_pids($1::int)) AS pid) b
  LEFT JOIN pg_stat_activity a ON a.pid = b.pid
 ORDER BY b.pid
