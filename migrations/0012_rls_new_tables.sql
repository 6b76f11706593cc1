-- Tables that somebody creates after setup: an event trigger protects those with a tenant column, or refuses them. Which of
-- its two functions the trigger calls is the mode; what counts as a tenant column stands in the functions' own setting.

-- The tables of the command under way that isolation is about. Runs as whoever creates tables, who may not enter schema
-- tenancy: so the event trigger's functions hold it in their own text, and read nothing but the catalogue before a table
-- is found.
CREATE FUNCTION tenancy.protect_new_tables() RETURNS event_trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    new record;
    -- Not current_setting(): without a setting of the function's own that would be the session's.
    columns CONSTANT text[] := coalesce((
        SELECT substr(o, length('tenancy.tenant_columns=') + 1)::text[]
          FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace, unnest(p.proconfig) o
         WHERE n.nspname = 'tenancy' AND p.proname = 'protect_new_tables' AND o ~ '^tenancy\.tenant_columns='), '{tenant_id}');
BEGIN
    FOR new IN
        SELECT e.objid::regclass AS relation, e.object_identity AS name, a.attname::text AS tenant_column
          FROM pg_event_trigger_ddl_commands() e
          JOIN pg_class c ON c.oid = e.objid AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
          JOIN LATERAL (SELECT a.attname FROM pg_attribute a
                         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                           AND a.attname = ANY (columns)
                         ORDER BY array_position(columns, a.attname::text)
                         LIMIT 1) a ON true
         WHERE e.classid = 'pg_class'::regclass AND e.command_tag IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO')
           AND NOT e.in_extension AND e.schema_name NOT IN ('tenancy', 'information_schema') AND e.schema_name !~ '^pg_'
    LOOP
        BEGIN
            PERFORM tenancy.protect(new.relation, new.tenant_column);
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE EXCEPTION 'table % has a tenant column, and % may not put it under isolation: %', new.name,
                    quote_ident(current_user), sqlerrm
                USING ERRCODE = 'TN010', HINT = format('GRANT %s TO %I, or create it as a member',
                    (SELECT quote_ident(pg_get_userbyid(n.nspowner)) FROM pg_namespace n WHERE n.nspname = 'tenancy'), current_user);
        END;
    END LOOP;
END $$;
COMMENT ON FUNCTION tenancy.protect_new_tables IS 'Event trigger: puts new tables with a tenant column under isolation';

-- A migration that protects its table itself says so first.
CREATE FUNCTION tenancy.refuse_new_tables() RETURNS event_trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    new record;
    -- Not current_setting(): without a setting of the function's own that would be the session's.
    columns CONSTANT text[] := coalesce((
        SELECT substr(o, length('tenancy.tenant_columns=') + 1)::text[]
          FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace, unnest(p.proconfig) o
         WHERE n.nspname = 'tenancy' AND p.proname = 'refuse_new_tables' AND o ~ '^tenancy\.tenant_columns='), '{tenant_id}');
BEGIN
    IF current_setting('tenancy.accept_new_tables', true) = 'on' THEN
        RETURN;
    END IF;
    FOR new IN
        SELECT e.object_identity AS name, a.attname
          FROM pg_event_trigger_ddl_commands() e
          JOIN pg_class c ON c.oid = e.objid AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                             AND a.attname = ANY (columns)
         WHERE e.classid = 'pg_class'::regclass AND e.command_tag IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO')
           AND NOT e.in_extension AND e.schema_name NOT IN ('tenancy', 'information_schema') AND e.schema_name !~ '^pg_'
    LOOP
        RAISE EXCEPTION 'table % has the tenant column % and no isolation', new.name, quote_ident(new.attname)
            USING ERRCODE = 'TN010', HINT = format(
                'in one transaction: SET LOCAL tenancy.accept_new_tables = on; CREATE TABLE …; SELECT tenancy.protect(%L)', new.name);
    END LOOP;
END $$;
COMMENT ON FUNCTION tenancy.refuse_new_tables IS 'Event trigger: refuses new tables with a tenant column';

-- What the event trigger lacks of a mode: protect, refuse or off.
CREATE FUNCTION tenancy.guard_changes(mode text, tenant_columns text[] DEFAULT '{tenant_id}')
RETURNS TABLE (action text, statement text, note text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    wanted  regprocedure;
    present record;
    setting text;
BEGIN
    wanted := CASE mode WHEN 'protect' THEN 'tenancy.protect_new_tables()'::regprocedure
                        WHEN 'refuse' THEN 'tenancy.refuse_new_tables()'::regprocedure END;
    IF wanted IS NULL AND mode <> 'off' THEN
        RAISE EXCEPTION 'there is no mode %', quote_literal(mode) USING ERRCODE = 'invalid_parameter_value',
            HINT = 'protect, refuse or off';
    END IF;
    SELECT e.evtfoid AS function, e.evtenabled IN ('O', 'A') AS fires, n.nspname = 'tenancy' AS ours,
           e.evtevent = 'ddl_command_end'
           AND e.evttags @> ARRAY['CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE SCHEMA'] AS complete
      INTO present
      FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid JOIN pg_namespace n ON n.oid = p.pronamespace
     WHERE e.evtname = 'tenancy_new_tables';
    IF present.function IS NOT NULL AND NOT present.ours THEN
        RAISE EXCEPTION 'event trigger tenancy_new_tables is not of this program''s making'
            USING ERRCODE = 'TN010', HINT = 'find out who made it, and rename or drop it';
    END IF;
    -- Only a superuser may set it: the common case goes without.
    IF wanted IS NOT NULL THEN
        SELECT o INTO setting FROM pg_proc p, unnest(p.proconfig) o WHERE p.oid = wanted AND o ~ '^tenancy\.tenant_columns=';
        IF tenant_columns = '{tenant_id}' AND setting IS NOT NULL THEN
            RETURN QUERY SELECT 'new_tables', format('ALTER FUNCTION %s RESET tenancy.tenant_columns', wanted), NULL::text;
        ELSIF tenant_columns <> '{tenant_id}' AND setting IS DISTINCT FROM format('tenancy.tenant_columns=%s', tenant_columns) THEN
            RETURN QUERY SELECT 'new_tables', format('ALTER FUNCTION %s SET tenancy.tenant_columns = %L', wanted, tenant_columns::text), NULL::text;
        END IF;
    END IF;
    IF present.function IS NOT NULL
       AND (wanted IS NULL OR present.function <> wanted::oid OR NOT present.fires OR NOT present.complete) THEN
        RETURN QUERY SELECT 'new_tables', 'DROP EVENT TRIGGER tenancy_new_tables', NULL::text;
        present.function := NULL;
    END IF;
    IF wanted IS NOT NULL AND present.function IS NULL THEN
        RETURN QUERY SELECT 'new_tables', format('CREATE EVENT TRIGGER tenancy_new_tables ON ddl_command_end
    WHEN TAG IN (''CREATE TABLE'', ''CREATE TABLE AS'', ''SELECT INTO'', ''CREATE SCHEMA'') EXECUTE FUNCTION %s', wanted), NULL::text;
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
        'tenancy.protect_new_tables()', 'tenancy.refuse_new_tables()', 'tenancy.guard_changes(text, text[])',
        'tenancy.guard_new_tables(text, text[])']::regprocedure[] LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', function);
    END LOOP;
END $$;
