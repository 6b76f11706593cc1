-- The teardown of 0011 for what hardening makes of unique keys (0014): each is back as it was, and the references to it
-- with it. Where rows of several tenants have the same value by then, it stays, and so does what was written down of it.

-- Everything about a table that isolation touches. What a partition has from its parent is the parent's. Asked of every
-- table twice: planning it once takes a fraction of the time.
CREATE OR REPLACE FUNCTION tenancy.isolation_state(p_relation regclass) RETURNS SETOF tenancy.isolation_fact
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off
SET plan_cache_mode = force_generic_plan SET jit = off AS $$
BEGIN
    RETURN QUERY
    SELECT p_relation, 0::oid::regnamespace, f.kind, f.object, f.role, f.detail
      FROM (
        SELECT 'owner' AS kind, '' AS object, '' AS role, pg_get_userbyid(c.relowner)::text AS detail
          FROM pg_class c WHERE c.oid = p_relation
        UNION ALL
        SELECT 'enable', '', '', '' FROM pg_class c WHERE c.oid = p_relation AND c.relrowsecurity
        UNION ALL
        SELECT 'force', '', '', '' FROM pg_class c WHERE c.oid = p_relation AND c.relforcerowsecurity
        UNION ALL
        SELECT 'policy', p.polname, '', format('AS %s FOR %s TO %s%s%s',
               CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
               CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
               (SELECT string_agg(CASE WHEN r = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', ' ORDER BY r)
                  FROM unnest(p.polroles) r),
               ' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')',
               ' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')
          FROM pg_policy p WHERE p.polrelid = p_relation
        UNION ALL
        SELECT 'not_null', a.attname, '', '' FROM pg_attribute a
          JOIN pg_class c ON c.oid = a.attrelid AND NOT c.relispartition AND c.relkind IN ('r', 'p')
         WHERE a.attrelid = p_relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull
        UNION ALL
        -- Complete, as in 0014, and without a call: the event trigger on new tables has a copy of this alone.
        SELECT 'constraint', k.conname, '', CASE WHEN k.contype NOT IN ('p', 'u') OR i.reloptions IS NULL THEN pg_get_constraintdef(k.oid)
               ELSE regexp_replace(pg_get_constraintdef(k.oid), '( DEFERRABLE( INITIALLY DEFERRED)?)?$',
                                   format(' WITH (%s)\1', array_to_string(i.reloptions, ', '))) END
          FROM pg_constraint k JOIN pg_class i ON i.oid = k.conindid
         WHERE k.conrelid = p_relation AND k.contype IN ('f', 'p', 'u', 'x') AND k.conparentid = 0
        UNION ALL
        SELECT 'index', c.relname, '', pg_get_indexdef(c.oid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
         WHERE i.indrelid = p_relation AND NOT c.relispartition
           AND NOT EXISTS (SELECT FROM pg_constraint k
                            WHERE k.conrelid = p_relation AND k.conindid = c.oid AND k.contype IN ('p', 'u', 'x'))
        UNION ALL
        SELECT 'trigger', t.tgname, '', pg_get_triggerdef(t.oid) FROM pg_trigger t
         WHERE t.tgrelid = p_relation AND NOT t.tgisinternal AND t.tgparentid = 0
        UNION ALL
        SELECT 'option', split_part(o, '=', 1), '', o FROM pg_class c, unnest(c.reloptions) o
         WHERE c.oid = p_relation AND c.relkind = 'v'
        UNION ALL
        SELECT 'right', r.privilege, r.role, r.detail FROM pg_class c, tenancy.rights(c.relacl, c.relowner) r
         WHERE c.oid = p_relation
        UNION ALL
        SELECT 'right', format('%s (%I)', r.privilege, a.attname), r.role, r.detail
          FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid, tenancy.rights(a.attacl, c.relowner) r
         WHERE c.oid = p_relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attacl IS NOT NULL
      ) f
    UNION ALL
    SELECT s::regclass, 0::oid::regnamespace, 'right', r.privilege, r.role, r.detail
      FROM tenancy.sequences_of(p_relation) s JOIN pg_class c ON c.oid = s, tenancy.rights(c.relacl, c.relowner) r
    UNION ALL
    SELECT 0::oid::regclass, n.oid::regnamespace, 'right', r.privilege, r.role, r.detail
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, tenancy.rights(n.nspacl, n.nspowner) r
     WHERE c.oid = p_relation
    UNION ALL
    SELECT 0::oid::regclass, 0::oid::regnamespace, 'membership', r.rolname, current_user, ''
      FROM pg_roles r WHERE r.rolname = tenancy.role_name('owner')
       AND EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles u ON u.oid = m.member
                    WHERE m.roleid = r.oid AND u.rolname = current_user);
END $$;

-- What keeps a key from being as it was before it carried the tenant, which it does as its first column.
CREATE FUNCTION tenancy.key_obstacle(p_index regclass) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
DECLARE
    bound      CONSTANT int := 1000;
    key        record;
    terms      text[] := tenancy.key_terms(p_index, 2);
    obstacle   text;
    collisions text;
    rows       bigint;
BEGIN
    SELECT i.indrelid::regclass AS relation, i.indcollation, i.indnullsnotdistinct, pg_get_expr(i.indpred, i.indrelid) AS predicate,
           format('%s%I.%I', CASE c.relkind WHEN 'r' THEN 'ONLY ' END, n.nspname, c.relname) AS name, k.conexclop
      INTO key
      FROM pg_index i
      JOIN pg_class c ON c.oid = i.indrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_constraint k ON k.conrelid = i.indrelid AND k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')
     WHERE i.indexrelid = p_index;
    SELECT coalesce(tenancy.key_dependents(p_index) || ' depends on it',
                    (SELECT string_agg(format('reference %I of %I.%I is not setup''s', f.conname, n.nspname, c.relname), '; ' ORDER BY f.conname)
                       FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                      WHERE f.conindid = p_index AND f.contype = 'f' AND f.conparentid = 0
                        AND (SELECT count(*) FROM tenancy.isolation_changes h WHERE h.relation = f.conrelid
                                AND h.kind = 'constraint' AND h.object = f.conname) < 2))
      INTO obstacle;
    IF obstacle IS NOT NULL OR row_security_active(key.relation) THEN
        RETURN obstacle;
    END IF;
    IF key.conexclop IS NULL THEN
        SELECT format('SELECT %1$s, count(*) FROM %2$s WHERE %3$s GROUP BY %1$s HAVING count(*) > 1',
                      string_agg(x.term, ', ' ORDER BY x.n), key.name,
                      concat_ws(' AND ', '(' || key.predicate || ')', CASE WHEN key.indnullsnotdistinct THEN 'true'
                          ELSE string_agg(x.term || ' IS NOT NULL', ' AND ' ORDER BY x.n) END))
          INTO collisions
          FROM (SELECT u.n, u.term || CASE WHEN l.oid IS NULL THEN '' ELSE format(' COLLATE %I.%I', n.nspname, l.collname) END AS term
                  FROM unnest(terms) WITH ORDINALITY u (term, n)
                  LEFT JOIN pg_collation l ON l.oid = (key.indcollation::oid[])[u.n] AND l.collname <> 'default'
                  LEFT JOIN pg_namespace n ON n.oid = l.collnamespace) x;
    ELSE
        SELECT format('SELECT a, b FROM (%1$s) a JOIN (%1$s) b ON (a.tableoid, a.ctid) < (b.tableoid, b.ctid) AND %2$s',
                      format('SELECT tableoid, ctid, %s FROM %s%s', string_agg(format('%s AS c%s', u.term, u.n), ', ' ORDER BY u.n),
                             key.name, ' WHERE ' || key.predicate),
                      string_agg(format('a.c%s OPERATOR(%I.%s) b.c%s', u.n, s.nspname, o.oprname, u.n), ' AND ' ORDER BY u.n))
          INTO collisions
          FROM unnest(terms) WITH ORDINALITY u (term, n)
          JOIN pg_operator o ON o.oid = key.conexclop[u.n + 1]
          JOIN pg_namespace s ON s.oid = o.oprnamespace;
    END IF;
    EXECUTE format('SELECT count(*) FROM (SELECT FROM (%s) AS found LIMIT %s) AS bounded', collisions, bound + 1) INTO rows;
    RETURN CASE WHEN rows > 0 THEN format('%s by now (%s)', CASE
        WHEN rows > bound THEN format('tenants have more than %s values in common', bound)
        WHEN rows = 1 THEN 'tenants have a value in common' ELSE format('tenants have %s values in common', rows) END, collisions) END;
END $$;

-- The keys of a table that hardening replaced: with the statement, or what follows the constraint's name, of what was there,
-- and the columns that references to it had, where it can have any.
CREATE FUNCTION tenancy.replaced_keys(p_relation regclass)
RETURNS TABLE (kind text, object text, index regclass, was text, as_left boolean, columns int2[])
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT m.kind, m.object, x.oid::regclass,
           regexp_replace(l.detail, '^(CREATE UNIQUE INDEX ' || regexp_replace(quote_ident(l.object), '([^[:alnum:]_])', '\\\1', 'g') || ' ON) ONLY ', '\1 '),
           m.detail = f.detail, CASE WHEN i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
           THEN ARRAY(SELECT a FROM unnest((i.indkey::int2[])[1:i.indnkeyatts - 1]) a ORDER BY a) END
      FROM tenancy.isolation_changes m
      JOIN tenancy.isolation_changes l ON l.relation = m.relation AND l.kind = m.kind AND l.object = m.object AND l.taken
      JOIN pg_class c ON c.oid = m.relation
      JOIN pg_class x ON x.relname = m.object AND x.relnamespace = c.relnamespace
      JOIN pg_index i ON i.indexrelid = x.oid AND i.indrelid = c.oid
      CROSS JOIN LATERAL (SELECT s.detail FROM tenancy.isolation_state(p_relation) s
                           WHERE s.relation = p_relation AND s.kind = m.kind AND s.object = m.object) f
     WHERE m.relation = p_relation AND m.kind IN ('constraint', 'index') AND NOT m.taken
       AND l.detail !~ '^FOREIGN' AND l.detail <> f.detail;
$$;

-- As it was, and gives keys back: what refers to a key lets go of it first and takes it up again last.
CREATE OR REPLACE FUNCTION tenancy.removal(relation regclass, gone regclass[] DEFAULT '{}')
RETURNS TABLE ("position" int, action text, statement text, note text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
#variable_conflict use_column
DECLARE
    target CONSTANT regclass := relation;
    name   text;
    thing  text;
    object record;
    me     pg_roles;
BEGIN
    SELECT c.relkind, c.relnamespace, n.nspname, format('%I.%I', n.nspname, c.relname) AS name INTO object
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = target;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such table' USING ERRCODE = 'undefined_table', HINT = 'name it with its schema';
    ELSIF object.nspname = 'tenancy' THEN
        RAISE EXCEPTION '% belongs to the control plane', object.name
            USING ERRCODE = 'TN010', HINT = 'the control plane stays under isolation; name a table of the platform';
    END IF;
    name := object.name;
    thing := CASE object.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END;
    SELECT * INTO me FROM pg_roles r WHERE r.rolname = current_user;

    RETURN QUERY
    WITH changes AS MATERIALIZED (SELECT * FROM tenancy.changes_of(target)),
    present AS MATERIALIZED (SELECT * FROM tenancy.isolation_state(target)),
    replaced AS MATERIALIZED (
        SELECT k.*, CASE WHEN k.as_left THEN tenancy.key_obstacle(k.index) ELSE 'it is not as setup left it' END AS in_the_way
          FROM tenancy.replaced_keys(target) k
    ),
    -- References of this table whose fate is that of a key: they are given back where it is.
    bound AS MATERIALIZED (
        SELECT k.conname::text AS object, k.confrelid::regclass AS relation, x.in_the_way, format('%I.%I', n.nspname, c.relname) AS parent
          FROM pg_constraint k
          JOIN tenancy.isolation_changes h ON h.relation = target AND h.kind = 'constraint' AND h.object = k.conname AND NOT h.taken
          JOIN pg_class c ON c.oid = k.confrelid
          JOIN pg_namespace n ON n.oid = c.relnamespace
          CROSS JOIN LATERAL (SELECT ARRAY(SELECT a FROM unnest(k.confkey[2:]) a ORDER BY a) AS columns) y
          CROSS JOIN LATERAL (
            (SELECT p.in_the_way FROM replaced p WHERE k.confrelid = target AND p.columns = y.columns
              ORDER BY p.index <> k.conindid, p.in_the_way IS NOT NULL LIMIT 1)
            UNION ALL
            (SELECT NULL FROM tenancy.replaced_keys(k.confrelid) p WHERE k.confrelid <> target AND p.columns = y.columns LIMIT 1)) x
         WHERE k.conrelid = target AND k.contype = 'f' AND k.conparentid = 0
    ),
    -- References to this table that setup made, and the key that decides on them.
    referring AS MATERIALIZED (
        SELECT k.conrelid, k.conname, k.conindid, l.detail, format('%I.%I', n.nspname, c.relname) AS name,
               p.index IS NOT NULL AS bound, p.in_the_way
          FROM pg_constraint k
          JOIN pg_class c ON c.oid = k.conrelid
          JOIN pg_namespace n ON n.oid = c.relnamespace
          JOIN tenancy.isolation_changes h ON h.relation = k.conrelid AND h.kind = 'constraint' AND h.object = k.conname AND NOT h.taken
          LEFT JOIN tenancy.isolation_changes l ON l.relation = k.conrelid AND l.kind = 'constraint' AND l.object = k.conname AND l.taken
          LEFT JOIN LATERAL (SELECT p.* FROM replaced p WHERE p.columns = ARRAY(SELECT a FROM unnest(k.confkey[2:]) a ORDER BY a)
                              ORDER BY p.index <> k.conindid, p.in_the_way IS NOT NULL LIMIT 1) p ON true
         WHERE k.confrelid = target AND k.contype = 'f' AND k.conparentid = 0
    ),
    -- What stays for now, and so does what is known of it.
    kept AS (
        SELECT p.kind, p.object FROM replaced p WHERE p.in_the_way IS NOT NULL
        UNION ALL
        SELECT 'constraint', b.object FROM bound b WHERE b.in_the_way IS NOT NULL OR b.relation <> ALL (target || gone)
        UNION ALL
        SELECT 'constraint', k.conname FROM referring r JOIN pg_constraint k ON k.conrelid = target AND k.conindid = r.conindid AND k.contype = 'u'
         WHERE r.in_the_way IS NOT NULL
    ),
    made AS (SELECT c.kind, c.object, c.role, p.detail FROM changes c
               JOIN present p ON p.relation = target AND p.kind = c.kind AND p.object = c.object AND p.role = c.role
              WHERE NOT c.taken
                AND NOT EXISTS (SELECT FROM replaced x WHERE x.kind = c.kind AND x.object = c.object)
                AND NOT (c.kind = 'constraint' AND EXISTS (SELECT FROM bound x WHERE x.object = c.object))),
    -- What is missing now of what there was.
    lost AS (SELECT c.kind, c.object, c.role, c.detail FROM changes c
              WHERE c.taken AND NOT EXISTS (SELECT FROM present p WHERE p.relation = target AND p.kind = c.kind
                                               AND p.object = c.object AND p.role = c.role AND p.detail = c.detail)
                AND NOT EXISTS (SELECT FROM replaced x WHERE x.kind = c.kind AND x.object = c.object)
                AND NOT (c.kind = 'constraint' AND EXISTS (SELECT FROM bound x WHERE x.object = c.object))),
    -- Those that are as they were before, now that the key is, or the one that setup made for them is gone.
    incoming AS MATERIALIZED (
        SELECT r.conrelid <> target AS foreign, r.conname, r.detail, r.name FROM referring r JOIN pg_class i ON i.oid = r.conindid
         WHERE CASE WHEN r.bound THEN r.in_the_way IS NULL
                    ELSE r.conrelid <> ALL (target || gone)
                         AND EXISTS (SELECT FROM made m WHERE m.kind = 'constraint' AND m.object = i.relname) END
    ),
    others AS (SELECT string_agg(quote_ident(p.object), ', ' ORDER BY p.object) AS policies FROM present p
                WHERE p.kind = 'policy' AND NOT EXISTS (SELECT FROM made m WHERE m.kind = 'policy' AND m.object = p.object)),
    steps AS (
        SELECT 1 AS part, m.role AS n, 'revoke' AS action,
               format('REVOKE %s ON %s FROM %s', string_agg(m.object, ', ' ORDER BY m.object), name,
                      coalesce(quote_ident(nullif(m.role, '')), 'PUBLIC')) AS statement, NULL::text AS note
          FROM made m WHERE m.kind = 'right' GROUP BY m.role
        UNION ALL
        SELECT 2, m.object, 'drop_policy', format('DROP POLICY %I ON %s', m.object, name), NULL FROM made m WHERE m.kind = 'policy'
        UNION ALL
        SELECT 3, '', 'no_force', format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', name), NULL FROM made m WHERE m.kind = 'force'
        UNION ALL
        -- Somebody else's policies stand on it: without them the table would be open.
        SELECT 4, '', CASE WHEN o.policies IS NULL THEN 'disable' ELSE 'note' END,
               CASE WHEN o.policies IS NULL THEN format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', name) END,
               CASE WHEN o.policies IS NOT NULL THEN format('row-level security stays on: %s on it %s not setup''s', o.policies,
                    CASE WHEN o.policies ~ ',' THEN 'are' ELSE 'is' END) END
          FROM made m, others o WHERE m.kind = 'enable'
        UNION ALL
        SELECT 4, m.object, 'drop_trigger', format('DROP TRIGGER %I ON %s', m.object, name), NULL FROM made m WHERE m.kind = 'trigger'
        UNION ALL
        SELECT 5, i.name || i.conname, 'foreign_key', format('ALTER TABLE %s DROP CONSTRAINT %I', i.name, i.conname), NULL FROM incoming i
        UNION ALL
        SELECT CASE k.contype WHEN 'f' THEN 6 ELSE 7 END, m.object,
               CASE WHEN x.names IS NOT NULL THEN 'note' WHEN k.contype = 'f' THEN 'drop_foreign_key' ELSE 'drop_key' END,
               CASE WHEN x.names IS NULL THEN format('ALTER TABLE %s DROP CONSTRAINT %I', name, m.object) END,
               CASE WHEN x.names IS NOT NULL THEN format('constraint %I stays: %s refers to it', m.object, x.names) END
          FROM made m
          JOIN pg_constraint k ON k.conrelid = target AND k.conname = m.object
          CROSS JOIN LATERAL (
            SELECT string_agg(DISTINCT f.conrelid::regclass::text, ', ') AS names FROM pg_constraint f
             WHERE f.conindid = k.conindid AND f.contype = 'f' AND k.contype = 'u' AND f.conparentid = 0
               AND NOT EXISTS (SELECT FROM referring r WHERE r.conrelid = f.conrelid AND r.conname = f.conname AND r.in_the_way IS NULL)) x
         WHERE m.kind = 'constraint'
        UNION ALL
        -- A key that carried no tenant is back once its successor is gone.
        SELECT 7.1, p.object || s.n, 'key', s.statement, NULL
          FROM replaced p
          CROSS JOIN LATERAL (
            SELECT 1, format('DROP INDEX %I.%I', object.nspname, p.object) WHERE p.kind = 'index'
            UNION ALL
            SELECT 2, CASE p.kind WHEN 'index' THEN p.was
                                  ELSE format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s', name, p.object, p.object, p.was) END
            UNION ALL
            SELECT m.n::int + 2, m.statement FROM tenancy.key_marks(p.index) WITH ORDINALITY m (statement, n)) s (n, statement)
         WHERE p.in_the_way IS NULL
        UNION ALL
        SELECT 7.2, p.object, 'note', NULL, format('unique key %I goes on carrying the tenant: %s', p.object, p.in_the_way)
          FROM replaced p WHERE p.in_the_way IS NOT NULL
        UNION ALL
        SELECT 7.3, '', 'note', NULL, format('%I cannot see all rows yet: a key with values that tenants have in common will stay', me.rolname)
         WHERE row_security_active(target) AND EXISTS (SELECT FROM replaced p WHERE p.in_the_way IS NULL)
        UNION ALL
        SELECT 8, l.object, CASE WHEN l.detail ~ '^FOREIGN' THEN 'foreign_key' ELSE 'key' END,
               CASE l.kind WHEN 'index' THEN l.detail ELSE format('ALTER TABLE %s ADD CONSTRAINT %I %s', name, l.object, l.detail) END, NULL
          FROM lost l WHERE l.kind IN ('constraint', 'index')
        UNION ALL
        SELECT 8.1, i.name || i.conname || s.n, CASE s.n WHEN 1 THEN 'foreign_key' ELSE 'forget' END, CASE s.n
                   WHEN 1 THEN format('ALTER TABLE %s ADD CONSTRAINT %I %s', i.name, i.conname, i.detail)
                   ELSE format('DELETE FROM tenancy.isolation_changes WHERE relation = %L::regclass AND kind = ''constraint'' AND object = %L',
                               i.name, i.conname) END, NULL
          FROM incoming i CROSS JOIN generate_series(1, 2) s (n)
         WHERE CASE s.n WHEN 1 THEN i.detail IS NOT NULL ELSE i.foreign END
        UNION ALL
        SELECT 8.2, b.object, 'note', NULL, format('reference %I goes on carrying the tenant: %s', b.object,
                   CASE WHEN b.relation = target THEN 'so does the key' ELSE format('it is as before once the key of %s is', b.parent) END)
          FROM bound b WHERE b.in_the_way IS NOT NULL OR b.relation <> ALL (target || gone)
        UNION ALL
        SELECT 9, m.object, 'drop_index', format('DROP INDEX %I.%I', object.nspname, m.object), NULL FROM made m WHERE m.kind = 'index'
        UNION ALL
        SELECT 10, m.object, CASE WHEN x.primary_key THEN 'note' ELSE 'nullable' END,
               CASE WHEN NOT x.primary_key THEN format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', name, m.object) END,
               CASE WHEN x.primary_key THEN format('%I stays NOT NULL: it is part of the primary key', m.object) END
          FROM made m
          JOIN pg_attribute a ON a.attrelid = target AND a.attname = m.object
          CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = target AND i.indisprimary
                                                AND a.attnum = ANY (i.indkey::int2[])
                                                AND NOT EXISTS (SELECT FROM replaced p WHERE p.index = i.indexrelid AND p.in_the_way IS NULL))
                                     AS primary_key) x
         WHERE m.kind = 'not_null'
        UNION ALL
        SELECT 11, l.object, 'policy', format('CREATE POLICY %I ON %s %s', l.object, name, l.detail), NULL FROM lost l WHERE l.kind = 'policy'
        UNION ALL
        SELECT 12, l.role || l.object, CASE WHEN l.detail ~ '^GRANTED' THEN 'note' ELSE 'grant' END,
               CASE WHEN l.detail !~ '^GRANTED' THEN format('GRANT %s ON %s TO %s%s', l.object, name,
                    coalesce(quote_ident(nullif(l.role, '')), 'PUBLIC'), l.detail) END,
               CASE WHEN l.detail ~ '^GRANTED' THEN format('%s had %s on it (%s): GRANT it as that role',
                    coalesce(quote_ident(nullif(l.role, '')), 'PUBLIC'), l.object, lower(left(l.detail, 10)) || substr(l.detail, 11)) END
          FROM lost l
         WHERE l.kind = 'right' AND (l.role = '' OR EXISTS (SELECT FROM pg_roles r WHERE r.rolname = l.role))
        UNION ALL
        SELECT 13, o.object, 'option', format('ALTER %s %s %s', thing, name, o.what), NULL
          FROM (SELECT m.object, format('RESET (%I)', m.object) AS what FROM made m
                 WHERE m.kind = 'option' AND NOT EXISTS (SELECT FROM lost l WHERE l.kind = 'option' AND l.object = m.object)
                UNION ALL
                SELECT l.object, format('SET (%s)', l.detail) FROM lost l WHERE l.kind = 'option') o
        UNION ALL
        SELECT 14, '', CASE WHEN x.may THEN 'owner' ELSE 'note' END,
               CASE WHEN x.may THEN format('ALTER TABLE %s OWNER TO %I', name, l.detail) END,
               CASE WHEN NOT x.may THEN format('it belonged to %I, and %I may not give it back: as a superuser, ALTER TABLE %s OWNER TO %I',
                                               l.detail, me.rolname, name, l.detail) END
          FROM lost l
          JOIN pg_roles r ON r.rolname = l.detail
          CROSS JOIN LATERAL (SELECT me.rolsuper OR (
              pg_has_role(r.oid, CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)
              AND has_schema_privilege(r.oid, object.relnamespace, 'CREATE')) AS may) x
         WHERE l.kind = 'owner' AND EXISTS (SELECT FROM made m WHERE m.kind = 'owner' AND m.detail = tenancy.role_name('owner'))
        UNION ALL
        SELECT 15, format('%I.%I', n.nspname, s.relname) || c.role, 'revoke',
               format('REVOKE %s ON SEQUENCE %I.%I FROM %I', c.object, n.nspname, s.relname, c.role), NULL
          FROM tenancy.sequences_of(target) q
          JOIN pg_class s ON s.oid = q
          JOIN pg_namespace n ON n.oid = s.relnamespace
          JOIN tenancy.isolation_changes c ON c.relation = q AND c.kind = 'right' AND NOT c.taken
          JOIN present p ON p.relation = q AND p.kind = c.kind AND p.object = c.object AND p.role = c.role
         WHERE NOT EXISTS (SELECT FROM tenancy.protected_tables r, tenancy.sequences_of(r.relation) o
                            WHERE r.relation <> ALL (target || gone) AND o = q)
        UNION ALL
        SELECT 16, '', 'unregister', format('DELETE FROM tenancy.protected_tables WHERE relation = %L::regclass', name), NULL
         WHERE EXISTS (SELECT FROM tenancy.protected_tables r WHERE r.relation = target)
        UNION ALL
        SELECT 16, 'changes', 'forget', format('DELETE FROM tenancy.isolation_changes WHERE relation = %L::regclass%s', name,
                   (SELECT format(' AND (kind, object) NOT IN (%s)', string_agg(DISTINCT format('(%L, %L)', k.kind, k.object), ', ')) FROM kept k
                    HAVING count(*) > 0)), NULL
         WHERE EXISTS (SELECT FROM tenancy.isolation_changes c WHERE c.relation = target
                          AND NOT EXISTS (SELECT FROM kept k WHERE k.kind = c.kind AND k.object = c.object))
        UNION ALL
        SELECT 17, c.role || c.object, 'schema', format('REVOKE %s ON SCHEMA %I FROM %I', c.object, object.nspname, c.role), NULL
          FROM tenancy.isolation_changes c
          JOIN present p ON p.schema = c.schema AND p.kind = c.kind AND p.object = c.object AND p.role = c.role
         WHERE c.schema = object.relnamespace::regnamespace AND c.kind = 'right' AND NOT c.taken AND c.role <> ''
           AND NOT EXISTS (SELECT FROM tenancy.protected_tables r JOIN pg_class o ON o.oid = r.relation
                            WHERE o.relnamespace = object.relnamespace AND r.relation <> ALL (target || gone))
        UNION ALL
        SELECT 18, '', 'note', NULL, 'nobody wrote down what setup made of it: its index, foreign key, NOT NULL and owner stay'
         WHERE EXISTS (SELECT FROM changes c WHERE NOT c.recorded)
        UNION ALL
        -- The teardown itself needs it until its end.
        SELECT 19, c.role, 'note', NULL, format('%I stays a member of %I: REVOKE %I FROM %I', c.role, c.object, c.object, c.role)
          FROM tenancy.isolation_changes c
         WHERE c.kind = 'membership' AND NOT c.taken
           AND NOT EXISTS (SELECT FROM tenancy.protected_tables r WHERE r.relation <> ALL (target || gone))
    )
    SELECT (row_number() OVER (ORDER BY s.part, s.n))::int, s.action, s.statement, s.note FROM steps s;
END $$;
COMMENT ON FUNCTION tenancy.removal IS 'Statements that undo setup on one table, and notes on what stays; changes nothing';

-- Carries it out, and tells what it did.
CREATE OR REPLACE FUNCTION tenancy.dismantle(relation regclass)
RETURNS TABLE ("position" int, action text, statement text, note text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    target CONSTANT regclass := relation;
    change record;
    sequences regclass[];
BEGIN
    PERFORM tenancy.lock_isolation();
    sequences := ARRAY(SELECT s FROM tenancy.sequences_of(target) s);
    -- Whether a key can be as it was is for all rows to tell.
    IF row_security_active(target) AND EXISTS (SELECT FROM tenancy.replaced_keys(target)) THEN
        FOR change IN SELECT * FROM tenancy.removal(target) r
                       WHERE r.action IN ('drop_policy', 'no_force', 'disable') ORDER BY r."position" LOOP
            EXECUTE change.statement;
            RETURN QUERY SELECT change."position", change.action, change.statement, change.note;
        END LOOP;
    END IF;
    FOR change IN SELECT * FROM tenancy.removal(target) r ORDER BY r."position" LOOP
        IF change.statement IS NOT NULL THEN
            EXECUTE change.statement;
        END IF;
        RETURN QUERY SELECT change."position", change.action, change.statement, change.note;
    END LOOP;
    -- What others still need stays written down.
    DELETE FROM tenancy.isolation_changes c
     WHERE c.relation = ANY (sequences) AND NOT EXISTS (
        SELECT FROM pg_class s, tenancy.rights(s.relacl, s.relowner) r
         WHERE s.oid = c.relation AND r.privilege = c.object AND r.role = c.role);
    DELETE FROM tenancy.isolation_changes c
     WHERE c.kind = 'constraint' AND NOT c.taken
       AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.relation AND k.conname = c.object);
    DELETE FROM tenancy.isolation_changes c
     WHERE c.schema <> 0 AND c.kind = 'right' AND NOT EXISTS (
        SELECT FROM tenancy.protected_tables r JOIN pg_class k ON k.oid = r.relation WHERE k.relnamespace = c.schema);
    DELETE FROM tenancy.isolation_changes c
     WHERE c.kind = 'membership' AND NOT EXISTS (SELECT FROM tenancy.protected_tables);
END $$;
COMMENT ON FUNCTION tenancy.dismantle IS 'Takes one table out of isolation: undoes what setup made; returns what it carried out';

DO $$
DECLARE
    function regprocedure;
BEGIN
    FOREACH function IN ARRAY ARRAY['tenancy.key_obstacle(regclass)', 'tenancy.replaced_keys(regclass)']::regprocedure[] LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', function);
    END LOOP;
END $$;
