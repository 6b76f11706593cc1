-- Who has the lock of try_lock.sql.
SELECT l.pid AS "pid!", coalesce(a.usename::text, '') AS "role!", coalesce(a.application_name, '') AS "application!",
       coalesce(a.state, '') AS "state!", extract(epoch FROM clock_timestamp() - a.backend_start)::bigint AS seconds,
       coalesce(left(regexp_replace(a.query, '\s+', ' ', 'g'), 80), '') AS "query!"
  FROM pg_locks l
  LEFT JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
   AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
   AND (l.classid::bigint << 32) | l.objid::bigint = hashtextextended('tenancy.isolation.online', 0)
