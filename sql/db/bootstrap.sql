-- The roles and the schema that every migration stands on. Runs at the start of each `db migrate`, in its transaction.
-- The prefix of the role names comes in as the setting tenancy.role_prefix.

-- Whoever owns the database can give it a search path of their own; what follows must not meet their functions.
SET LOCAL search_path = pg_catalog, pg_temp;

DO $bootstrap$
DECLARE
    prefix  text := coalesce(nullif(current_setting('tenancy.role_prefix', true), ''), 'tenancy');
    may_set text := CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
    kind    text;
    role    text;
    fixed   text;
    holder  text;
    object  text;
    armed   boolean;
    flags   pg_roles;
BEGIN
    -- Whoever may create schemas in the database could have put one of this name there, with functions that would run
    -- as whoever migrates. So nothing in it is named before the catalogue says that it is the control plane's: role
    -- names are the superuser's, and nobody else can give a schema to <prefix>_owner. The same catalogue tells the
    -- prefix that the control plane was made with, which cannot change.
    SELECT pg_get_userbyid(n.nspowner) INTO holder FROM pg_namespace n WHERE n.nspname = 'tenancy';
    IF holder <> prefix || '_owner' THEN
        IF holder ~ '^[a-z_][a-z0-9_]*_owner$' AND holder !~ '^pg_' THEN
            fixed := left(holder, -length('_owner'));
            RAISE EXCEPTION 'role_prefix is %, but this database''s control plane was made with %',
                quote_literal(prefix), quote_literal(fixed)
                USING ERRCODE = 'TN011', HINT = 'set role_prefix: ' || fixed;
        END IF;
        RAISE EXCEPTION 'schema tenancy exists and belongs to %, not to %', quote_ident(holder),
            quote_ident(prefix || '_owner')
            USING ERRCODE = 'TN010',
                  HINT = 'it is no control plane of this program; find out who made it, and rename or drop it';
    END IF;
    -- The same of what is used of it before a migration could have replaced it.
    FOR object, holder, armed IN
        SELECT format('table tenancy.%I', c.relname), pg_get_userbyid(c.relowner),
               c.relkind <> 'r' OR c.relhasrules OR c.relrowsecurity
               OR EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid)
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'tenancy' AND c.relname = '_sqlx_migrations'
        UNION ALL
        SELECT format('function %s', p.oid::regprocedure), pg_get_userbyid(p.proowner), false
          FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE n.nspname = 'tenancy' AND p.proname = 'role_name'
    LOOP
        IF holder <> prefix || '_owner' THEN
            RAISE EXCEPTION '% belongs to %, not to %', object, quote_ident(holder), quote_ident(prefix || '_owner')
                USING ERRCODE = 'TN010', HINT = 'it is not of this program''s making; find out who made it, and drop it';
        ELSIF armed THEN
            RAISE EXCEPTION '% is no plain table, or has triggers, rules or row-level security', object
                USING ERRCODE = 'TN010', HINT = 'it is not of this program''s making; find out who changed it';
        END IF;
    END LOOP;

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
            FOR attempt IN 1..10 LOOP
                BEGIN
                    EXECUTE format('GRANT %I TO CURRENT_USER', role);
                    EXIT;
                EXCEPTION WHEN internal_error OR unique_violation THEN
                    -- "tuple concurrently updated": another database of this cluster grants the same.
                    IF attempt = 10 THEN
                        RAISE;
                    END IF;
                END;
            END LOOP;
        END IF;
    END LOOP;

    IF to_regnamespace('tenancy') IS NULL THEN
        EXECUTE format('CREATE SCHEMA tenancy AUTHORIZATION %I', prefix || '_owner');
    END IF;
    PERFORM set_config('role', prefix || '_owner', true);
END
$bootstrap$;
