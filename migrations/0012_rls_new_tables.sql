-- Tables that somebody creates after setup: an event trigger protects those with a tenant column, or refuses them.
--
-- An event trigger's function runs in the transaction of whoever creates a table, a superuser as well. So nothing of what
-- runs there may be in the hands of the owner role: functions, triggers and views that its members can replace would run
-- with a superuser's rights, and code that only borrows the owner role inside a superuser's session gets out of it again
-- (RESET ROLE, deferred triggers, settings, temporary tables). The functions below are therefore patterns, which nothing
-- calls: the superuser who makes the event trigger copies them, with all that they call, into schema tenancy_guard, which
-- is the superuser's own and which nobody else may enter.

-- Before a superuser's transaction reads and writes the owner role's tables: they are plain, and run nobody's code. The
-- locks keep them so; what was never changed depends on nothing that somebody made.
CREATE FUNCTION tenancy.check_inert() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed text;
BEGIN
    LOCK TABLE tenancy.tenants, tenancy.protected_tables, tenancy.isolation_changes IN ROW EXCLUSIVE MODE;
    SELECT c.relname INTO changed
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'tenancy' AND c.relname IN ('tenants', 'protected_tables', 'isolation_changes')
       AND (c.relkind <> 'r' OR c.relhasrules OR c.relhassubclass OR c.relispartition OR CASE c.relname
            -- It is read, and referred to.
            WHEN 'tenants' THEN NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
                WHERE a.attrelid = c.oid AND a.attname = 'id' AND a.atttypid = 'pg_catalog.uuid'::pg_catalog.regtype)
            ELSE EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid)
                OR EXISTS (
                SELECT FROM (SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, c.oid
                             UNION ALL
                             SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, i.indexrelid
                               FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid
                             UNION ALL
                             SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid
                               FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid
                             UNION ALL
                             SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass, f.oid
                               FROM pg_catalog.pg_attrdef f WHERE f.adrelid = c.oid) part (class, oid)
                  JOIN pg_catalog.pg_depend d ON d.classid = part.class AND d.objid = part.oid
                 WHERE d.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_type'::pg_catalog.regclass,
                                        'pg_catalog.pg_operator'::pg_catalog.regclass, 'pg_catalog.pg_opclass'::pg_catalog.regclass,
                                        'pg_catalog.pg_opfamily'::pg_catalog.regclass, 'pg_catalog.pg_collation'::pg_catalog.regclass)) END)
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'table tenancy.% was changed since it was made, and could run code in this transaction',
                pg_catalog.quote_ident(changed)
            USING ERRCODE = 'TN010', HINT = 'find out who changed it; tenancy.guard_new_tables(''off'') ends the protection of new tables';
    END IF;
END $$;

-- Its copy has the rights of the superuser who made the event trigger, for all who create tables. What it does with them
-- the owner of the new table might have done as well.
CREATE FUNCTION tenancy.protect_new_tables() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant_columns CONSTANT text[] := '{tenant_id}';
    owner_role     CONSTANT text := tenancy.role_name('owner');
    may_set        CONSTANT text := CASE WHEN pg_catalog.current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
    new            record;
    change         record;
    before         tenancy.isolation_fact[];
BEGIN
    FOR new IN
        SELECT c.oid::pg_catalog.regclass AS relation, e.object_identity AS name, a.attname::text AS tenant_column,
               r.rolname AS creator, r.rolsuper, r.oid AS role, n.nspname, n.oid AS schema,
               r.rolsuper OR pg_catalog.pg_has_role(r.oid, n.nspowner, 'USAGE')
                          OR pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE WITH GRANT OPTION') AS opens_schema
          FROM pg_catalog.pg_event_trigger_ddl_commands() e
          JOIN pg_catalog.pg_class c ON c.oid = e.objid AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          -- Whoever it is that creates: a table belongs to the role that was in force.
          JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
          JOIN LATERAL (SELECT a.attname FROM pg_catalog.pg_attribute a
                         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                           AND a.attname = ANY (tenant_columns)
                         ORDER BY pg_catalog.array_position(tenant_columns, a.attname::text)
                         LIMIT 1) a ON true
         WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
           AND e.command_tag IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO')
           AND NOT e.in_extension AND n.nspname NOT IN ('tenancy', 'tenancy_guard', 'information_schema') AND n.nspname !~ '^pg_'
    LOOP
        IF NOT new.rolsuper AND NOT pg_catalog.pg_has_role(new.role, owner_role, may_set) THEN
            RAISE EXCEPTION 'table % has a tenant column, and % may not put it under isolation', new.name, pg_catalog.quote_ident(new.creator)
                USING ERRCODE = 'TN010', HINT = pg_catalog.format('GRANT %I TO %I, or create it as a member', owner_role, new.creator);
        END IF;
        PERFORM tenancy.lock_isolation();
        PERFORM tenancy.check_inert();
        before := ARRAY(SELECT s FROM tenancy.isolation_state(new.relation) s);
        FOR change IN SELECT * FROM tenancy.protection(new.relation, new.tenant_column) p ORDER BY p."position" LOOP
            IF change.statement IS NULL THEN
                RAISE NOTICE '%: %', new.name, change.note;
            -- Rights that are not the creator's to give stay as they are.
            ELSIF (NOT new.opens_schema AND pg_catalog.starts_with(change.statement, 'GRANT USAGE ON SCHEMA '))
               OR (NOT new.rolsuper AND pg_catalog.starts_with(change.statement, 'GRANT USAGE ON SEQUENCE ') AND NOT EXISTS (
                    SELECT FROM pg_catalog.pg_class s JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
                     WHERE s.relkind = 'S' AND pg_catalog.pg_has_role(new.role, s.relowner, 'USAGE')
                       AND pg_catalog.starts_with(change.statement, pg_catalog.format('GRANT USAGE ON SEQUENCE %I.%I TO ', n.nspname, s.relname)))) THEN
                RAISE NOTICE '%: % may not: %', new.name, pg_catalog.quote_ident(new.creator), change.statement;
            ELSE
                EXECUTE change.statement;
            END IF;
        END LOOP;
        PERFORM tenancy.remember(before, ARRAY(SELECT s FROM tenancy.isolation_state(new.relation) s));
    END LOOP;
END $$;
COMMENT ON FUNCTION tenancy.protect_new_tables IS
    'Pattern of the event trigger''s function that puts new tables with a tenant column under isolation';

-- A migration that protects its table itself says so first.
CREATE FUNCTION tenancy.refuse_new_tables() RETURNS event_trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant_columns CONSTANT text[] := '{tenant_id}';
    new            record;
BEGIN
    IF pg_catalog.current_setting('tenancy.accept_new_tables', true) = 'on' THEN
        RETURN;
    END IF;
    FOR new IN
        SELECT e.object_identity AS name, a.attname
          FROM pg_catalog.pg_event_trigger_ddl_commands() e
          JOIN pg_catalog.pg_class c ON c.oid = e.objid AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
          JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                                        AND a.attname = ANY (tenant_columns)
         WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
           AND e.command_tag IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO')
           AND NOT e.in_extension AND e.schema_name NOT IN ('tenancy', 'information_schema') AND e.schema_name !~ '^pg_'
    LOOP
        RAISE EXCEPTION 'table % has the tenant column % and no isolation', new.name, pg_catalog.quote_ident(new.attname)
            USING ERRCODE = 'TN010', HINT = pg_catalog.format(
                'in one transaction: SET LOCAL tenancy.accept_new_tables = on; CREATE TABLE …; SELECT tenancy.protect(%L)', new.name);
    END LOOP;
END $$;
COMMENT ON FUNCTION tenancy.refuse_new_tables IS
    'Pattern of the event trigger''s function that refuses new tables with a tenant column';

-- What is copied: the two, and all that they call.
CREATE FUNCTION tenancy.guard_functions() RETURNS SETOF regprocedure LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
     WHERE n.nspname = 'tenancy' AND p.proname IN (
        'protect_new_tables', 'refuse_new_tables', 'check_inert', 'lock_isolation', 'role_name', 'check_roles', 'checked_name',
        'tenant_term', 'owner_changes', 'key_changes', 'policy_changes', 'grant_changes', 'usage_changes', 'registration',
        'protection', 'rights', 'sequences_of', 'isolation_state', 'remember');
$$;

-- A function as it is in schema tenancy_guard: there, calling its like there, and with these tenant columns.
CREATE FUNCTION tenancy.guard_definition(p_function regprocedure, tenant_columns text[]) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF strpos(tenant_columns::text, '$function') > 0 THEN
        RAISE EXCEPTION 'a tenant column cannot be called %', tenant_columns USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN replace(regexp_replace(pg_get_functiondef(p_function),
                format('\mtenancy\.(isolation_fact|%s)\M', (
                    SELECT string_agg(p.proname, '|') FROM tenancy.guard_functions() f JOIN pg_proc p ON p.oid = f)),
                'tenancy_guard.\1', 'g'),
            $x$tenant_columns CONSTANT text[] := '{tenant_id}'$x$,
            'tenant_columns CONSTANT text[] := ' || quote_literal(tenant_columns::text));
END $$;

-- Whether there is a schema tenancy_guard; an error where somebody else than a superuser made it.
CREATE FUNCTION tenancy.has_guard() RETURNS boolean LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    holder pg_roles;
BEGIN
    SELECT r.* INTO holder FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner WHERE n.nspname = 'tenancy_guard';
    IF holder.rolname IS NOT NULL AND NOT holder.rolsuper THEN
        RAISE EXCEPTION 'schema tenancy_guard belongs to %, who is no superuser', quote_ident(holder.rolname)
            USING ERRCODE = 'TN010', HINT = 'it is not of this program''s making; find out who made it, and rename or drop it';
    END IF;
    RETURN holder.rolname IS NOT NULL;
END $$;

-- Makes the copies. They are as they are now, whatever becomes of the patterns.
CREATE FUNCTION tenancy.install_guard(tenant_columns text[]) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    function regprocedure;
BEGIN
    IF NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user) THEN
        RAISE EXCEPTION 'permission denied to create the functions of an event trigger' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF NOT tenancy.has_guard() THEN
        CREATE SCHEMA tenancy_guard;
        COMMENT ON SCHEMA tenancy_guard IS 'The event trigger that protects new tables, as a superuser made it; nobody else enters';
        CREATE TYPE tenancy_guard.isolation_fact AS (relation regclass, schema regnamespace, kind text, object text, role text, detail text);
    END IF;
    REVOKE ALL ON SCHEMA tenancy_guard FROM PUBLIC;
    FOR function IN SELECT f FROM tenancy.guard_functions() f LOOP
        EXECUTE tenancy.guard_definition(function, tenant_columns);
    END LOOP;
    REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA tenancy_guard FROM PUBLIC;
END $$;

-- What the event trigger lacks of a mode: protect, refuse or off.
CREATE FUNCTION tenancy.guard_changes(mode text, tenant_columns text[] DEFAULT '{tenant_id}')
RETURNS TABLE (action text, statement text, note text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    wanted  text;
    present record;
    exists  boolean;
BEGIN
    wanted := CASE mode WHEN 'protect' THEN 'protect_new_tables' WHEN 'refuse' THEN 'refuse_new_tables' END;
    IF wanted IS NULL AND mode <> 'off' THEN
        RAISE EXCEPTION 'there is no mode %', quote_literal(mode) USING ERRCODE = 'invalid_parameter_value',
            HINT = 'protect, refuse or off';
    END IF;
    SELECT p.proname AS function, e.evtenabled IN ('O', 'A') AS fires, n.nspname = 'tenancy_guard' AS ours,
           e.evtevent = 'ddl_command_end'
           AND e.evttags @> ARRAY['CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE SCHEMA'] AS complete
      INTO present
      FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid JOIN pg_namespace n ON n.oid = p.pronamespace
     WHERE e.evtname = 'tenancy_new_tables';
    IF present.function IS NOT NULL AND NOT present.ours THEN
        RAISE EXCEPTION 'event trigger tenancy_new_tables is not of this program''s making'
            USING ERRCODE = 'TN010', HINT = 'find out who made it, and rename or drop it';
    END IF;
    exists := tenancy.has_guard();
    IF wanted IS NOT NULL AND EXISTS (
        SELECT FROM tenancy.guard_functions() f JOIN pg_proc o ON o.oid = f
          LEFT JOIN (pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname = 'tenancy_guard'
                               JOIN pg_roles r ON r.oid = p.proowner AND r.rolsuper) ON p.proname = o.proname
         WHERE p.oid IS NULL OR pg_get_functiondef(p.oid) <> tenancy.guard_definition(f, tenant_columns)) THEN
        RETURN QUERY SELECT 'new_tables', format('SELECT tenancy.install_guard(%L)', tenant_columns::text), NULL::text;
    END IF;
    IF present.function IS NOT NULL
       AND (wanted IS NULL OR present.function <> wanted OR NOT present.fires OR NOT present.complete) THEN
        RETURN QUERY SELECT 'new_tables', 'DROP EVENT TRIGGER tenancy_new_tables', NULL::text;
        present.function := NULL;
    END IF;
    IF wanted IS NULL AND exists THEN
        RETURN QUERY SELECT 'new_tables', 'DROP SCHEMA tenancy_guard CASCADE', NULL::text;
    ELSIF wanted IS NOT NULL AND present.function IS NULL THEN
        RETURN QUERY SELECT 'new_tables', format('CREATE EVENT TRIGGER tenancy_new_tables ON ddl_command_end
    WHEN TAG IN (''CREATE TABLE'', ''CREATE TABLE AS'', ''SELECT INTO'', ''CREATE SCHEMA'') EXECUTE FUNCTION tenancy_guard.%I()', wanted), NULL::text;
    END IF;
END $$;
COMMENT ON FUNCTION tenancy.guard_changes IS
    'Statements that bring the event trigger on new tables to a mode (protect, refuse, off); changes nothing';

-- Carries it out. Event triggers are a superuser's.
CREATE FUNCTION tenancy.guard_new_tables(mode text, tenant_columns text[] DEFAULT '{tenant_id}')
RETURNS TABLE (action text, statement text, note text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    change record;
BEGIN
    PERFORM tenancy.lock_isolation();
    FOR change IN SELECT * FROM tenancy.guard_changes(mode, tenant_columns) LOOP
        BEGIN
            EXECUTE change.statement;
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE EXCEPTION '% may not change event triggers: %', quote_ident(current_user), sqlerrm
                USING ERRCODE = 'TN010', HINT = format('as a superuser: SELECT tenancy.guard_new_tables(%L, %L)', mode, tenant_columns::text);
        END;
        RETURN QUERY SELECT change.action, change.statement, change.note;
    END LOOP;
END $$;
COMMENT ON FUNCTION tenancy.guard_new_tables IS
    'Protects tables created from now on, or refuses them: an event trigger in the mode protect, refuse or off';

DO $$
DECLARE
    function regprocedure;
BEGIN
    FOREACH function IN ARRAY ARRAY[
        'tenancy.check_inert()', 'tenancy.protect_new_tables()', 'tenancy.refuse_new_tables()', 'tenancy.guard_functions()',
        'tenancy.guard_definition(regprocedure, text[])', 'tenancy.has_guard()', 'tenancy.install_guard(text[])',
        'tenancy.guard_changes(text, text[])',
        'tenancy.guard_new_tables(text, text[])']::regprocedure[] LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', function);
    END LOOP;
END $$;
