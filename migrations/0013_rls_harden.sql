-- Hardening: what isolation stands on besides policies. As in 0008, first what is missing, as statements that a person can
-- read, then what carries them out; all of it is written down for the teardown.

-- A row never changes hands, whoever updates it: the rights that setup grants leave the tenant column out, this also binds
-- owners.
CREATE FUNCTION tenancy.refuse_tenant_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'a row of %.% cannot move to another tenant', quote_ident(tg_table_schema), quote_ident(tg_table_name)
        USING ERRCODE = 'TN010', HINT = 'insert it there and delete it here; to mend data, DISABLE TRIGGER tenant_immutable first';
END $$;

-- References between two tenant tables that do not carry the tenant: a row can point at another tenant's, and probe for it.
-- Each is replaced by one of the same name that does, on a unique key of the parent that has the tenant in it.
CREATE FUNCTION tenancy.crossing_keys(p_relation regclass)
RETURNS TABLE (action text, statement text, note text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
#variable_conflict use_column
DECLARE
    relation_name CONSTANT text := tenancy.checked_name(p_relation);
    bound         CONSTANT int := 1000;
    key           record;
    pairs         text;
    crossing      text;
    rows          bigint;
    in_the_way    text;
BEGIN
    FOR key IN
        SELECT k.conname, k.oid, k.conrelid, k.confrelid, k.condeferrable, k.condeferred, k.confmatchtype, k.confupdtype, k.confdeltype,
               -- PostgreSQL 18 and later.
               coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false) AS period,
               k.convalidated, format('%I.%I', n.nspname, p.relname) AS parent, p.relispartition AS of_partition,
               c.tenant_column AS own, r.tenant_column AS theirs, cardinality(k.conkey) AS width,
               oc.atttypid AS own_type, tc.atttypid AS their_type, tc.attnotnull AND oc.attnotnull AS not_null,
               (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY x.n) FROM unnest(k.conkey) WITH ORDINALITY x (num, n)
                  JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = x.num) AS columns,
               (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY x.n) FROM unnest(k.confkey) WITH ORDINALITY x (num, n)
                  JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = x.num) AS targets,
               (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY x.n)
                  FROM unnest(coalesce(k.confdelsetcols, k.conkey)) WITH ORDINALITY x (num, n)
                  JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = x.num) AS reset,
               EXISTS (SELECT FROM pg_index i
                        WHERE i.indrelid = k.confrelid AND i.indisunique AND i.indisvalid AND i.indimmediate
                          AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indnkeyatts = cardinality(k.confkey) + 1
                          AND (i.indkey::int2[])[0:i.indnkeyatts - 1] @> (tc.attnum || k.confkey)
                          AND (tc.attnum || k.confkey) @> (i.indkey::int2[])[0:i.indnkeyatts - 1]) AS has_key,
               pg_has_role(p.relowner, 'USAGE') AS may_key, pg_has_role(o.relowner, 'USAGE') AS may_reference
          FROM pg_constraint k
          JOIN pg_class o ON o.oid = k.conrelid
          JOIN tenancy.protected_tables c ON c.relation = k.conrelid AND c.kind = 'tenant'
          JOIN tenancy.protected_tables r ON r.relation = k.confrelid AND r.kind = 'tenant'
          JOIN pg_attribute oc ON oc.attrelid = k.conrelid AND oc.attname = c.tenant_column AND NOT oc.attisdropped
          JOIN pg_attribute tc ON tc.attrelid = k.confrelid AND tc.attname = r.tenant_column AND NOT tc.attisdropped
          JOIN pg_class p ON p.oid = k.confrelid
          JOIN pg_namespace n ON n.oid = p.relnamespace
         WHERE k.conrelid = p_relation AND k.contype = 'f' AND k.conparentid = 0
           AND oc.attnum <> ALL (k.conkey) AND tc.attnum <> ALL (k.confkey)
         ORDER BY k.conname
    LOOP
        SELECT string_agg(format('c.%I = p.%I', a.attname, b.attname), ' AND ' ORDER BY x.n) INTO pairs
          FROM pg_constraint k, unnest(k.conkey, k.confkey) WITH ORDINALITY x (own, other, n)
          JOIN pg_attribute a ON a.attrelid = key.conrelid AND a.attnum = x.own
          JOIN pg_attribute b ON b.attrelid = key.confrelid AND b.attnum = x.other
         WHERE k.oid = key.oid;
        crossing := format('FROM %s c JOIN %s p ON %s WHERE c.%I IS DISTINCT FROM p.%I', relation_name, key.parent, pairs,
                           key.own, key.theirs);
        in_the_way := CASE
            WHEN key.own_type <> key.their_type THEN format('the tenant columns are of types %s and %s',
                format_type(key.own_type, NULL), format_type(key.their_type, NULL))
            -- A row without a tenant would be held to no reference at all.
            WHEN NOT key.not_null THEN 'a tenant column is nullable'
            WHEN key.confupdtype IN ('n', 'd') THEN 'its ON UPDATE action would reset the tenant'
            WHEN key.period THEN 'it is over a PERIOD'
            WHEN key.confmatchtype = 'f' AND key.width > 1 THEN 'it is MATCH FULL'
            WHEN NOT (key.may_key AND key.may_reference) THEN format('%I does not own both tables', current_user)
            WHEN row_security_active(p_relation) OR row_security_active(key.confrelid::regclass) THEN format('%I cannot see all rows', current_user)
            WHEN NOT key.has_key AND EXISTS (
                SELECT FROM pg_partitioned_table t, pg_constraint k, unnest(t.partattrs::int2[]) a
                 WHERE t.partrelid = key.confrelid AND k.oid = key.oid AND a <> ALL (k.confkey)
                   AND a <> (SELECT n.attnum FROM pg_attribute n WHERE n.attrelid = key.confrelid AND n.attname = key.theirs))
                THEN format('no unique key of %s can leave its partition key out', key.parent) END;
        IF in_the_way IS NULL THEN
            EXECUTE format('SELECT count(*) FROM (SELECT %s LIMIT %s) AS bounded', crossing, bound + 1) INTO rows;
            IF rows > 0 THEN
                in_the_way := format('%s at a row of another tenant (SELECT c.* %s)', CASE
                    WHEN rows > bound THEN format('more than %s rows point', bound) WHEN rows = 1 THEN '1 row points'
                    ELSE format('%s rows point', rows) END, crossing);
            END IF;
        END IF;
        IF in_the_way IS NOT NULL THEN
            RETURN QUERY SELECT 'note', NULL::text, format('reference %I to %s does not carry the tenant, and cannot: %s',
                                                           key.conname, key.parent, in_the_way);
            CONTINUE;
        END IF;
        IF NOT key.has_key THEN
            RETURN QUERY SELECT 'key', format('ALTER TABLE %s ADD UNIQUE (%I, %s)', key.parent, key.theirs, key.targets), NULL::text;
        END IF;
        RETURN QUERY SELECT 'foreign_key', format(
            'ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I FOREIGN KEY (%I, %s) REFERENCES %s (%I, %s)%s%s%s%s',
            relation_name, key.conname, key.conname, key.own, key.columns, key.parent, key.theirs, key.targets,
            CASE key.confupdtype WHEN 'r' THEN ' ON UPDATE RESTRICT' WHEN 'c' THEN ' ON UPDATE CASCADE' ELSE '' END,
            CASE key.confdeltype WHEN 'r' THEN ' ON DELETE RESTRICT' WHEN 'c' THEN ' ON DELETE CASCADE'
                                 -- Of the columns, never the tenant.
                                 WHEN 'n' THEN format(' ON DELETE SET NULL (%s)', key.reset)
                                 WHEN 'd' THEN format(' ON DELETE SET DEFAULT (%s)', key.reset) ELSE '' END,
            CASE WHEN key.condeferred THEN ' DEFERRABLE INITIALLY DEFERRED' WHEN key.condeferrable THEN ' DEFERRABLE' ELSE '' END,
            CASE WHEN NOT key.convalidated THEN ' NOT VALID' ELSE '' END), NULL::text;
    END LOOP;
END $$;

-- References between tenant tables that do not carry the tenant, as notes: of these tables, with their tenant columns, and
-- of those that are registered. Reads no rows.
CREATE FUNCTION tenancy.crossing_references(relations regclass[], tenant_columns text[]) RETURNS TABLE (relation regclass, note text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH tenant AS (
        SELECT t.relation::oid AS relation, t.field FROM unnest(relations, tenant_columns) AS t (relation, field)
        UNION
        SELECT r.relation::oid, r.tenant_column FROM tenancy.protected_tables r
         WHERE r.kind = 'tenant' AND r.relation <> ALL (relations)
    )
    SELECT k.conrelid::regclass,
           format('reference %I does not carry the tenant: with --harden it becomes FOREIGN KEY (%I, %s) REFERENCES %I.%I (%I, %s)',
                  k.conname, c.field, x.columns, n.nspname, t.relname, p.field, x.targets) AS note
      FROM pg_constraint k
      JOIN tenant c ON c.relation = k.conrelid
      JOIN tenant p ON p.relation = k.confrelid
      JOIN pg_class t ON t.oid = k.confrelid
      JOIN pg_namespace n ON n.oid = t.relnamespace
      JOIN pg_attribute o ON o.attrelid = k.conrelid AND o.attname = c.field
      JOIN pg_attribute f ON f.attrelid = k.confrelid AND f.attname = p.field
      CROSS JOIN LATERAL (
        SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY u.n) AS columns,
               string_agg(quote_ident(b.attname), ', ' ORDER BY u.n) AS targets
          FROM unnest(k.conkey, k.confkey) WITH ORDINALITY u (own, theirs, n)
          JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.own
          JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = u.theirs) x
     WHERE k.contype = 'f' AND k.conparentid = 0 AND o.attnum <> ALL (k.conkey) AND f.attnum <> ALL (k.confkey)
     ORDER BY k.conrelid, k.conname;
$$;

-- What a tenant's table, or a view over such tables, lacks of hardening.
CREATE FUNCTION tenancy.hardening(relation regclass) RETURNS TABLE ("position" int, action text, statement text, note text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
#variable_conflict use_column
DECLARE
    target CONSTANT regclass := relation;
    object record;
    name   text;
BEGIN
    SELECT c.relkind, c.relowner, c.relacl, c.relispartition, c.reloptions, n.nspname, c.relname, r.tenant_column, r.kind,
           pg_has_role(c.relowner, 'USAGE') AS mine
      INTO object
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN tenancy.protected_tables r ON r.relation = c.oid
     WHERE c.oid = target;
    name := format('%I.%I', object.nspname, object.relname);
    IF object.relkind = 'v' THEN
        RETURN QUERY
        SELECT 1, CASE WHEN object.mine THEN 'security_invoker' ELSE 'note' END,
               CASE WHEN object.mine THEN format('ALTER VIEW %s SET (security_invoker = true)', name) END,
               CASE WHEN NOT object.mine THEN format('it reads with its owner''s rights, and %I may not change it: as a superuser, ALTER VIEW %s SET (security_invoker = true)',
                                                     current_user, name) END
         WHERE NOT EXISTS (SELECT FROM unnest(object.reloptions) o
                            WHERE lower(o) IN ('security_invoker=true', 'security_invoker=on', 'security_invoker=1', 'security_invoker=yes'));
        RETURN;
    ELSIF object.kind IS DISTINCT FROM 'tenant' THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT (row_number() OVER (ORDER BY s.part, s.n))::int, s.action, s.statement, s.note
      FROM (
        SELECT 1 AS part, 'revoke' AS action,
               format('REVOKE %s ON %s FROM %s', string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type), name,
                      coalesce(quote_ident(r.rolname), 'PUBLIC')) AS statement, NULL::text AS note, r.rolname::text AS n
          FROM aclexplode(object.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
         WHERE a.grantee <> object.relowner AND a.grantor = object.relowner
           AND a.privilege_type IN ('TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN')
         GROUP BY r.rolname
        UNION ALL
        SELECT 2, 'immutable', format('CREATE TRIGGER tenant_immutable BEFORE UPDATE ON %s FOR EACH ROW
    WHEN (old.%I IS DISTINCT FROM new.%I) EXECUTE FUNCTION tenancy.refuse_tenant_change()', name, object.tenant_column,
                      object.tenant_column), NULL, ''
         -- A partition has it from its parent.
         WHERE NOT object.relispartition AND NOT EXISTS (
            SELECT FROM pg_trigger t WHERE t.tgrelid = target AND t.tgname = 'tenant_immutable')
        UNION ALL
        SELECT 2, 'immutable', format('ALTER TABLE %s ENABLE TRIGGER tenant_immutable', name), NULL, ''
         WHERE EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = target AND t.tgname = 'tenant_immutable' AND t.tgenabled = 'D')
        UNION ALL
        SELECT 3, k.action, k.statement, k.note, lpad(k.n::text, 9, '0')
          FROM tenancy.crossing_keys(target) WITH ORDINALITY k (action, statement, note, n)
      ) s;
END $$;
COMMENT ON FUNCTION tenancy.hardening IS
    'Statements that a tenant''s table or a view over tenants'' tables lacks of hardening, and notes; changes nothing';

-- Carries it out, and writes down what it changed, on the tables that it refers to as well.
CREATE FUNCTION tenancy.harden(relation regclass) RETURNS TABLE ("position" int, action text, statement text, note text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    target   CONSTANT regclass := relation;
    touched  regclass[];
    change   record;
    before   tenancy.isolation_fact[];
BEGIN
    PERFORM tenancy.lock_isolation();
    touched := ARRAY(SELECT target UNION SELECT k.confrelid::regclass FROM pg_constraint k WHERE k.conrelid = target AND k.contype = 'f'
                        AND k.confrelid IN (SELECT r.relation FROM tenancy.protected_tables r));
    FOR change IN SELECT * FROM tenancy.hardening(target) h ORDER BY h."position" LOOP
        IF change.statement IS NOT NULL THEN
            IF before IS NULL THEN
                before := ARRAY(SELECT DISTINCT s FROM unnest(touched) t, tenancy.isolation_state(t) s);
            END IF;
            -- Two references can need the same key.
            CONTINUE WHEN change.action = 'key' AND NOT EXISTS (
                SELECT FROM tenancy.crossing_keys(target) k WHERE k.statement = change.statement);
            EXECUTE change.statement;
        END IF;
        RETURN QUERY SELECT change."position", change.action, change.statement, change.note;
    END LOOP;
    IF before IS NOT NULL THEN
        PERFORM tenancy.remember(before, ARRAY(SELECT DISTINCT s FROM unnest(touched) t, tenancy.isolation_state(t) s));
    END IF;
END $$;
COMMENT ON FUNCTION tenancy.harden IS 'Hardens a tenant''s table or a view over tenants'' tables; returns what it carried out';

-- Views that read tenants' tables, directly or through other views, and are no extension's.
CREATE FUNCTION tenancy.tenant_views() RETURNS TABLE (relation regclass, name text) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE reads AS MATERIALIZED (
        SELECT DISTINCT w.ev_class AS view, d.refobjid AS relation
          FROM pg_rewrite w
          JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
         WHERE w.ev_class >= 16384 AND d.refobjid <> w.ev_class
    ), over AS (
        SELECT r.view FROM reads r JOIN tenancy.protected_tables t ON t.relation = r.relation AND t.kind = 'tenant'
        UNION
        SELECT r.view FROM over o JOIN reads r ON r.relation = o.view
    )
    SELECT c.oid::regclass, format('%I.%I', n.nspname, c.relname) FROM over o
      JOIN pg_class c ON c.oid = o.view AND c.relkind = 'v'
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname NOT IN ('tenancy', 'information_schema') AND n.nspname !~ '^pg_'
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
     ORDER BY n.nspname, c.relname;
$$;

-- What the database as a whole gives away: to PUBLIC, the right to create objects and temporary tables; to PUBLIC and the
-- control plane's roles, rights on tables that are still to come. With the statements that take it and give it back.
CREATE FUNCTION tenancy.database_rights()
RETURNS TABLE (schema regnamespace, kind text, object text, role text, mine boolean, take text, give text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 0::oid::regnamespace, 'database', a.privilege_type, '', pg_has_role(d.datdba, 'USAGE'),
           format('REVOKE %s ON DATABASE %I FROM PUBLIC', a.privilege_type, d.datname),
           format('GRANT %s ON DATABASE %I TO PUBLIC', a.privilege_type, d.datname)
      FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
     WHERE d.datname = current_database() AND a.grantee = 0 AND a.privilege_type IN ('CREATE', 'TEMPORARY')
    UNION ALL
    SELECT n.oid::regnamespace, 'schema', a.privilege_type, '', pg_has_role(n.nspowner, 'USAGE'),
           format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', n.nspname), format('GRANT CREATE ON SCHEMA %I TO PUBLIC', n.nspname)
      FROM pg_namespace n, aclexplode(n.nspacl) a
     WHERE a.grantee = 0 AND a.privilege_type = 'CREATE' AND n.nspname !~ '^pg_'
    UNION ALL
    SELECT f.defaclnamespace::regnamespace, 'default', format('%s ON %s OF %I', a.privilege_type, k.name, o.rolname),
           coalesce(r.rolname::text, ''), pg_has_role(o.oid, 'USAGE'),
           format('%s REVOKE %s ON %s FROM %s', x.head, a.privilege_type, k.name, x.grantee),
           format('%s GRANT %s ON %s TO %s%s', x.head, a.privilege_type, k.name, x.grantee,
                  CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
      FROM pg_default_acl f
      JOIN pg_roles o ON o.oid = f.defaclrole
      CROSS JOIN LATERAL aclexplode(f.defaclacl) a
      JOIN (VALUES ('r', 'TABLES'), ('S', 'SEQUENCES')) k (type, name) ON k.type = f.defaclobjtype
      LEFT JOIN pg_namespace n ON n.oid = f.defaclnamespace
      LEFT JOIN pg_roles r ON r.oid = a.grantee
      CROSS JOIN LATERAL (SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s', o.rolname, ' IN SCHEMA ' || quote_ident(n.nspname)) AS head,
                                 coalesce(quote_ident(r.rolname), 'PUBLIC') AS grantee) x
     WHERE a.grantee <> f.defaclrole AND (a.grantee = 0 OR r.rolname IN (tenancy.role_name('app'), tenancy.role_name('admin')))
       AND (n.nspname IS NULL OR (n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'));
$$;

-- The same as facts; their detail is the statement that gives it back.
CREATE FUNCTION tenancy.database_state() RETURNS SETOF tenancy.isolation_fact
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 0::oid::regclass, r.schema, r.kind, r.object, r.role, r.give FROM tenancy.database_rights() r;
$$;

CREATE FUNCTION tenancy.database_hardening() RETURNS TABLE ("position" int, action text, statement text, note text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT (row_number() OVER (ORDER BY r.kind, r.take))::int,
           CASE WHEN NOT r.mine THEN 'note' WHEN r.kind = 'default' THEN 'default_privileges' ELSE 'revoke' END,
           CASE WHEN r.mine THEN r.take END,
           CASE WHEN NOT r.mine THEN format('%I may not do it: %s', current_user, r.take) END
      FROM tenancy.database_rights() r;
$$;
COMMENT ON FUNCTION tenancy.database_hardening IS
    'Statements that take from PUBLIC what nobody needs of the database, and rights on tables still to come; changes nothing';

CREATE FUNCTION tenancy.harden_database() RETURNS TABLE ("position" int, action text, statement text, note text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    change record;
    before tenancy.isolation_fact[];
BEGIN
    PERFORM tenancy.lock_isolation();
    before := ARRAY(SELECT s FROM tenancy.database_state() s);
    FOR change IN SELECT * FROM tenancy.database_hardening() h ORDER BY h."position" LOOP
        IF change.statement IS NOT NULL THEN
            EXECUTE change.statement;
        END IF;
        RETURN QUERY SELECT change."position", change.action, change.statement, change.note;
    END LOOP;
    PERFORM tenancy.remember(before, ARRAY(SELECT s FROM tenancy.database_state() s));
END $$;

-- What undoes setup on the database as a whole, once no table is under isolation any more.
CREATE FUNCTION tenancy.database_removal() RETURNS TABLE ("position" int, action text, statement text, note text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT (row_number() OVER (ORDER BY s.part, s.statement))::int, s.action, s.statement, s.note
      FROM (
        SELECT 1 AS part, g.action, g.statement, g.note FROM tenancy.guard_changes('off') g
        UNION ALL
        SELECT 2, CASE c.kind WHEN 'default' THEN 'default_privileges' ELSE 'grant' END, c.detail, NULL
          FROM tenancy.isolation_changes c
          LEFT JOIN pg_namespace n ON n.oid = c.schema
         WHERE c.taken AND c.kind IN ('database', 'schema', 'default') AND (c.schema = 0 OR n.oid IS NOT NULL)
           AND (c.role = '' OR EXISTS (SELECT FROM pg_roles r WHERE r.rolname = c.role))
           AND (c.kind <> 'default' OR EXISTS (SELECT FROM pg_roles r WHERE c.object LIKE '% OF ' || quote_ident(r.rolname)))
           AND NOT EXISTS (SELECT FROM tenancy.database_rights() r
                            WHERE r.schema = c.schema AND r.kind = c.kind AND r.object = c.object AND r.role = c.role)
        UNION ALL
        SELECT 3, 'forget', 'DELETE FROM tenancy.isolation_changes WHERE kind IN (''database'', ''schema'', ''default'')', NULL
         WHERE EXISTS (SELECT FROM tenancy.isolation_changes c WHERE c.kind IN ('database', 'schema', 'default'))
      ) s;
$$;

CREATE FUNCTION tenancy.dismantle_database() RETURNS TABLE ("position" int, action text, statement text, note text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    change record;
BEGIN
    PERFORM tenancy.lock_isolation();
    FOR change IN SELECT * FROM tenancy.database_removal() r ORDER BY r."position" LOOP
        EXECUTE change.statement;
        RETURN QUERY SELECT change."position", change.action, change.statement, change.note;
    END LOOP;
END $$;

DO $$
DECLARE
    function regprocedure;
BEGIN
    FOREACH function IN ARRAY ARRAY[
        'tenancy.refuse_tenant_change()', 'tenancy.crossing_keys(regclass)', 'tenancy.crossing_references(regclass[], text[])', 'tenancy.hardening(regclass)', 'tenancy.harden(regclass)',
        'tenancy.tenant_views()', 'tenancy.database_rights()', 'tenancy.database_state()', 'tenancy.database_hardening()',
        'tenancy.harden_database()', 'tenancy.database_removal()', 'tenancy.dismantle_database()']::regprocedure[] LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', function);
    END LOOP;
END $$;
