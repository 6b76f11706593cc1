-- The roles and the schema that every migration stands on. Runs at the start of each `db migrate`, in its transaction:
-- roles belong to the cluster, so a database restored into a fresh cluster has the schema but not the roles.
-- The prefix of the role names comes in as the setting tenancy.role_prefix.
DO $bootstrap$
DECLARE
    prefix  text := coalesce(nullif(current_setting('tenancy.role_prefix', true), ''), 'tenancy');
    may_set text := CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
    kind    text;
    role    text;
    fixed   text;
    flags   pg_roles;
BEGIN
    -- The prefix cannot change once the control plane is made. Asked before anything is made under another one, and
    -- only where we may ask; who may not is refused soon enough.
    IF has_schema_privilege(to_regnamespace('tenancy'), 'USAGE')
       AND to_regprocedure('tenancy.role_name(text)') IS NOT NULL THEN
        EXECUTE $$SELECT left(tenancy.role_name(''), -1)$$ INTO fixed;
        IF fixed <> prefix THEN
            RAISE EXCEPTION 'role_prefix is %, but this database''s control plane was made with %',
                quote_literal(prefix), quote_literal(fixed)
                USING ERRCODE = 'TN011', HINT = 'set role_prefix: ' || fixed;
        END IF;
    END IF;

    FOREACH kind IN ARRAY ARRAY['owner', 'app', 'admin', 'auditor'] LOOP
        role := prefix || '_' || kind;
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- another database of this cluster was migrated at the same moment
            END;
        END IF;
        SELECT * INTO flags FROM pg_roles WHERE rolname = role;
        IF flags.rolsuper OR flags.rolbypassrls OR flags.rolcreaterole OR flags.rolreplication OR flags.rolcanlogin THEN
            RAISE EXCEPTION 'role % exists with LOGIN, SUPERUSER, BYPASSRLS, CREATEROLE or REPLICATION', quote_ident(role)
                USING ERRCODE = 'TN010', HINT = format(
                    'ALTER ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOREPLICATION, or choose another role_prefix',
                    role);
        END IF;
    END LOOP;

    -- Whoever migrates also administers: they act as the owner, and as the application role where a tenant's rows are
    -- touched. A superuser may do so anyway.
    FOREACH kind IN ARRAY ARRAY['owner', 'app', 'auditor'] LOOP
        role := prefix || '_' || kind;
        IF NOT pg_has_role(current_user, role, may_set) THEN
            EXECUTE format('GRANT %I TO CURRENT_USER', role);
        END IF;
    END LOOP;

    IF to_regnamespace('tenancy') IS NULL THEN
        EXECUTE format('CREATE SCHEMA tenancy AUTHORIZATION %I', prefix || '_owner');
    END IF;
    PERFORM set_config('role', prefix || '_owner', true);
END
$bootstrap$;
