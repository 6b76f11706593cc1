-- What a plan of `rls setup --online --harden` takes for granted: hardening shows what it takes only once isolation stands.

-- Whether a plan takes something of a table for granted that only its setup makes: that its tenant column is NOT NULL, that
-- its policies bind us.
CREATE FUNCTION tenancy.planned(p_relation oid, p_what text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(p_relation::text = ANY (string_to_array(current_setting('tenancy.planned_' || p_what, true), ',')), false);
$$;
REVOKE EXECUTE ON FUNCTION tenancy.planned(oid, text) FROM PUBLIC;

-- As it was, and with what a plan takes for granted.
CREATE OR REPLACE FUNCTION tenancy.reference_with_tenant(p_constraint oid, OUT name text, OUT child text, OUT parent text, OUT columns text,
                                              OUT definition text, OUT in_the_way text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
#variable_conflict use_column
DECLARE
    bound    CONSTANT int := 1000;
    key      record;
    crossing text;
    rows     bigint;
BEGIN
    SELECT k.*, c.tenant_column AS own, r.tenant_column AS theirs, oc.attnum AS own_number, tc.attnum AS their_number,
           oc.atttypid AS own_type, tc.atttypid AS their_type, (tc.attnotnull OR tenancy.planned(tc.attrelid, 'not_null'))
               AND (oc.attnotnull OR tenancy.planned(oc.attrelid, 'not_null')) AS not_null,
           -- What can be compared: integers of any size, text and varchar, a domain as what it is made of.
           (SELECT t.typcategory FROM pg_type t WHERE t.oid = oc.atttypid) AS own_sort,
           (SELECT t.typcategory FROM pg_type t WHERE t.oid = tc.atttypid) AS their_sort,
           -- PostgreSQL 18 and later.
           coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false) AS period,
           coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true) AS enforced,
           format('%I.%I', n.nspname, p.relname) AS parent, format('%I.%I', m.nspname, o.relname) AS child,
           x.columns, x.targets, x.pairs, x.reset,
           pg_has_role(p.relowner, 'USAGE') AND pg_has_role(o.relowner, 'USAGE') AS mine
      INTO key
      FROM pg_constraint k
      JOIN pg_class o ON o.oid = k.conrelid
      JOIN pg_namespace m ON m.oid = o.relnamespace
      JOIN pg_class p ON p.oid = k.confrelid
      JOIN pg_namespace n ON n.oid = p.relnamespace
      LEFT JOIN tenancy.protected_tables c ON c.relation = k.conrelid AND c.kind = 'tenant'
      LEFT JOIN tenancy.protected_tables r ON r.relation = k.confrelid AND r.kind = 'tenant'
      LEFT JOIN pg_attribute oc ON oc.attrelid = k.conrelid AND oc.attname = c.tenant_column AND NOT oc.attisdropped
      LEFT JOIN pg_attribute tc ON tc.attrelid = k.confrelid AND tc.attname = r.tenant_column AND NOT tc.attisdropped
      CROSS JOIN LATERAL (
        SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY u.n) AS columns,
               string_agg(quote_ident(b.attname), ', ' ORDER BY u.n) AS targets,
               string_agg(format('c.%I = p.%I', a.attname, b.attname), ' AND ' ORDER BY u.n) AS pairs,
               string_agg(quote_ident(a.attname), ', ' ORDER BY u.n)
                   FILTER (WHERE u.own = ANY (coalesce(k.confdelsetcols, k.conkey))) AS reset
          FROM unnest(k.conkey, k.confkey) WITH ORDINALITY u (own, theirs, n)
          JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.own
          JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = u.theirs) x
     WHERE k.oid = p_constraint;
    name := key.conname;
    child := key.child;
    parent := key.parent;
    columns := format('%I, %s', key.theirs, key.targets);
    IF key.own_number IS NULL THEN
        in_the_way := format('%s is no tenant''s table', child);
        RETURN;
    END IF;
    in_the_way := CASE
        WHEN key.own_number = ANY (key.conkey) OR key.their_number = ANY (key.confkey)
            THEN 'a tenant column in it stands for something else'
        WHEN key.own_sort <> key.their_sort THEN format('the tenant columns are of types %s and %s',
            format_type(key.own_type, NULL), format_type(key.their_type, NULL))
        -- A row without a tenant would be held to no reference at all.
        WHEN NOT key.not_null THEN 'a tenant column is nullable'
        WHEN key.confupdtype IN ('n', 'd') THEN 'its ON UPDATE action would reset the tenant'
        WHEN key.period THEN 'it is over a PERIOD'
        WHEN key.confmatchtype = 'f' AND cardinality(key.conkey) > 1 THEN 'it is MATCH FULL'
        WHEN NOT key.mine THEN format('%I does not own both tables', current_user)
        WHEN row_security_active(key.conrelid::regclass) OR row_security_active(key.confrelid::regclass)
            OR tenancy.planned(key.conrelid, 'force') OR tenancy.planned(key.confrelid, 'force')
            THEN format('%I cannot see all rows', current_user) END;
    IF in_the_way IS NULL THEN
        crossing := format('FROM %s c JOIN %s p ON %s WHERE c.%I IS DISTINCT FROM p.%I', child, parent, key.pairs, key.own, key.theirs);
        EXECUTE format('SELECT count(*) FROM (SELECT %s LIMIT %s) AS bounded', crossing, bound + 1) INTO rows;
        IF rows > 0 THEN
            in_the_way := format('%s at a row of another tenant (SELECT c.* %s)', CASE
                WHEN rows > bound THEN format('more than %s rows point', bound) WHEN rows = 1 THEN '1 row points'
                ELSE format('%s rows point', rows) END, crossing);
        END IF;
    END IF;
    definition := format('FOREIGN KEY (%I, %s) REFERENCES %s (%s)%s%s%s%s', key.own, key.columns, parent, columns,
        CASE key.confupdtype WHEN 'r' THEN ' ON UPDATE RESTRICT' WHEN 'c' THEN ' ON UPDATE CASCADE' ELSE '' END,
        CASE key.confdeltype WHEN 'r' THEN ' ON DELETE RESTRICT' WHEN 'c' THEN ' ON DELETE CASCADE'
                             -- Of the columns, never the tenant.
                             WHEN 'n' THEN format(' ON DELETE SET NULL (%s)', key.reset)
                             WHEN 'd' THEN format(' ON DELETE SET DEFAULT (%s)', key.reset) ELSE '' END,
        CASE WHEN key.condeferred THEN ' DEFERRABLE INITIALLY DEFERRED' WHEN key.condeferrable THEN ' DEFERRABLE' ELSE '' END,
        CASE WHEN NOT key.enforced THEN ' NOT ENFORCED' WHEN NOT key.convalidated THEN ' NOT VALID' ELSE '' END);
END $$;

-- As it was, and with what a plan takes for granted.
CREATE OR REPLACE FUNCTION tenancy.crossing_uniques(p_relation regclass)
RETURNS TABLE (index regclass, statement text, note text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
#variable_conflict use_column
DECLARE
    relation_name CONSTANT text := tenancy.checked_name(p_relation);
    key           record;
    refers        record;
    in_the_way    text;
    definition    text;
    head          text;
    terms         text;
    equal         text;
BEGIN
    FOR key IN
        SELECT i.indexrelid, i.indisprimary, i.indisreplident, i.indnatts, x.relname, x.relam, m.amname, n.nspname,
               t.attname AS tenant, t.attnotnull OR tenancy.planned(i.indrelid, 'not_null') AS not_null, k.conname, k.contype,
               pg_indexam_has_property(x.relam, 'can_multi_col') AS many, pg_has_role(c.relowner, 'USAGE') AS mine,
               -- Exclusion constraints, and keys WITHOUT OVERLAPS (PostgreSQL 18 and later), whose operators are the index's.
               k.conexclop IS NOT NULL AS operators, t.attnum = ANY (y.columns) AS otherwise,
               (SELECT format('OPERATOR(%I.%s)', s.nspname, o.oprname)
                  FROM pg_opclass f
                  JOIN pg_amop a ON a.amopfamily = f.opcfamily AND a.amoplefttype = f.opcintype AND a.amoprighttype = f.opcintype
                  JOIN pg_operator o ON o.oid = a.amopopr AND o.oprname = '='
                  JOIN pg_namespace s ON s.oid = o.oprnamespace
                 WHERE f.opcmethod = x.relam AND f.opcdefault
                   AND f.opcintype = (CASE z.oid WHEN 'varchar'::regtype THEN 'text'::regtype ELSE z.oid END)) AS equal
          FROM pg_index i
          JOIN pg_class c ON c.oid = i.indrelid
          JOIN pg_namespace n ON n.oid = c.relnamespace
          JOIN tenancy.protected_tables r ON r.relation = i.indrelid AND r.kind = 'tenant'
          JOIN pg_attribute t ON t.attrelid = i.indrelid AND t.attname = r.tenant_column AND NOT t.attisdropped
          JOIN pg_class x ON x.oid = i.indexrelid AND NOT x.relispartition
          JOIN pg_am m ON m.oid = x.relam
          LEFT JOIN pg_constraint k ON k.conrelid = i.indrelid AND k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')
          CROSS JOIN LATERAL (SELECT (i.indkey::int2[])[0:i.indnkeyatts - 1] AS columns) y
          CROSS JOIN LATERAL (SELECT coalesce(nullif(b.typbasetype, 0), b.oid) AS oid FROM pg_type b WHERE b.oid = t.atttypid) z
         WHERE i.indrelid = p_relation AND (i.indisunique OR i.indisexclusion) AND i.indisvalid
           -- In an exclusion constraint the tenant counts where it is compared for equality.
           AND NOT EXISTS (SELECT FROM unnest(y.columns, k.conexclop) u (attnum, operator)
                            WHERE u.attnum = t.attnum
                              AND (u.operator IS NULL OR (SELECT o.oprname FROM pg_operator o WHERE o.oid = u.operator) = '='))
           -- A table with one row for each tenant: what tenants are told by has to be unique.
           AND NOT EXISTS (SELECT FROM pg_index o WHERE o.indrelid = p_relation AND o.indisunique AND o.indnkeyatts = 1
                              AND o.indkey[0] = t.attnum AND o.indpred IS NULL)
           -- What nobody can guess tells nothing: an id that the database makes, or one that refers to such.
           AND NOT EXISTS (
                SELECT FROM unnest(y.columns) u (attnum)
                  JOIN pg_attribute a ON a.attrelid = p_relation AND a.attnum = u.attnum
                  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                 WHERE a.attidentity <> '' OR a.attname ~* 'token|secret'
                    OR pg_get_expr(d.adbin, d.adrelid) ~* '(nextval|uuid|random|ulid|ksuid|nanoid|snowflake)'
                    OR (i.indisprimary AND i.indnkeyatts = 1 AND a.atttypid IN ('int8'::regtype, 'int4'::regtype))
                    OR (a.atttypid = 'uuid'::regtype
                        AND NOT EXISTS (SELECT FROM pg_constraint f
                                         WHERE f.conrelid = p_relation AND f.contype = 'f' AND f.conkey = ARRAY[a.attnum]
                                           AND f.confrelid NOT IN (SELECT o.relation FROM tenancy.protected_tables o WHERE o.kind = 'tenant'))))
           AND NOT coalesce(pg_get_expr(i.indexprs, i.indrelid) ~ ('(^|[^[:alnum:]_])'
               || regexp_replace(quote_ident(t.attname), '([^[:alnum:]_])', '\\\1', 'g') || '([^[:alnum:]_]|$)'), false)
         ORDER BY x.relname
    LOOP
        -- Those that refer to it, and cannot do so to its successor without the tenant.
        SELECT array_agg(format('ALTER TABLE %s DROP CONSTRAINT %I', w.child, w.name) ORDER BY w.child, w.name) AS away,
               array_agg(format('ALTER TABLE %s ADD CONSTRAINT %I %s', w.child, w.name, w.definition) ORDER BY w.child, w.name) AS back,
               string_agg(format('reference %I of %s cannot (%s)', w.name, w.child, w.in_the_way), '; ' ORDER BY w.child, w.name)
                   FILTER (WHERE w.in_the_way IS NOT NULL) AS in_the_way
          INTO refers
          FROM pg_constraint f, tenancy.reference_with_tenant(f.oid) w
         WHERE f.conindid = key.indexrelid AND f.contype = 'f' AND f.conparentid = 0;
        definition := tenancy.key_definition(key.indexrelid);
        head := CASE WHEN key.conname IS NULL THEN format('CREATE UNIQUE INDEX %I ON %s USING %I (', key.relname, relation_name, key.amname)
                     ELSE left(definition, position('(' IN definition)) END;
        in_the_way := CASE
            WHEN NOT key.mine THEN format('%I does not own the table', current_user)
            WHEN key.indnatts >= 32 THEN 'it has 32 columns already'
            WHEN key.otherwise THEN 'it compares the tenant with another operator'
            WHEN NOT key.many THEN format('an index of method %I has one column', key.amname)
            WHEN key.operators AND key.equal IS NULL THEN format(
                'method %I has no operator class for the tenant column%s', key.amname,
                CASE key.amname WHEN 'gist' THEN ' (CREATE EXTENSION btree_gist, then run this again)' ELSE '' END)
            WHEN key.indisprimary AND NOT key.not_null THEN 'it is the primary key, and the tenant column is nullable'
            WHEN key.indisreplident AND NOT key.not_null THEN 'it is the replica identity, and the tenant column is nullable'
            WHEN EXISTS (SELECT FROM pg_partition_tree(key.indexrelid) t JOIN pg_index i ON i.indexrelid = t.relid
                          WHERE t.level > 0 AND i.indisreplident) THEN 'it is the replica identity of a partition'
            WHEN NOT starts_with(definition, head) THEN 'its definition is of a sort that is not known'
            ELSE coalesce(tenancy.key_dependents(key.indexrelid) || ' depends on it', refers.in_the_way) END;
        terms := array_to_string(tenancy.key_terms(key.indexrelid, 1), ', ');
        IF in_the_way IS NOT NULL THEN
            RETURN QUERY SELECT key.indexrelid::regclass, NULL::text,
                format('unique key %I does not carry the tenant, and cannot: %s', key.relname, in_the_way);
            CONTINUE;
        END IF;
        definition := head || quote_ident(key.tenant) || CASE key.contype WHEN 'x' THEN ' WITH ' || key.equal ELSE '' END
                   || ', ' || substr(definition, length(head) + 1);
        RETURN QUERY
        SELECT key.indexrelid::regclass, s.statement, s.note
          FROM (
            SELECT 1 AS part, a.statement, NULL AS note, a.n FROM unnest(refers.away) WITH ORDINALITY a (statement, n)
            UNION ALL
            SELECT 2, format('DROP INDEX %I.%I', key.nspname, key.relname), NULL, 1 WHERE key.conname IS NULL
            UNION ALL
            SELECT 3, CASE WHEN key.conname IS NULL THEN definition
                           ELSE format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s', relation_name, key.conname,
                                       key.conname, definition) END,
                   format('unique key %I holds within each tenant from now on: %sa lookup by (%s) alone can meet rows of several tenants',
                          key.relname, CASE WHEN key.operators THEN '' ELSE format('ON CONFLICT (%s) has to say ON CONFLICT (%I, %s), and ',
                                                                                   terms, key.tenant, terms) END, terms), 1
            UNION ALL
            SELECT 4, m.statement, NULL, m.n FROM tenancy.key_marks(key.indexrelid) WITH ORDINALITY m (statement, n)
            UNION ALL
            SELECT 5, b.statement, NULL, b.n FROM unnest(refers.back) WITH ORDINALITY b (statement, n)
          ) s
         ORDER BY s.part, s.n;
    END LOOP;
END $$;

-- As it was, but that an index which is built ahead online is no key yet.
CREATE OR REPLACE FUNCTION tenancy.crossing_keys(p_relation regclass, p_replaced regclass[])
RETURNS TABLE (action text, statement text, note text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
#variable_conflict use_column
DECLARE
    relation_name CONSTANT text := tenancy.checked_name(p_relation);
    key           record;
BEGIN
    FOR key IN
        SELECT w.*, EXISTS (
                   SELECT FROM pg_index i
                    WHERE i.indrelid = k.confrelid AND i.indisunique AND i.indisvalid AND i.indimmediate
                      AND NOT EXISTS (SELECT FROM pg_class x WHERE x.oid = i.indexrelid AND x.relname ~ '^tenancy_online_key_')
                      AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indnkeyatts = cardinality(k.confkey) + 1
                      AND (i.indkey::int2[])[0:i.indnkeyatts - 1] @> (tc.attnum || k.confkey)
                      AND (tc.attnum || k.confkey) @> (i.indkey::int2[])[0:i.indnkeyatts - 1]) AS has_key,
               EXISTS (SELECT FROM pg_partitioned_table t, unnest(t.partattrs::int2[]) a
                        WHERE t.partrelid = k.confrelid AND a <> ALL (k.confkey) AND a <> tc.attnum) AS partition_key
          FROM pg_constraint k
          JOIN tenancy.protected_tables c ON c.relation = k.conrelid AND c.kind = 'tenant'
          JOIN tenancy.protected_tables r ON r.relation = k.confrelid AND r.kind = 'tenant'
          JOIN pg_attribute oc ON oc.attrelid = k.conrelid AND oc.attname = c.tenant_column AND NOT oc.attisdropped
          JOIN pg_attribute tc ON tc.attrelid = k.confrelid AND tc.attname = r.tenant_column AND NOT tc.attisdropped
          CROSS JOIN LATERAL tenancy.reference_with_tenant(k.oid) w
         WHERE k.conrelid = p_relation AND k.contype = 'f' AND k.conparentid = 0 AND k.conindid <> ALL (p_replaced)
           AND oc.attnum <> ALL (k.conkey) AND tc.attnum <> ALL (k.confkey)
         ORDER BY k.conname
    LOOP
        IF key.in_the_way IS NULL AND NOT key.has_key AND key.partition_key THEN
            key.in_the_way := format('no unique key of %s can leave its partition key out', key.parent);
        END IF;
        IF key.in_the_way IS NOT NULL THEN
            RETURN QUERY SELECT 'note', NULL::text, format('reference %I to %s does not carry the tenant, and cannot: %s',
                                                           key.name, key.parent, key.in_the_way);
            CONTINUE;
        END IF;
        IF NOT key.has_key THEN
            RETURN QUERY SELECT 'key', format('ALTER TABLE %s ADD UNIQUE (%s)', key.parent, key.columns), NULL::text;
        END IF;
        RETURN QUERY SELECT 'foreign_key', format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s', relation_name,
                                                  key.name, key.name, key.definition), NULL::text;
    END LOOP;
END $$;
