-- What setup changed is written down as it changes it, so that a teardown removes exactly that and gives back what was
-- taken away. The catalogue tells: the state of a table before and after, whatever the statements between were.

-- One fact of a table's, sequence's or schema's state. Role '' is PUBLIC; relation or schema is 0 where it is about the other.
CREATE TYPE tenancy.isolation_fact AS (relation regclass, schema regnamespace, kind text, object text, role text, detail text);

CREATE TABLE tenancy.isolation_changes (
    relation    regclass NOT NULL,
    schema      regnamespace NOT NULL,
    kind        text NOT NULL,
    object      text NOT NULL,
    role        text NOT NULL,
    -- Whether it was there before setup and is gone, or the other way round.
    taken       boolean NOT NULL,
    detail      text NOT NULL,
    changed_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (relation, schema, kind, object, role, taken)
);
COMMENT ON TABLE tenancy.isolation_changes IS 'What setup made, and what it took away: what a teardown undoes';
DO $$
BEGIN
    EXECUTE format('GRANT SELECT ON tenancy.isolation_changes TO %I', tenancy.role_name('auditor'));
END $$;

-- Rights in an access list, of everybody but the owner. The owner's name is left out of them: they follow the ownership.
CREATE FUNCTION tenancy.rights(acl aclitem[], owner oid)
RETURNS TABLE (privilege text, role text, detail text) LANGUAGE plpgsql STABLE ROWS 4 SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT a.privilege_type, coalesce(r.rolname::text, ''),
           CASE WHEN a.grantor = owner THEN '' ELSE format('GRANTED BY %I', pg_get_userbyid(a.grantor)) END
           || CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
      FROM aclexplode(acl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
     WHERE a.grantee <> owner AND (a.grantee = 0 OR r.oid IS NOT NULL);
END $$;

-- The sequences that a table's defaults draw from: hardly ever more than one, which is what keeps whoever asks from reading
-- all of pg_class.
CREATE FUNCTION tenancy.sequences_of(p_relation regclass) RETURNS SETOF regclass
LANGUAGE plpgsql STABLE ROWS 1 SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT c.oid::regclass
      FROM (SELECT d.objid FROM pg_depend d
             WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'a'
               AND d.refclassid = 'pg_class'::regclass AND d.refobjid = p_relation
            UNION
            SELECT d.refobjid FROM pg_attrdef f
              JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
             WHERE f.adrelid = p_relation AND d.refclassid = 'pg_class'::regclass) s (oid)
      JOIN pg_class c ON c.oid = s.oid WHERE c.relkind = 'S';
END $$;

-- Everything about a table that isolation touches. What a partition has from its parent is the parent's. Asked of every
-- table twice: planning it once takes a fraction of the time.
CREATE FUNCTION tenancy.isolation_state(p_relation regclass) RETURNS SETOF tenancy.isolation_fact
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
        SELECT 'constraint', k.conname, '', pg_get_constraintdef(k.oid) FROM pg_constraint k
         WHERE k.conrelid = p_relation AND k.contype IN ('f', 'u') AND k.conparentid = 0
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

-- Writes down what changed between two states. What was there first is kept, whatever setup makes of it later; what setup
-- made and then took away again leaves no trace.
CREATE FUNCTION tenancy.remember(before tenancy.isolation_fact[], after tenancy.isolation_fact[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    f tenancy.isolation_fact;
BEGIN
    FOR f IN SELECT * FROM unnest(before) EXCEPT SELECT * FROM unnest(after) LOOP
        DELETE FROM tenancy.isolation_changes c
         WHERE c.relation = f.relation AND c.schema = f.schema AND c.kind = f.kind AND c.object = f.object
           AND c.role = f.role AND NOT c.taken;
        IF NOT FOUND THEN
            INSERT INTO tenancy.isolation_changes (relation, schema, kind, object, role, taken, detail)
            VALUES (f.relation, f.schema, f.kind, f.object, f.role, true, f.detail) ON CONFLICT DO NOTHING;
        END IF;
    END LOOP;
    FOR f IN SELECT * FROM unnest(after) EXCEPT SELECT * FROM unnest(before) LOOP
        DELETE FROM tenancy.isolation_changes c
         WHERE c.relation = f.relation AND c.schema = f.schema AND c.kind = f.kind AND c.object = f.object
           AND c.role = f.role AND c.taken AND c.detail = f.detail;
        IF NOT FOUND THEN
            INSERT INTO tenancy.isolation_changes (relation, schema, kind, object, role, taken, detail)
            VALUES (f.relation, f.schema, f.kind, f.object, f.role, false, f.detail)
            ON CONFLICT ON CONSTRAINT isolation_changes_pkey DO UPDATE SET detail = excluded.detail;
        END IF;
    END LOOP;
END $$;

-- As it was, and writes down what it changed.
CREATE OR REPLACE FUNCTION tenancy.establish(relation regclass, kind text, tenant_column text DEFAULT NULL, admin_bypass boolean DEFAULT NULL)
RETURNS TABLE ("position" int, action text, statement text, note text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    target CONSTANT regclass := relation;
    change record;
    before tenancy.isolation_fact[];
BEGIN
    PERFORM tenancy.lock_isolation();
    -- A statement of its own after the lock, so that it sees what another setup left.
    FOR change IN
        SELECT * FROM tenancy.missing(relation, kind, tenant_column, admin_bypass) m ORDER BY m."position"
    LOOP
        IF change.statement IS NOT NULL THEN
            IF before IS NULL THEN
                before := ARRAY(SELECT s FROM tenancy.isolation_state(target) s);
            END IF;
            EXECUTE change.statement;
        END IF;
        RETURN QUERY SELECT change."position", change.action, change.statement, change.note;
    END LOOP;
    IF before IS NOT NULL THEN
        PERFORM tenancy.remember(before, ARRAY(SELECT s FROM tenancy.isolation_state(target) s));
    END IF;
END $$;

-- What setup changed about a table. Of a table that was protected before changes were written down (or by the script of
-- `rls setup --print`), what is recognisably setup's: its policies, and the rights of roles that are the control plane's.
CREATE FUNCTION tenancy.changes_of(p_relation regclass)
RETURNS TABLE (kind text, object text, role text, taken boolean, detail text, recorded boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.kind, c.object, c.role, c.taken, c.detail, true FROM tenancy.isolation_changes c WHERE c.relation = p_relation
    UNION ALL
    SELECT f.kind, f.object, f.role, false, f.detail, false FROM tenancy.isolation_state(p_relation) f
     WHERE f.relation = p_relation
       AND NOT EXISTS (SELECT FROM tenancy.isolation_changes c WHERE c.relation = p_relation)
       AND CASE f.kind
           WHEN 'policy' THEN (f.object IN ('tenant_isolation', 'tenant_floor') AND f.detail ~ 'tenancy\.current_tenant_id')
               OR (f.object = 'tenant_admin' AND f.detail ~ format('TO %I USING \(true\)', tenancy.role_name('admin')))
           WHEN 'right' THEN f.role IN (tenancy.role_name('app'), tenancy.role_name('admin'))
           WHEN 'enable' THEN true
           WHEN 'force' THEN true
           ELSE false END;
$$;

-- What undoes setup on one table, in order: rows with a statement, and rows with a note about what stays. Changes nothing.
-- What tables share, such as a right on their schema, goes with the last of them; those in gone are taken for undone.
CREATE FUNCTION tenancy.removal(relation regclass, gone regclass[] DEFAULT '{}')
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
    made AS (SELECT c.kind, c.object, c.role, p.detail FROM changes c
               JOIN present p ON p.relation = target AND p.kind = c.kind AND p.object = c.object AND p.role = c.role
              WHERE NOT c.taken),
    -- What is missing now of what there was.
    lost AS (SELECT c.kind, c.object, c.role, c.detail FROM changes c
              WHERE c.taken AND NOT EXISTS (SELECT FROM present p WHERE p.relation = target AND p.kind = c.kind
                                               AND p.object = c.object AND p.role = c.role AND p.detail = c.detail)),
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
        -- References that setup made of other tables to a key that it made here: what they were before is back.
        SELECT 5, x.name || k.conname || s.n, CASE s.n WHEN 1 THEN 'foreign_key' ELSE 'forget' END, CASE s.n
                   WHEN 1 THEN format('ALTER TABLE %s DROP CONSTRAINT %I%s', x.name, k.conname,
                                      format(', ADD CONSTRAINT %I %s', k.conname, l.detail))
                   ELSE format('DELETE FROM tenancy.isolation_changes WHERE relation = %L::regclass AND kind = ''constraint'' AND object = %L',
                               x.name, k.conname) END, NULL
          FROM pg_constraint k
          JOIN pg_class c ON c.oid = k.conrelid
          JOIN pg_namespace n ON n.oid = c.relnamespace
          JOIN tenancy.isolation_changes h ON h.relation = k.conrelid AND h.kind = 'constraint' AND h.object = k.conname AND NOT h.taken
          LEFT JOIN tenancy.isolation_changes l ON l.relation = k.conrelid AND l.kind = 'constraint' AND l.object = k.conname AND l.taken
          JOIN pg_class i ON i.oid = k.conindid
          CROSS JOIN LATERAL (SELECT format('%I.%I', n.nspname, c.relname) AS name) x
          CROSS JOIN generate_series(1, 2) s (n)
         WHERE k.confrelid = target AND k.conrelid <> target AND k.contype = 'f' AND k.conparentid = 0
           AND k.conrelid <> ALL (gone)
           AND EXISTS (SELECT FROM made m WHERE m.kind = 'constraint' AND m.object = i.relname)
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
               AND NOT EXISTS (SELECT FROM tenancy.isolation_changes h WHERE h.relation = f.conrelid AND h.kind = 'constraint'
                                  AND h.object = f.conname AND NOT h.taken)) x
         WHERE m.kind = 'constraint'
        UNION ALL
        -- A key that carried no tenant is back once its successor is gone.
        SELECT 8, l.object, CASE WHEN l.detail ~ '^FOREIGN' THEN 'foreign_key' ELSE 'key' END,
               format('ALTER TABLE %s ADD CONSTRAINT %I %s', name, l.object, l.detail), NULL
          FROM lost l WHERE l.kind = 'constraint'
        UNION ALL
        SELECT 9, m.object, 'drop_index', format('DROP INDEX %I.%I', object.nspname, m.object), NULL FROM made m WHERE m.kind = 'index'
        UNION ALL
        SELECT 10, m.object, CASE WHEN x.primary_key THEN 'note' ELSE 'nullable' END,
               CASE WHEN NOT x.primary_key THEN format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', name, m.object) END,
               CASE WHEN x.primary_key THEN format('%I stays NOT NULL: it is part of the primary key', m.object) END
          FROM made m
          JOIN pg_attribute a ON a.attrelid = target AND a.attname = m.object
          CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = target AND i.indisprimary
                                                AND a.attnum = ANY (i.indkey::int2[])) AS primary_key) x
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
        SELECT 16, 'changes', 'forget', format('DELETE FROM tenancy.isolation_changes WHERE relation = %L::regclass', name), NULL
         WHERE EXISTS (SELECT FROM tenancy.isolation_changes c WHERE c.relation = target)
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
CREATE FUNCTION tenancy.dismantle(relation regclass)
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

-- What setup changed something about, of these relations, or of all where none is given: tables that are registered, and
-- views. Partitions and children come before their parents.
CREATE FUNCTION tenancy.under_isolation(relations regclass[]) RETURNS TABLE (relation regclass, name text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE known AS (
        SELECT r.relation::oid AS relation FROM tenancy.protected_tables r
        UNION
        SELECT r.relation::oid FROM tenancy.isolation_changes r WHERE r.relation <> 0
    ), depths AS (
        SELECT k.relation, 0 AS depth FROM known k
        UNION ALL
        SELECT i.inhrelid, d.depth + 1 FROM depths d JOIN pg_inherits i ON i.inhparent = d.relation
    )
    SELECT c.oid::regclass, format('%I.%I', n.nspname, c.relname)
      FROM known k
      JOIN pg_class c ON c.oid = k.relation
      JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN (SELECT d.relation, max(d.depth) AS depth FROM depths d GROUP BY d.relation) d ON d.relation = k.relation
     WHERE c.relkind IN ('r', 'p', 'v') AND (c.oid = ANY (relations) OR cardinality(relations) = 0)
     ORDER BY d.depth DESC, n.nspname, c.relname;
$$;

-- Registered tables that were dropped since, and what was written down of them.
CREATE OR REPLACE FUNCTION tenancy.forget_dropped_tables() RETURNS bigint LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM tenancy.isolation_changes c
     WHERE c.relation <> 0 AND NOT EXISTS (SELECT FROM pg_class k WHERE k.oid = c.relation);
    WITH gone AS (
        DELETE FROM tenancy.protected_tables r
         WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = r.relation) RETURNING 1
    )
    SELECT count(*) FROM gone;
$$;

DO $$
DECLARE
    function regprocedure;
BEGIN
    FOREACH function IN ARRAY ARRAY[
        'tenancy.rights(aclitem[], oid)', 'tenancy.sequences_of(regclass)', 'tenancy.isolation_state(regclass)',
        'tenancy.remember(tenancy.isolation_fact[], tenancy.isolation_fact[])', 'tenancy.changes_of(regclass)',
        'tenancy.removal(regclass, regclass[])', 'tenancy.dismantle(regclass)',
        'tenancy.under_isolation(regclass[])']::regprocedure[] LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', function);
    END LOOP;
END $$;
