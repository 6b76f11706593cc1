-- Isolation as desired state, continued: policies and grants, and all of it put together for one table.

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
               AND p.polroles = ARRAY[coalesce(to_regrole(quote_ident(wanted.role))::oid, 0)]
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

-- USAGE on the table's schema, and on the sequences that its defaults draw from (an identity column's own needs no
-- grant). p_sequences false takes the latter away, NULL leaves them.
CREATE FUNCTION tenancy.usage_changes(p_relation regclass, p_role text, p_schema boolean, p_sequences boolean)
RETURNS TABLE (action text, statement text, note text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    role_oid CONSTANT oid := (SELECT r.oid FROM pg_roles r WHERE r.rolname = p_role);
    sequences oid[];
BEGIN
    IF p_sequences IS NOT NULL THEN
        sequences := ARRAY(
            SELECT d.objid FROM pg_depend d
             WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'a'
               AND d.refclassid = 'pg_class'::regclass AND d.refobjid = p_relation
            UNION
            SELECT d.refobjid FROM pg_attrdef f
              JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
             WHERE f.adrelid = p_relation AND d.refclassid = 'pg_class'::regclass);
    END IF;
    RETURN QUERY
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
        (SELECT CASE WHEN p_sequences THEN 'grant' ELSE 'revoke' END, format('SEQUENCE %I.%I', n.nspname, s.relname),
                pg_has_role(s.relowner, 'USAGE')
           FROM pg_class s
           JOIN pg_namespace n ON n.oid = s.relnamespace
          WHERE s.oid = ANY (sequences) AND s.relkind = 'S'
            AND p_sequences <> EXISTS (SELECT FROM aclexplode(s.relacl) a
                                        WHERE a.privilege_type = 'USAGE' AND a.grantee = role_oid)
          ORDER BY 2)
      ) o;
END $$;

-- What a tenant's table lacks of isolation, in the order in which to mend it: rows with a statement, and rows with a
-- note (action 'note') about what stands in the way. No statement when nothing is missing. Without admin_bypass the
-- table keeps what it has, and a new one follows the others. The same questions are asked of every table: planning them
-- once takes less than half the time.
CREATE FUNCTION tenancy.protection(relation regclass, tenant_column text DEFAULT NULL, admin_bypass boolean DEFAULT NULL)
RETURNS TABLE ("position" int, action text, statement text, note text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
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
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
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

DO $$
DECLARE
    function regprocedure;
BEGIN
    FOREACH function IN ARRAY ARRAY[
        'tenancy.policy_changes(regclass, text, boolean)', 'tenancy.grant_changes(regclass, text, text[], text, boolean)',
        'tenancy.usage_changes(regclass, text, boolean, boolean)', 'tenancy.protection(regclass, text, boolean)',
        'tenancy.sharing(regclass)', 'tenancy.registration(text, text, text)']::regprocedure[] LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', function);
    END LOOP;
END $$;
