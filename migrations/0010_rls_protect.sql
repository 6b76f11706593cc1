-- What carries isolation out: for a platform's migrations tenancy.protect() and tenancy.share(), and for the command line
-- what they are made of.

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
        'tenancy.lock_isolation()', 'tenancy.missing(regclass, text, text, boolean)',
        'tenancy.establish(regclass, text, text, boolean)', 'tenancy.family(regclass)',
        'tenancy.protect(regclass, text, boolean)', 'tenancy.share(regclass)', 'tenancy.platform_tables(text[])',
        'tenancy.find_table(text)', 'tenancy.forget_dropped_tables()']::regprocedure[] LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', function);
    END LOOP;
END $$;
