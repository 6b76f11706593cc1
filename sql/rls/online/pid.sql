-- The backend of a connection.
SELECT pg_backend_pid() AS "pid!"
