-- id: secret-in-catalog
-- title: A key or password stands in the catalogue, which everybody can read
-- severity: error
-- why: Every role reads settings and the text of every function: an injected statement takes the key, and signs or logs in as anyone.
-- fix: Change the secret, keep it in a table or service that only its user may read, and remove it here.
-- example: ALTER DATABASE platform SET app.jwt_secret = 'c2VjcmV0…';
-- example: SELECT setconfig FROM pg_db_role_setting;  -- as the application: the key that signs every tenant's sessions
-- What is found is never repeated: a report goes to logs and to pull requests.
WITH known(pattern, kind) AS (
    VALUES ('-----BEGIN [A-Z ]*PRIVATE KEY', 'a private key'),
           ('\mAKIA[0-9A-Z]{16}\M', 'an AWS access key'),
           ('\m(sk|rk)_live_[0-9A-Za-z]{16,}', 'a payment key'),
           ('\mgh[pousr]_[0-9A-Za-z]{30,}', 'a GitHub token'),
           ('\mxox[abprs]-[0-9A-Za-z-]{10,}', 'a Slack token'),
           ('\meyJ[0-9A-Za-z_-]{8,}\.eyJ[0-9A-Za-z_-]{8,}', 'a signed token'),
           ('\m[a-z][a-z0-9+.-]*://[^\s:/@'']+:[^\s:/@''%]{3,}@', 'a URL with a password')
),
setting AS (
    SELECT r.rolname, d.datname, n.quoted, x.name, coalesce(k.kind, 'a value that its name calls a secret') AS kind
      FROM pg_db_role_setting s
      LEFT JOIN pg_roles r ON r.oid = s.setrole
      LEFT JOIN pg_database d ON d.oid = s.setdatabase
     CROSS JOIN LATERAL unnest(s.setconfig) AS u(entry)
     CROSS JOIN LATERAL (SELECT split_part(u.entry, '=', 1) AS name, substr(u.entry, strpos(u.entry, '=') + 1) AS value) x
     CROSS JOIN LATERAL (SELECT string_agg(quote_ident(part), '.' ORDER BY position) AS quoted
                           FROM unnest(string_to_array(x.name, '.')) WITH ORDINALITY AS p(part, position)) n
      LEFT JOIN LATERAL (SELECT kind FROM known WHERE x.value ~ pattern LIMIT 1) k ON true
     WHERE (s.setdatabase = 0 OR d.datname = current_database())
       AND (k.kind IS NOT NULL
            OR x.name ~* '\..*(secret|passwd|password|api_?key|private_?key|signing_?key|encryption_?key|access_?key|auth_?token|access_?token)$'
               AND length(x.value) >= 8 AND x.value !~ '^[0-9.]+$')
),
source AS MATERIALIZED (
    SELECT f.oid, f.proname, n.nspname, f.prokind, coalesce(pg_get_function_sqlbody(f.oid), f.prosrc) AS text
      FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace JOIN pg_language l ON l.oid = f.prolang
     WHERE l.lanname NOT IN ('c', 'internal') AND n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'
       AND NOT EXISTS (SELECT FROM pg_depend d
                        WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e')
),
body AS (
    SELECT s.*, coalesce(
               (SELECT kind FROM known WHERE s.text ~ pattern LIMIT 1),
               CASE WHEN s.text ~* '\m\w*(secret|passwd|password|api_?key|private_?key|signing_?key|encryption_?key)\M"?(\s+constant)?(\s+(text|varchar|bytea))?\s*(:=|=>|=|\mdefault\M)\s*''[^''\s%]{8,}'''
                    THEN 'a literal that its name calls a secret'
                    WHEN s.text ~* '''[^'']*\mpassword\s*=\s*[^''\s%]{3,}[^'']*''' THEN 'a connection string with a password'
                    WHEN s.text ~* '\m(hmac|pgp_sym_encrypt|pgp_sym_decrypt|encrypt|decrypt|sign|verify)\s*\([^;]*?,\s*''[^''\s%]{8,}''(::\w+)?\s*[,)]'
                    THEN 'a key that is handed to a function of cryptography' END) AS kind
      FROM source s
     -- Most bodies hold none of these words, and are done with one look.
     WHERE s.text ~* '(secret|passw|key|hmac|pgp_sym|crypt|\msign|verify|-----BEGIN |AKIA|_live_|\mgh[pousr]_|\mxox|eyJ|://)'
)
SELECT NULL::oid AS relation, coalesce(quote_ident(s.rolname), quote_ident(s.datname), 'ALL') AS object,
       CASE WHEN s.rolname IS NULL AND s.datname IS NOT NULL THEN 'database' ELSE 'role' END AS object_kind,
       concat_ws(' ', s.name, CASE WHEN s.rolname IS NOT NULL AND s.datname IS NOT NULL THEN 'in database' END) AS detail,
       format('setting %s holds %s, and every role can read it', s.name, s.kind) AS message,
       format('pg_db_role_setting, %s', s.name) AS evidence,
       CASE WHEN s.rolname IS NOT NULL THEN format('ALTER ROLE %I%s RESET %s;', s.rolname, coalesce(' IN DATABASE ' || quote_ident(s.datname), ''), s.quoted)
            WHEN s.datname IS NOT NULL THEN format('ALTER DATABASE %I RESET %s;', s.datname, s.quoted)
            ELSE format('ALTER ROLE ALL RESET %s;', s.quoted) END AS fix,
       NULL::text AS severity
  FROM setting s
UNION ALL
SELECT NULL, format('%I.%I(%s)', b.nspname, b.proname, pg_get_function_identity_arguments(b.oid)),
       CASE b.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END, '',
       format('its text holds %s, and every role can read it', b.kind),
       'pg_proc, the body of the function',
       format('DROP ROUTINE %I.%I(%s);  -- and make it anew with the secret read from a table of its owner''s',
              b.nspname, b.proname, pg_get_function_identity_arguments(b.oid)),
       NULL
  FROM body b WHERE b.kind IS NOT NULL
