-- What leads from one thing to another: from a role to those that it is a member of, from a view to what it reads; and,
-- where $1 says so, from a function to the functions and tables that its body names.
WITH function AS (
    SELECT f.oid, f.proname,
           -- Without comments; what stands in literals counts where statements are put together.
           regexp_replace(coalesce(pg_get_function_sqlbody(f.oid), f.prosrc),
                          '(''(?:[^'']|'''')*'')|--[^\n]*|/\*(?:[^*]|\*+[^*/])*\*+/', '\1 ', 'g') AS text
      FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace JOIN pg_language l ON l.oid = f.prolang
     WHERE $1 AND l.lanname NOT IN ('c', 'internal') AND n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'
),
word AS (
    SELECT DISTINCT f.oid, coalesce(m.found[1], lower(m.found[2])) AS name
      FROM function f
     CROSS JOIN LATERAL regexp_matches(
               CASE WHEN f.text ~* '(\mexecute\M|_to_xml|\mdblink)' THEN f.text
                    ELSE regexp_replace(f.text, '''(?:[^'']|'''')*''', '''''', 'g') END,
               '"([^"]+)"|([[:alpha:]_][[:alnum:]_$]*)', 'g') AS m(found)
)
SELECT 'role' AS from_class, m.member AS from_oid, 'role' AS to_class, m.roleid AS to_oid
  FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
 WHERE coalesce((to_jsonb(m) ->> 'set_option')::boolean, true) OR m.admin_option
    OR coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, r.rolinherit)
UNION
SELECT 'relation', r.ev_class, 'relation', d.refobjid
  FROM pg_rewrite r
  JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
                  AND d.refobjid <> r.ev_class
 WHERE r.rulename = '_RETURN'
UNION
SELECT 'function', w.oid, 'function', f.oid FROM word w JOIN function f ON f.proname = w.name AND f.oid <> w.oid
UNION
SELECT 'function', w.oid, 'relation', c.oid
  FROM word w JOIN pg_class c ON c.relname = w.name AND c.relkind IN ('r', 'p', 'f', 'v', 'm')
 ORDER BY 1, 2, 3, 4
