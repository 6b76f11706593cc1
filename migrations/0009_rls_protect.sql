-- Isolation as desired state, continued: policies, grants, and what carries the statements out.

-- The policies that are missing, or that bear our name and are no longer ours. Others' policies stay: the restrictive
-- floor holds whatever they permit.
CREATE FUNCTION tenancy.policy_changes(p_relation regclass, p_column text, p_bypass boolean)
RETURNS TABLE (action text, statement text, note text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
#variable_conflict use_column
DECLARE
    relation_name CONSTANT text := tenancy.checked_name(p_relation);
    app           CONSTANT text := tenancy.role_name('app');
    admin         CONSTANT text := tenancy.role_name('admin');
    tenant        record;
    wanted        record;
    present       boolean;
BEGIN
    SELECT * INTO tenant FROM tenancy.tenant_term(p_relation, p_column);
    FOR wanted IN
        SELECT * FROM (VALUES
            ('tenant_isolation', true, app, true, tenant.term, tenant.deparsed),
            ('tenant_floor', true, NULL, false,
             format('%s OR (SELECT pg_catalog.pg_has_role(current_user, %L, ''USAGE''))', tenant.term, admin),
             format('(%s OR ( SELECT pg_has_role(CURRENT_USER, %L::name, ''USAGE''::text) AS pg_has_role))',
                    tenant.deparsed, admin)),
            ('tenant_admin', p_bypass, admin, true, 'true', 'true')
        ) AS w (name, wanted, role, permissive, term, deparsed)
    LOOP
        present := EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = p_relation AND p.polname = wanted.name);
        CONTINUE WHEN present = wanted.wanted AND (NOT present OR EXISTS (
            SELECT FROM pg_policy p
             WHERE p.polrelid = p_relation AND p.polname = wanted.name AND p.polcmd = '*'
               AND p.polpermissive = wanted.permissive
               AND p.polroles = ARRAY[coalesce((SELECT r.oid FROM pg_roles r WHERE r.rolname = wanted.role), 0::oid)]
               AND pg_get_expr(p.polqual, p.polrelid) = wanted.deparsed
               AND pg_get_expr(p.polwithcheck, p.polrelid) = wanted.deparsed));
        IF present THEN
            RETURN QUERY SELECT 'drop_policy', format('DROP POLICY %I ON %s', wanted.name, relation_name), NULL::text;
        END IF;
        IF wanted.wanted THEN
            RETURN QUERY SELECT 'policy', format('CREATE POLICY %I ON %s AS %s FOR ALL TO %s USING (%s) WITH CHECK (%s)',
                wanted.name, relation_name, CASE WHEN wanted.permissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                coalesce(quote_ident(wanted.role), 'PUBLIC'), wanted.term, wanted.term), NULL::text;
        END IF;
    END LOOP;
    RETURN QUERY
    SELECT 'enable', format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation_name), NULL::text
      FROM pg_class c WHERE c.oid = p_relation AND NOT c.relrowsecurity
    UNION ALL
    SELECT 'force', format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation_name), NULL::text
      FROM pg_class c WHERE c.oid = p_relation AND NOT c.relforcerowsecurity;
END $$;

-- Brings the rights that one role (NULL for PUBLIC) has on a table to those wanted. With a fixed column UPDATE is
-- granted column by column, on all others. What p_grant does not let us grant is only left, or taken away.
CREATE FUNCTION tenancy.grant_changes(p_relation regclass, p_role text, p_wanted text[], p_fixed text, p_grant boolean)
RETURNS TABLE (action text, statement text, note text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    relation_name CONSTANT text := tenancy.checked_name(p_relation);
    role_sql      CONSTANT text := coalesce(quote_ident(p_role), 'PUBLIC');
    whole         CONSTANT text[] := CASE WHEN p_fixed IS NULL THEN p_wanted ELSE array_remove(p_wanted, 'UPDATE') END;
    role_oid      oid := coalesce((SELECT r.oid FROM pg_roles r WHERE r.rolname = p_role), 0);
    owner_oid     oid;
    held          text[];
    surplus       text[];
    missing       text[];
    fields        text;
    cascade       text;
BEGIN
    -- A right the role has as the owner goes with the ownership.
    SELECT c.relowner, ARRAY(SELECT a.privilege_type FROM aclexplode(c.relacl) a
                              WHERE a.grantee = role_oid AND a.grantor = c.relowner AND a.grantee <> c.relowner)
      INTO owner_oid, held FROM pg_class c WHERE c.oid = p_relation;
    surplus := ARRAY(SELECT h FROM unnest(held) h WHERE h <> ALL (whole) ORDER BY h);
    missing := ARRAY(SELECT w FROM unnest(whole) w WHERE p_grant AND w <> ALL (held));

    -- What the role passed on goes with what it had.
    cascade := CASE WHEN role_oid <> 0 AND (
            EXISTS (SELECT FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = p_relation AND a.grantor = role_oid)
            OR EXISTS (SELECT FROM pg_attribute t, aclexplode(t.attacl) a
                        WHERE t.attrelid = p_relation AND a.grantor = role_oid))
            AND role_oid <> owner_oid THEN ' CASCADE' ELSE '' END;

    RETURN QUERY
    SELECT 'note', NULL::text, format('%s has %s on it from %I: REVOKE it as that role', role_sql,
                                      string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type), r.rolname)
      FROM pg_class c, aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantor
     WHERE c.oid = p_relation AND a.grantee = role_oid AND a.grantor <> c.relowner AND a.privilege_type <> ALL (whole)
     GROUP BY r.rolname;
    IF surplus <> '{}' THEN
        RETURN QUERY SELECT 'revoke', format('REVOKE %s ON %s FROM %s%s', array_to_string(surplus, ', '), relation_name,
                                             role_sql, cascade), NULL::text;
    END IF;
    RETURN QUERY
    SELECT 'revoke', format('REVOKE %s (%s) ON %s FROM %s%s', x.privilege_type,
                            string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum), relation_name, role_sql, cascade),
           NULL::text
      FROM pg_attribute a, aclexplode(a.attacl) x
     WHERE a.attrelid = p_relation AND a.attnum > 0 AND NOT a.attisdropped AND x.grantee = role_oid AND x.grantor = owner_oid
       AND x.grantee <> owner_oid AND x.privilege_type <> ALL (surplus)
       AND (x.privilege_type <> ALL (p_wanted) OR (x.privilege_type = 'UPDATE' AND a.attname = p_fixed))
     GROUP BY x.privilege_type;
    IF missing <> '{}' THEN
        RETURN QUERY SELECT 'grant', format('GRANT %s ON %s TO %s', array_to_string(missing, ', '), relation_name, role_sql),
                            NULL::text;
    END IF;
    -- Where UPDATE on the whole table was just taken away, its columns went with it.
    IF p_fixed IS NOT NULL AND 'UPDATE' = ANY (p_wanted) AND (p_grant OR 'UPDATE' = ANY (surplus)) THEN
        SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO fields
          FROM pg_attribute a
         WHERE a.attrelid = p_relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> p_fixed
           AND a.attgenerated = ''
           AND ('UPDATE' = ANY (surplus) OR NOT EXISTS (
                SELECT FROM aclexplode(a.attacl) x WHERE x.grantee = role_oid AND x.grantor = owner_oid
                   AND x.grantee <> owner_oid AND x.privilege_type = 'UPDATE'));
        IF fields IS NOT NULL THEN
            RETURN QUERY SELECT 'grant', format('GRANT UPDATE (%s) ON %s TO %s', fields, relation_name, role_sql), NULL::text;
        END IF;
    END IF;
END $$;

-- The sequences that the defaults of a table draw from. An identity column's own needs no grant.
CREATE FUNCTION tenancy.default_sequences(p_relation regclass) RETURNS TABLE (sequence oid, name text, owner oid)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.oid, format('%I.%I', n.nspname, s.relname), s.relowner
      FROM pg_class s
      JOIN pg_namespace n ON n.oid = s.relnamespace
     WHERE s.relkind = 'S' AND s.oid IN (
           SELECT d.objid FROM pg_depend d
            WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'a'
              AND d.refclassid = 'pg_class'::regclass AND d.refobjid = p_relation
           UNION ALL
           SELECT d.refobjid FROM pg_attrdef f
             JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
            WHERE f.adrelid = p_relation AND d.refclassid = 'pg_class'::regclass)
     ORDER BY 2;
$$;

-- USAGE on the table's schema and sequences; p_sequences false takes the latter away, NULL leaves them.
CREATE FUNCTION tenancy.usage_changes(p_relation regclass, p_role text, p_schema boolean, p_sequences boolean)
RETURNS TABLE (action text, statement text, note text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN o.grantable THEN o.action ELSE 'note' END,
           CASE WHEN o.grantable THEN format('%s USAGE ON %s %s %I', upper(o.action), o.name,
                                             CASE o.action WHEN 'grant' THEN 'TO' ELSE 'FROM' END, p_role) END,
           CASE WHEN NOT o.grantable THEN format('%I may not %s USAGE on %s for %I', current_user, o.action, o.name, p_role) END
      FROM (
        SELECT 'grant' AS action, format('SCHEMA %I', n.nspname) AS name,
               pg_has_role(n.nspowner, 'USAGE') OR has_schema_privilege(n.oid, 'USAGE WITH GRANT OPTION') AS grantable
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.oid = p_relation AND p_schema AND NOT has_schema_privilege(p_role, n.oid, 'USAGE')
        UNION ALL
        SELECT CASE WHEN p_sequences THEN 'grant' ELSE 'revoke' END, format('SEQUENCE %s', s.name),
               pg_has_role(s.owner, 'USAGE')
          FROM tenancy.default_sequences(p_relation) s
         WHERE p_sequences <> EXISTS (
               SELECT FROM pg_class c, aclexplode(c.relacl) a
                WHERE c.oid = s.sequence AND a.privilege_type = 'USAGE'
                  AND a.grantee = (SELECT r.oid FROM pg_roles r WHERE r.rolname = p_role))
      ) o;
$$;

-- What a tenant's table lacks of isolation, in the order in which to mend it: rows with a statement, and rows with a
-- note (action 'note') about what stands in the way. No statement when nothing is missing. Without admin_bypass the
-- table keeps what it has, and a new one follows the others.
CREATE FUNCTION tenancy.protection(relation regclass, tenant_column text DEFAULT NULL, admin_bypass boolean DEFAULT NULL)
RETURNS TABLE ("position" int, action text, statement text, note text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    target CONSTANT regclass := relation;
    name   CONSTANT text := tenancy.checked_name(relation);
    app    CONSTANT text := tenancy.role_name('app');
    admin  CONSTANT text := tenancy.role_name('admin');
    rows   CONSTANT text[] := '{SELECT,INSERT,UPDATE,DELETE}';
    bypass boolean := admin_bypass;
    field  text;
    is_partition boolean;
BEGIN
    PERFORM tenancy.check_roles();
    SELECT t.tenant_column INTO field FROM tenancy.tenant_term(target, protection.tenant_column) t;
    SELECT c.relispartition INTO is_partition FROM pg_class c WHERE c.oid = target;
    IF bypass IS NULL THEN
        SELECT coalesce(bool_or(p.polname = 'tenant_admin'), false) INTO bypass FROM pg_policy p
         WHERE CASE WHEN EXISTS (SELECT FROM pg_policy o WHERE o.polrelid = target AND o.polname = 'tenant_isolation')
                    THEN p.polrelid = target
                    ELSE p.polrelid = ANY (SELECT r.relation FROM tenancy.protected_tables r) END;
    END IF;

    RETURN QUERY
    SELECT (row_number() OVER (ORDER BY s.part, s.n))::int, s.action, s.statement, s.note
      FROM (
        SELECT 1 AS part, o.* FROM tenancy.owner_changes(target) WITH ORDINALITY o (action, statement, note, n)
        UNION ALL
        -- Keys before policies: once these are forced, an owner's own checks see no rows.
        SELECT 2, k.* FROM tenancy.key_changes(target, field) WITH ORDINALITY k (action, statement, note, n)
        UNION ALL
        SELECT 3, p.* FROM tenancy.policy_changes(target, field, bypass) WITH ORDINALITY p (action, statement, note, n)
        UNION ALL
        -- Under row-level security PUBLIC had nothing to see, and UPDATE for it would reach the tenant column.
        SELECT 4, g.* FROM tenancy.grant_changes(target, NULL, '{}', NULL, false) WITH ORDINALITY g (action, statement, note, n)
        UNION ALL
        -- Partitions are reached through their parent: nothing is granted on them.
        SELECT 5, g.* FROM tenancy.grant_changes(target, app, rows, field, NOT is_partition)
               WITH ORDINALITY g (action, statement, note, n)
        UNION ALL
        SELECT 6, u.* FROM tenancy.usage_changes(target, app, true, nullif(NOT is_partition, false))
               WITH ORDINALITY u (action, statement, note, n)
        UNION ALL
        SELECT 7, g.* FROM tenancy.grant_changes(target, admin, CASE WHEN bypass THEN rows ELSE '{}' END, field,
                                                 bypass AND NOT is_partition)
               WITH ORDINALITY g (action, statement, note, n)
        UNION ALL
        SELECT 8, u.* FROM tenancy.usage_changes(target, admin, bypass, bypass AND NOT is_partition)
               WITH ORDINALITY u (action, statement, note, n)
        UNION ALL
        SELECT 9, 'note', NULL, format('its partition or child %I.%I is a foreign table, which takes no policies',
                                       n.nspname, c.relname), 1
          FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE i.inhparent = target AND c.relkind = 'f'
        UNION ALL
        SELECT 10, 'register', tenancy.registration(name, 'tenant', field), NULL, 1
         WHERE NOT EXISTS (SELECT FROM tenancy.protected_tables r
                            WHERE r.relation = target AND r.kind = 'tenant' AND r.tenant_column = field)
      ) s;
END $$;
COMMENT ON FUNCTION tenancy.protection IS
    'Statements that a tenant''s table lacks of isolation, and notes on what stands in the way; changes nothing';

-- The same for a table that all tenants read and none writes.
CREATE FUNCTION tenancy.sharing(relation regclass) RETURNS TABLE ("position" int, action text, statement text, note text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    target CONSTANT regclass := relation;
    name   CONSTANT text := tenancy.checked_name(relation);
    app    CONSTANT text := tenancy.role_name('app');
BEGIN
    PERFORM tenancy.check_roles();
    IF EXISTS (SELECT FROM tenancy.protected_tables r WHERE r.relation = target AND r.kind = 'tenant')
       OR EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = target AND p.polname IN ('tenant_isolation', 'tenant_floor')) THEN
        RAISE EXCEPTION '% is under tenant isolation: sharing it would show every tenant''s rows to all', name
            USING ERRCODE = 'TN010', HINT = 'take it out of isolation first';
    ELSIF EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = target AND a.attname = 'tenant_id' AND NOT a.attisdropped) THEN
        RAISE EXCEPTION '% has a tenant column: sharing it would show every tenant''s rows to all', name
            USING ERRCODE = 'TN010', HINT = format('SELECT tenancy.protect(%L)', name);
    END IF;

    RETURN QUERY
    SELECT (row_number() OVER (ORDER BY s.part, s.n))::int, s.action, s.statement, s.note
      FROM (
        SELECT 1 AS part, g.* FROM tenancy.grant_changes(target, NULL, '{SELECT}', NULL, false)
               WITH ORDINALITY g (action, statement, note, n)
        UNION ALL
        SELECT 2, g.* FROM tenancy.grant_changes(target, app, '{SELECT}', NULL, true) WITH ORDINALITY g (action, statement, note, n)
        UNION ALL
        SELECT 3, u.* FROM tenancy.usage_changes(target, app, true, NULL) WITH ORDINALITY u (action, statement, note, n)
        UNION ALL
        SELECT 4, 'note', NULL, format('%I can become its owner %I and write to it', app, r.rolname), 1
          FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
         WHERE c.oid = target AND pg_has_role(app, c.relowner, 'MEMBER')
        UNION ALL
        SELECT 4, 'note', NULL, 'row-level security is on: its policies decide which rows the application reads', 2
          FROM pg_class c WHERE c.oid = target AND c.relrowsecurity
        UNION ALL
        SELECT 5, 'register', tenancy.registration(name, 'shared', NULL), NULL, 1
         WHERE NOT EXISTS (SELECT FROM tenancy.protected_tables r WHERE r.relation = target AND r.kind = 'shared')
      ) s;
END $$;
COMMENT ON FUNCTION tenancy.sharing IS
    'Statements that a shared reference table lacks, and notes on what stands in the way; changes nothing';

-- Written so that it can be pasted; the name is quoted and qualified already.
CREATE FUNCTION tenancy.registration(p_name text, p_kind text, p_column text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN format('INSERT INTO tenancy.protected_tables (relation, kind, tenant_column) VALUES (%L::regclass, %L, %L)
    ON CONFLICT (relation) DO UPDATE SET kind = excluded.kind, tenant_column = excluded.tenant_column',
    p_name, p_kind, p_column);

-- Two setups at once would make the same policies twice.
CREATE FUNCTION tenancy.lock_isolation() RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('tenancy.isolation', 0));
$$;

-- What one table lacks. Kind is tenant or shared.
CREATE FUNCTION tenancy.missing(relation regclass, kind text, tenant_column text DEFAULT NULL, admin_bypass boolean DEFAULT NULL)
RETURNS TABLE ("position" int, action text, statement text, note text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF kind = 'shared' THEN
        RETURN QUERY SELECT * FROM tenancy.sharing(relation);
    ELSE
        RETURN QUERY SELECT * FROM tenancy.protection(relation, tenant_column, admin_bypass);
    END IF;
END $$;

-- Carries it out, and tells what it did.
CREATE FUNCTION tenancy.establish(relation regclass, kind text, tenant_column text DEFAULT NULL, admin_bypass boolean DEFAULT NULL)
RETURNS TABLE ("position" int, action text, statement text, note text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    change record;
BEGIN
    PERFORM tenancy.lock_isolation();
    -- A statement of its own after the lock, so that it sees what another setup left.
    FOR change IN
        SELECT * FROM tenancy.missing(relation, kind, tenant_column, admin_bypass) m ORDER BY m."position"
    LOOP
        IF change.statement IS NOT NULL THEN
            EXECUTE change.statement;
        END IF;
        RETURN QUERY SELECT change."position", change.action, change.statement, change.note;
    END LOOP;
END $$;

-- A table and the partitions and children under it, parents first. Foreign tables among them take no policies.
CREATE FUNCTION tenancy.family(p_relation regclass) RETURNS TABLE (relation regclass, depth int)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE family AS (
        SELECT p_relation::oid AS relation, 0 AS depth
        UNION ALL
        SELECT i.inhrelid, f.depth + 1 FROM family f JOIN pg_inherits i ON i.inhparent = f.relation
    )
    SELECT f.relation::regclass, max(f.depth) FROM family f JOIN pg_class c ON c.oid = f.relation
     WHERE c.relkind <> 'f' GROUP BY f.relation ORDER BY 2, f.relation;
$$;

-- Puts a table, with its partitions and children, under isolation. A platform's migration calls it after CREATE TABLE:
--   SELECT tenancy.protect('public.events');
-- Returns the statements that it carried out: none when nothing was missing.
CREATE FUNCTION tenancy.protect(relation regclass, tenant_column text DEFAULT NULL, admin_bypass boolean DEFAULT NULL)
RETURNS SETOF text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    target CONSTANT regclass := relation;
    name   CONSTANT text := tenancy.checked_name(relation);
    field  text;
    member regclass;
    change record;
BEGIN
    PERFORM tenancy.lock_isolation();
    SELECT t.tenant_column INTO field FROM tenancy.tenant_term(target, protect.tenant_column) t;
    FOR member IN SELECT f.relation FROM tenancy.family(target) f LOOP
        FOR change IN SELECT e.statement, e.note FROM tenancy.establish(member, 'tenant', field, protect.admin_bypass) e LOOP
            IF change.statement IS NULL THEN
                RAISE NOTICE '%: %', tenancy.checked_name(member), change.note;
            ELSE
                RETURN NEXT change.statement;
            END IF;
        END LOOP;
    END LOOP;
END $$;
COMMENT ON FUNCTION tenancy.protect IS
    'Puts a table with a tenant column under isolation; returns the statements carried out, none when nothing was missing';

-- Declares a reference table that all tenants read:
--   SELECT tenancy.share('public.countries');
CREATE FUNCTION tenancy.share(relation regclass) RETURNS SETOF text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    name   CONSTANT text := tenancy.checked_name(relation);
    change record;
BEGIN
    FOR change IN SELECT e.statement, e.note FROM tenancy.establish(relation, 'shared') e LOOP
        IF change.statement IS NULL THEN
            RAISE NOTICE '%: %', name, change.note;
        ELSE
            RETURN NEXT change.statement;
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION tenancy.share IS
    'Declares a table as shared reference data that the application role reads only; returns the statements carried out';

-- Every table of the platform with what it is: tenant, partition or child (of a table with a tenant column), shared, or
-- unclassified. Parents come before their children. A registered tenant column goes before the names given.
CREATE FUNCTION tenancy.platform_tables(tenant_columns text[] DEFAULT '{tenant_id}')
RETURNS TABLE (relation regclass, schema_name text, table_name text, kind text, tenant_column text, protected boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE tables AS (
        SELECT c.oid, n.nspname::text, c.relname::text, c.relispartition, r.kind AS registered,
               (SELECT a.attname::text FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                   AND (a.attname = r.tenant_column OR a.attname = ANY (tenant_columns))
                 ORDER BY a.attname = r.tenant_column DESC NULLS LAST, array_position(tenant_columns, a.attname::text)
                 LIMIT 1) AS tenant_column
          FROM pg_class c
          JOIN pg_namespace n ON n.oid = c.relnamespace
          LEFT JOIN tenancy.protected_tables r ON r.relation = c.oid
         WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND c.oid >= 16384
           AND n.nspname NOT IN ('tenancy', 'information_schema') AND n.nspname !~ '^pg_'
           AND NOT EXISTS (SELECT FROM pg_depend d
                            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    ), depths AS (
        SELECT t.oid, 0 AS depth FROM tables t
        UNION ALL
        SELECT i.inhrelid, d.depth + 1 FROM depths d JOIN pg_inherits i ON i.inhparent = d.oid
    )
    SELECT t.oid::regclass, t.nspname, t.relname,
           CASE WHEN t.registered = 'shared' THEN 'shared'
                WHEN t.tenant_column IS NULL THEN 'unclassified'
                WHEN t.relispartition THEN 'partition'
                WHEN d.depth > 0 THEN 'child'
                ELSE 'tenant' END,
           t.tenant_column,
           t.registered IS NOT NULL
      FROM tables t
      JOIN (SELECT d.oid, max(d.depth) AS depth FROM depths d GROUP BY d.oid) d ON d.oid = t.oid
     ORDER BY d.depth, t.nspname, t.relname;
$$;
COMMENT ON FUNCTION tenancy.platform_tables IS
    'Tables outside the control plane: tenant, partition, child, shared or unclassified';

-- The table that a person means by a name, as their search_path has it; NULL where there is none or the name is no name.
CREATE FUNCTION tenancy.find_table(name text) RETURNS regclass LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN pg_catalog.to_regclass(name);
EXCEPTION WHEN invalid_name OR syntax_error OR feature_not_supported THEN
    RETURN NULL;
END $$;

-- Registered tables that were dropped since.
CREATE FUNCTION tenancy.forget_dropped_tables() RETURNS bigint LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
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
        'tenancy.policy_changes(regclass, text, boolean)', 'tenancy.grant_changes(regclass, text, text[], text, boolean)',
        'tenancy.default_sequences(regclass)', 'tenancy.usage_changes(regclass, text, boolean, boolean)',
        'tenancy.protection(regclass, text, boolean)', 'tenancy.sharing(regclass)',
        'tenancy.registration(text, text, text)', 'tenancy.lock_isolation()',
        'tenancy.missing(regclass, text, text, boolean)', 'tenancy.establish(regclass, text, text, boolean)', 
        'tenancy.family(regclass)', 'tenancy.protect(regclass, text, boolean)', 'tenancy.share(regclass)', 'tenancy.platform_tables(text[])',
        'tenancy.find_table(text)', 'tenancy.forget_dropped_tables()']::regprocedure[] LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', function);
    END LOOP;
END $$;
