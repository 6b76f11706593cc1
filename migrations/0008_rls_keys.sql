-- Isolation as desired state: what one table still lacks, as statements that a person can read and paste. Nothing here
-- changes anything; 0010 carries the statements out. Every name in them is schema-qualified, whatever the caller's
-- search_path, and each function sees only what is missing, so a second run has nothing to do.

-- A policy is no wall where the application role can become the one that owns the table or the one that may cross.
CREATE FUNCTION tenancy.check_roles() RETURNS void LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kind  text;
    role  text;
    flags pg_roles;
BEGIN
    FOREACH kind IN ARRAY ARRAY['app', 'owner', 'admin'] LOOP
        role := tenancy.role_name(kind);
        SELECT * INTO flags FROM pg_roles r WHERE r.rolname = role;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'role % does not exist', quote_ident(role)
                USING ERRCODE = 'undefined_object', HINT = '`tenantctl db migrate` makes the roles of the control plane';
        ELSIF flags.rolsuper OR flags.rolbypassrls OR flags.rolcreaterole OR flags.rolreplication
              OR (flags.rolcanlogin AND kind = 'owner') THEN
            RAISE EXCEPTION 'role % can pass isolation by: it has SUPERUSER, BYPASSRLS, CREATEROLE, REPLICATION or LOGIN',
                quote_ident(role) USING ERRCODE = 'TN010', HINT = format(
                    'ALTER ROLE %I %sNOSUPERUSER NOBYPASSRLS NOCREATEROLE NOREPLICATION', role,
                    CASE kind WHEN 'owner' THEN 'NOLOGIN ' ELSE '' END);
        ELSIF kind <> 'app' AND pg_has_role(tenancy.role_name('app'), role, 'MEMBER') THEN
            RAISE EXCEPTION 'role % can become %', quote_ident(tenancy.role_name('app')), quote_ident(role)
                USING ERRCODE = 'TN010', HINT = format('REVOKE %I FROM %I, or from the role between them',
                                                       role, tenancy.role_name('app'));
        END IF;
    END LOOP;
END $$;

-- The schema-qualified name of a table that isolation can apply to; an error for anything else.
CREATE FUNCTION tenancy.checked_name(p_relation regclass) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    object record;
BEGIN
    SELECT c.relkind, c.relpersistence, n.nspname, format('%I.%I', n.nspname, c.relname) AS name INTO object
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = p_relation;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such table' USING ERRCODE = 'undefined_table',
            HINT = 'name it with its schema, and in double quotes where it is not plain lower case';
    ELSIF object.relkind NOT IN ('r', 'p') THEN
        RAISE EXCEPTION '% is a %, not a table', object.name, CASE object.relkind
                WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
                WHEN 'S' THEN 'sequence' WHEN 'i' THEN 'index' WHEN 'I' THEN 'index' WHEN 'c' THEN 'composite type'
                ELSE 'system object' END
            USING ERRCODE = 'wrong_object_type', HINT = CASE object.relkind
                WHEN 'v' THEN format('protect the tables behind it, and ALTER VIEW %s SET (security_invoker = true)', object.name)
                WHEN 'm' THEN 'it holds every tenant''s rows and takes no policies: keep it from the application role'
                ELSE 'row-level security exists for ordinary and partitioned tables' END;
    ELSIF object.nspname IN ('information_schema', 'pg_catalog', 'pg_toast') OR p_relation::oid < 16384 THEN
        RAISE EXCEPTION '% is a system table', object.name
            USING ERRCODE = 'TN010', HINT = 'name a table of the platform';
    ELSIF object.relpersistence = 't' THEN
        RAISE EXCEPTION '% is a temporary table', object.name
            USING ERRCODE = 'TN010', HINT = 'it belongs to one session and goes away with it';
    ELSIF object.nspname = 'tenancy' THEN
        RAISE EXCEPTION '% belongs to the control plane', object.name
            USING ERRCODE = 'TN010', HINT = 'the control plane protects itself; name a table of the platform';
    END IF;
    RETURN object.name;
END $$;

-- The tenant column of a table, and the comparison with the tenant in context: as it is written in a policy, and as
-- PostgreSQL gives it back. The column itself is never cast to another type, so its index serves.
CREATE FUNCTION tenancy.tenant_term(p_relation regclass, p_column text,
    OUT tenant_column text, OUT attnum int2, OUT base_type oid, OUT term text, OUT deparsed text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
#variable_conflict use_column
DECLARE
    relation_name CONSTANT text := tenancy.checked_name(p_relation);
    declared      oid;
    context       text;
BEGIN
    tenant_column := coalesce(p_column,
        (SELECT p.tenant_column FROM tenancy.protected_tables p WHERE p.relation = p_relation), 'tenant_id');
    SELECT a.attnum, a.atttypid INTO attnum, declared FROM pg_attribute a
     WHERE a.attrelid = p_relation AND a.attname = tenant_column AND a.attnum > 0 AND NOT a.attisdropped;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'table % has no column %', relation_name, quote_ident(tenant_column)
            USING ERRCODE = 'undefined_column',
            HINT = 'name the tenant column, or declare a reference table that all tenants read with tenancy.share()';
    END IF;
    WITH RECURSIVE base AS (
        SELECT t.oid, t.typtype, t.typbasetype FROM pg_type t WHERE t.oid = declared
        UNION ALL
        SELECT t.oid, t.typtype, t.typbasetype FROM base b JOIN pg_type t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
    )
    SELECT b.oid INTO base_type FROM base b WHERE b.typtype <> 'd';
    context := CASE base_type
        WHEN 'uuid'::regtype THEN 'current_tenant_id'
        WHEN 'text'::regtype THEN 'current_tenant_id_text'
        WHEN 'varchar'::regtype THEN 'current_tenant_id_text'
        WHEN 'bigint'::regtype THEN 'current_tenant_id_bigint'
        -- Compared as they are: the index on a smaller integer serves a bigint too, and a tenant out of its range
        -- meets no row where a cast would be an error.
        WHEN 'integer'::regtype THEN 'current_tenant_id_bigint'
        WHEN 'smallint'::regtype THEN 'current_tenant_id_bigint' END;
    IF context IS NULL THEN
        RAISE EXCEPTION 'column % of table % is of type %', quote_ident(tenant_column), relation_name,
                format_type(declared, NULL)
            USING ERRCODE = 'datatype_mismatch', HINT = 'a tenant column is of type uuid, text, varchar, bigint or integer';
    END IF;
    term := format('%I = (SELECT tenancy.%s())', tenant_column, context);
    deparsed := format('(%s = ( SELECT tenancy.%s() AS %s))',
        CASE WHEN base_type = 'varchar'::regtype THEN format('(%I)::text', tenant_column)
             WHEN declared <> base_type THEN format('(%I)::%s', tenant_column, format_type(base_type, NULL))
             ELSE quote_ident(tenant_column) END, context, context);
END $$;

-- Who owns the table: a role that nobody logs in as and that no flag lets past the policies.
CREATE FUNCTION tenancy.owner_changes(p_relation regclass)
RETURNS TABLE (action text, statement text, note text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    relation_name CONSTANT text := tenancy.checked_name(p_relation);
    target        CONSTANT text := tenancy.role_name('owner');
    version       CONSTANT int := current_setting('server_version_num')::int;
    me            pg_roles;
    owner         pg_roles;
    schema        record;
    may_grant     boolean;
    may_admit     boolean;
    belongs       boolean;
BEGIN
    SELECT * INTO me FROM pg_roles r WHERE r.rolname = current_user;
    SELECT r.* INTO owner FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE c.oid = p_relation;
    SELECT n.oid, n.nspname AS name,
           pg_has_role(n.nspowner, 'USAGE') OR has_schema_privilege(n.oid, 'USAGE WITH GRANT OPTION') AS grantable,
           pg_has_role(n.nspowner, 'USAGE') OR has_schema_privilege(n.oid, 'CREATE WITH GRANT OPTION') AS create_grantable
      INTO schema FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = p_relation;

    -- Deletes that cascade from the tenants run as the owner of the table.
    IF NOT has_schema_privilege(target, schema.oid, 'USAGE') THEN
        IF schema.grantable THEN
            RETURN QUERY SELECT 'schema', format('GRANT USAGE ON SCHEMA %I TO %I', schema.name, target), NULL::text;
        ELSE
            RETURN QUERY SELECT 'note', NULL::text, format('schema %I: %I lacks USAGE and %I may not grant it',
                                                           schema.name, target, me.rolname);
        END IF;
    END IF;

    IF NOT (owner.rolcanlogin OR owner.rolsuper OR owner.rolbypassrls OR owner.rolcreaterole OR owner.rolreplication
            OR pg_has_role(tenancy.role_name('app'), owner.oid, 'MEMBER')) THEN
        RETURN;
    END IF;
    may_admit := pg_has_role(target, 'USAGE WITH ADMIN OPTION') OR (me.rolcreaterole AND version < 160000);
    belongs := pg_has_role(target, 'USAGE');
    may_grant := me.rolsuper
        OR (pg_has_role(owner.oid, 'USAGE')
            AND (may_admit OR pg_has_role(target, CASE WHEN version >= 160000 THEN 'SET' ELSE 'MEMBER' END))
            AND (has_schema_privilege(target, schema.oid, 'CREATE') OR schema.create_grantable));
    IF NOT may_grant THEN
        RETURN QUERY SELECT 'note', NULL::text, format(
            'its owner %I can log in or pass policies by, and %I may not make %I the owner: as a superuser, ALTER TABLE %s OWNER TO %I',
            owner.rolname, me.rolname, target, relation_name, target);
        RETURN;
    END IF;
    IF NOT me.rolsuper AND NOT has_schema_privilege(target, schema.oid, 'CREATE') THEN
        RETURN QUERY SELECT 'schema', format('GRANT CREATE ON SCHEMA %I TO %I', schema.name, target), NULL::text;
    END IF;
    IF NOT belongs AND owner.oid = me.oid THEN
        RETURN QUERY SELECT 'membership', format('GRANT %I TO %I', target, me.rolname), NULL::text;
    END IF;
    RETURN QUERY SELECT 'owner', format('ALTER TABLE %s OWNER TO %I', relation_name, target), NULL::text;
    IF NOT owner.rolsuper AND owner.oid <> me.oid AND NOT pg_has_role(owner.oid, target, 'MEMBER') THEN
        RETURN QUERY SELECT 'note', NULL::text, format(
            'it belonged to %I until now; if that role runs migrations, GRANT %I TO %I, but never where the platform serves tenants as it',
            owner.rolname, target, owner.rolname);
    END IF;
END $$;

-- NOT NULL, the reference to the tenants and the index. A partition has them from its parent.
CREATE FUNCTION tenancy.key_changes(p_relation regclass, p_column text)
RETURNS TABLE (action text, statement text, note text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    relation_name CONSTANT text := tenancy.checked_name(p_relation);
    bound         CONSTANT int := 1000;
    tenant        record;
    state         record;
    hidden        text;
    in_the_way    bigint;
BEGIN
    SELECT * INTO tenant FROM tenancy.tenant_term(p_relation, p_column);
    SELECT c.relkind, c.relispartition, a.attnotnull, a.attgenerated, a.attcollation, n.oid AS schema,
           n.nspname AS schema_name, coalesce(l.collisdeterministic, true) AS deterministic
      INTO state
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = tenant.attnum
      LEFT JOIN pg_collation l ON l.oid = a.attcollation
     WHERE c.oid = p_relation;
    IF NOT state.deterministic THEN
        RETURN QUERY SELECT 'note', NULL::text, format(
            '%I has a nondeterministic collation: tenants whose keys differ only in case or accents are one', tenant.tenant_column);
    END IF;
    IF state.relispartition THEN
        RETURN;
    ELSIF state.attgenerated = 'v' THEN
        RETURN QUERY SELECT 'note', NULL::text, format('%I is a virtual column: no index or reference can stand on it',
                                                       tenant.tenant_column);
        RETURN;
    END IF;

    -- Policies bind the owner too: where they hide rows from us, a count of none means nothing, and PostgreSQL's own
    -- check of a new reference would pass over what it cannot see.
    hidden := CASE
        WHEN EXISTS (WITH RECURSIVE parts AS (
                        SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = p_relation
                        UNION ALL
                        SELECT i.inhrelid FROM parts p JOIN pg_inherits i ON i.inhparent = p.inhrelid)
                     SELECT FROM parts p JOIN pg_class c ON c.oid = p.inhrelid WHERE c.relkind = 'f')
            THEN 'a part of the table is a foreign table'
        WHEN row_security_active(p_relation) OR NOT has_column_privilege(p_relation, tenant.attnum, 'SELECT')
            THEN format('%I cannot see all rows', current_user) END;

    IF NOT state.attnotnull THEN
        IF hidden IS NULL THEN
            EXECUTE format('SELECT count(*) FROM (SELECT FROM %s WHERE %I IS NULL LIMIT %s) AS bounded',
                           relation_name, tenant.tenant_column, bound + 1) INTO in_the_way;
        END IF;
        IF hidden IS NOT NULL THEN
            RETURN QUERY SELECT 'note', NULL::text, format(
                '%I stays nullable: %s', tenant.tenant_column, hidden);
        ELSIF in_the_way > 0 THEN
            RETURN QUERY SELECT 'note', NULL::text, format(
                '%I stays nullable: %s belong to no tenant (SELECT * FROM %s WHERE %I IS NULL)', tenant.tenant_column,
                CASE WHEN in_the_way > bound THEN format('more than %s rows', bound)
                     WHEN in_the_way = 1 THEN '1 row' ELSE format('%s rows', in_the_way) END,
                relation_name, tenant.tenant_column);
        ELSE
            RETURN QUERY SELECT 'not_null', format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL',
                                                   relation_name, tenant.tenant_column), NULL::text;
        END IF;
    END IF;

    -- A reference to a table of tenants of the platform's own is as good.
    IF tenant.base_type = 'uuid'::regtype AND NOT EXISTS (
        SELECT FROM pg_constraint k
         WHERE k.conrelid = p_relation AND k.contype = 'f' AND k.conkey = ARRAY[tenant.attnum]) THEN
        IF hidden IS NULL THEN
            EXECUTE format('SELECT count(*) FROM (SELECT FROM %s%s t WHERE t.%I IS NOT NULL AND NOT EXISTS (
                                SELECT FROM tenancy.tenants x WHERE x.id = t.%I) LIMIT %s) AS bounded',
                           CASE WHEN state.relkind = 'r' THEN 'ONLY ' ELSE '' END, relation_name,
                           tenant.tenant_column, tenant.tenant_column, bound + 1) INTO in_the_way;
        END IF;
        IF hidden IS NOT NULL THEN
            RETURN QUERY SELECT 'note', NULL::text, format(
                '%I gets no reference to tenancy.tenants: %s', tenant.tenant_column, hidden);
        ELSIF in_the_way > 0 THEN
            RETURN QUERY SELECT 'note', NULL::text, format(
                '%I gets no reference to tenancy.tenants: %s belong to tenants that do not exist there', tenant.tenant_column,
                CASE WHEN in_the_way > bound THEN format('more than %s rows', bound)
                     WHEN in_the_way = 1 THEN '1 row' ELSE format('%s rows', in_the_way) END);
        ELSE
            RETURN QUERY SELECT 'foreign_key', format('ALTER TABLE %s ADD FOREIGN KEY (%I) REFERENCES tenancy.tenants (id)',
                                                      relation_name, tenant.tenant_column), NULL::text;
        END IF;
    END IF;

    IF NOT EXISTS (
        SELECT FROM pg_index i
          JOIN pg_class c ON c.oid = i.indexrelid
          JOIN pg_am m ON m.oid = c.relam
         WHERE i.indrelid = p_relation AND i.indkey[0] = tenant.attnum AND i.indcollation[0] = state.attcollation
           AND i.indisvalid AND i.indpred IS NULL AND m.amname = 'btree') THEN
        -- PostgreSQL finds a free name that fits.
        IF has_schema_privilege(state.schema, 'CREATE') THEN
            RETURN QUERY SELECT 'index', format('CREATE INDEX ON %s (%I)', relation_name, tenant.tenant_column), NULL::text;
        ELSE
            RETURN QUERY SELECT 'note', NULL::text, format('no index leads with %I, and %I may not create one in schema %I',
                                                           tenant.tenant_column, current_user, state.schema_name);
        END IF;
    END IF;
END $$;

DO $$
DECLARE
    function regprocedure;
BEGIN
    FOREACH function IN ARRAY ARRAY[
        'tenancy.check_roles()', 'tenancy.checked_name(regclass)', 'tenancy.tenant_term(regclass, text)',
        'tenancy.owner_changes(regclass)', 'tenancy.key_changes(regclass, text)']::regprocedure[] LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', function);
    END LOOP;
END $$;
