-- Hardening large tables in use (`rls setup --online --harden`): what is to be replaced is what 0014 and 0021 say, here is how
-- that is done without keeping anybody waiting.

-- How keys are replaced online, a row for each: the index that is built CONCURRENTLY under a name of its own (spare), what
-- follows in one brief transaction, and what is proven after it. Where spare is NULL the brief transaction reads the table.
-- Rows without statements are notes.
CREATE TYPE tenancy.online_replacement AS (
    action text, relation regclass,
    key regclass,         -- the unique key that goes, if any
    spare text, build text,
    ready boolean,        -- the spare index stands
    unfit boolean,        -- something else of that name does, such as what an ended run left,
    builder int,          -- or is being built by this backend
    columns text[],       -- of a new key, whose name PostgreSQL would choose by them
    statements text[], proofs text[], touched regclass[], note text, caveats text[]
);

-- The index that is built ahead, as it stands. p_rest is what follows its name, p_where what that ends in.
CREATE FUNCTION tenancy.online_spare(p_replacement tenancy.online_replacement, p_rest text, p_where text, p_tablespace name)
RETURNS tenancy.online_replacement
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
DECLARE
    found record;
BEGIN
    SELECT i.indexrelid, i.indisvalid AND pg_get_indexdef(i.indexrelid) = format('CREATE UNIQUE INDEX %I%s', p_replacement.spare, p_rest) AS ready
      INTO found
      FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     WHERE i.indrelid = p_replacement.relation AND c.relname = p_replacement.spare;
    p_replacement.ready := coalesce(found.ready, false);
    p_replacement.unfit := coalesce(NOT found.ready, false);
    p_replacement.builder := (SELECT b.pid FROM pg_stat_progress_create_index b WHERE b.index_relid = found.indexrelid LIMIT 1);
    p_replacement.build := format('CREATE UNIQUE INDEX CONCURRENTLY %I%s%s%s', p_replacement.spare,
                                  left(p_rest, length(p_rest) - length(coalesce(p_where, ''))),
                                  ' TABLESPACE ' || quote_ident(p_tablespace), p_where);
    RETURN p_replacement;
END $$;

-- All locks first, in one statement: they are waited for once.
CREATE FUNCTION tenancy.online_lock(p_relations regclass[]) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
    SELECT format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE',
                  string_agg(format('%s%I.%I', CASE c.relkind WHEN 'r' THEN 'ONLY ' END, n.nspname, c.relname), ', ' ORDER BY x.n))
      FROM unnest(p_relations) WITH ORDINALITY x (relation, n)
      JOIN pg_class c ON c.oid = x.relation JOIN pg_namespace n ON n.oid = c.relnamespace;
$$;

-- Whether a reference can be made first and proven later: before PostgreSQL 18 not from a partitioned table, and one to a
-- partitioned table would stay unproven in part.
CREATE FUNCTION tenancy.online_proof(p_constraint oid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.convalidated AND coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true)
           AND (current_setting('server_version_num')::int >= 180000 OR (c.relkind = 'r' AND p.relkind = 'r'))
      FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class p ON p.oid = k.confrelid WHERE k.oid = p_constraint;
$$;

-- A reference that reads its table in the brief transaction.
CREATE FUNCTION tenancy.online_caveat(p_constraint oid) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('reference %I is proven while its tables are locked, within the lock timeout: before PostgreSQL 18 one of a partitioned table cannot be proven later',
                  k.conname)
      FROM pg_constraint k WHERE k.oid = p_constraint AND k.convalidated AND NOT tenancy.online_proof(k.oid);
$$;

-- The name that PostgreSQL chooses for an index of a table, once the index p_gone and its partitions are gone.
CREATE FUNCTION tenancy.online_name(p_relation regclass, p_columns text[], p_label text, p_gone regclass) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    longest CONSTANT int := 63;
    object  record;
    label   text;
    first   text;
    second  text;
    room    int;
    a       int;
    b       int;
BEGIN
    SELECT c.relname::text AS name, c.relnamespace AS schema INTO object FROM pg_class c WHERE c.oid = p_relation;
    FOR n IN 0 .. 1000 LOOP
        label := p_label || CASE WHEN n > 0 THEN n::text ELSE '' END;
        first := object.name;
        second := array_to_string(p_columns, '_');
        a := octet_length(first);
        b := coalesce(octet_length(second), -1);
        room := longest - octet_length(label) - 2;
        WHILE a + b > room LOOP
            IF a > b THEN a := a - 1; ELSE b := b - 1; END IF;
        END LOOP;
        -- No character is cut in two.
        WHILE octet_length(first) > a LOOP first := left(first, -1); END LOOP;
        WHILE octet_length(second) > b LOOP second := left(second, -1); END LOOP;
        first := concat_ws('_', first, second, label);
        IF NOT EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = object.schema AND c.relname = first
                          AND c.oid NOT IN (SELECT t.relid FROM pg_partition_tree(p_gone) t))
           AND (p_label = 'idx' OR NOT EXISTS (
                SELECT FROM pg_constraint k WHERE k.connamespace = object.schema AND k.conname = first
                   AND k.conindid NOT IN (SELECT t.relid FROM pg_partition_tree(p_gone) t))) THEN
            RETURN first;
        END IF;
    END LOOP;
    RAISE EXCEPTION 'no name is free for an index of %', p_relation;
END $$;

-- The unique keys of crossing_uniques. Of a partitioned table each partition's is built ahead, in a row of its own: PostgreSQL
-- takes them over into that of the whole.
CREATE FUNCTION tenancy.online_uniques(p_relation regclass) RETURNS SETOF tenancy.online_replacement
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
DECLARE
    planned     record;
    key         record;
    refers      record;
    replacement tenancy.online_replacement;
    definition  text;
    head        text;
    statement   text;
    part        record;
    spare       tenancy.online_replacement;
    takes       text[];
    parts       regclass[];
BEGIN
    FOR planned IN
        SELECT u.index, array_agg(u.statement ORDER BY u.n) AS statements, max(u.note) AS note,
               max(u.n) FILTER (WHERE u.note IS NOT NULL) - min(u.n) + 1 AS replaces
          FROM tenancy.crossing_uniques(p_relation) WITH ORDINALITY u (index, statement, note, n)
         GROUP BY u.index ORDER BY min(u.n)
    LOOP
        replacement := NULL;
        replacement.action := 'unique_key';
        replacement.key := planned.index;
        replacement.relation := p_relation;
        replacement.note := planned.note;
        IF planned.statements[1] IS NULL THEN
            RETURN NEXT replacement;
            CONTINUE;
        END IF;
        SELECT x.relname, x.relkind, m.amname, n.nspname, r.tenant_column, k.conname, k.contype, coalesce(k.condeferrable, false) AS deferrable, s.spcname,
               format('%I.%I', n.nspname, c.relname) AS table, i.indisexclusion OR k.conexclop IS NOT NULL AS operators,
               ' WHERE ' || pg_get_expr(i.indpred, i.indrelid) AS predicate
          INTO key
          FROM pg_index i
          JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
          JOIN tenancy.protected_tables r ON r.relation = i.indrelid
          JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
          LEFT JOIN pg_tablespace s ON s.oid = x.reltablespace
          LEFT JOIN pg_constraint k ON k.conrelid = i.indrelid AND k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')
         WHERE i.indexrelid = planned.index;
        SELECT array_agg(f.oid ORDER BY f.oid) AS oids,
               array_agg(DISTINCT f.conrelid::regclass) FILTER (WHERE f.conrelid <> p_relation) AS children
          INTO refers
          FROM pg_constraint f WHERE f.conindid = planned.index AND f.contype = 'f' AND f.conparentid = 0;
        takes := '{}';
        parts := '{}';
        definition := pg_get_indexdef(planned.index);
        head := format('CREATE UNIQUE INDEX %I ON %s USING %I (', key.relname, key.table, key.amname);
        -- An index beside a deferrable key would refuse at once what that lets pass until later.
        IF NOT key.operators AND NOT key.deferrable AND key.relkind = 'i' AND starts_with(definition, head) THEN
            replacement.spare := 'tenancy_online_key_' || planned.index::oid;
            replacement := tenancy.online_spare(replacement, format(' ON %s USING %I (%I, ', key.table, key.amname, key.tenant_column)
                                                || substr(definition, length(head) + 1), key.predicate, key.spcname);
        -- A partition's own primary key makes its columns NOT NULL by themselves there, and nothing takes that back.
        ELSIF NOT key.operators AND NOT key.deferrable AND key.relkind = 'I' AND NOT (coalesce(key.contype = 'p', false) AND current_setting('server_version_num')::int >= 180000)
              AND starts_with(definition, format('CREATE UNIQUE INDEX %I ON ONLY %s USING %I (', key.relname, key.table, key.amname)) THEN
            head := format('CREATE UNIQUE INDEX %I ON ONLY %s USING %I (', key.relname, key.table, key.amname);
            FOR part IN
                SELECT i.indexrelid::regclass AS index, i.indrelid::regclass AS relation, n.nspname, format('%I.%I', n.nspname, c.relname) AS table,
                       ARRAY(SELECT a.attname || CASE a.attname WHEN key.tenant_column THEN '1' ELSE '' END FROM pg_attribute a
                              WHERE a.attrelid = x.oid ORDER BY a.attnum) AS columns
                  FROM pg_partition_tree(planned.index) t
                  JOIN pg_class x ON x.oid = t.relid AND x.relkind = 'i'
                  JOIN pg_index i ON i.indexrelid = x.oid
                  JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                 ORDER BY n.nspname, c.relname
            LOOP
                spare := NULL;
                spare.action := 'unique_key';
                spare.relation := part.relation;
                spare.spare := 'tenancy_online_key_' || part.index::oid;
                spare.statements := '{}';
                -- As PostgreSQL makes it for the whole, with that one's options.
                spare := tenancy.online_spare(spare, format(' ON %s USING %I (%I, ', part.table, key.amname, key.tenant_column)
                                              || substr(definition, length(head) + 1), NULL, NULL);
                RETURN NEXT spare;
                parts := parts || part.relation;
                statement := tenancy.online_name(part.relation, CASE WHEN key.contype IS DISTINCT FROM 'p' THEN key.tenant_column || part.columns END,
                    CASE key.contype WHEN 'p' THEN 'pkey' WHEN 'u' THEN 'key' ELSE 'idx' END, planned.index);
                takes := takes || CASE WHEN key.conname IS NULL
                    THEN format('ALTER INDEX %I.%I RENAME TO %I', part.nspname, spare.spare, statement)
                    ELSE format('ALTER TABLE %s ADD CONSTRAINT %I %s USING INDEX %I', part.table, statement,
                                CASE key.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END, spare.spare) END;
            END LOOP;
        ELSE
            replacement.caveats := ARRAY[format('unique key %I is built anew while the table is locked, within the lock timeout: PostgreSQL builds no %s concurrently',
                key.relname, CASE WHEN key.operators THEN 'exclusion constraint' WHEN key.deferrable THEN 'deferrable key'
                                  ELSE 'primary key of a partitioned table' END)];
        END IF;
        replacement.touched := refers.children || p_relation;
        replacement.statements := ARRAY[tenancy.online_lock(replacement.touched)];
        FOR n IN 1 .. cardinality(planned.statements) LOOP
            statement := planned.statements[n];
            IF n = planned.replaces AND cardinality(takes) > 0 THEN
                IF key.conname IS NOT NULL THEN
                    head := format('ALTER TABLE %s DROP CONSTRAINT %I', key.table, key.conname);
                    replacement.statements := replacement.statements || head;
                    statement := format('ALTER TABLE %s', key.table) || substr(statement, length(head) + 2);
                END IF;
                replacement.statements := replacement.statements || takes;
            ELSIF n = planned.replaces AND replacement.spare IS NOT NULL THEN
                statement := CASE WHEN key.conname IS NULL THEN format('ALTER INDEX %I.%I RENAME TO %I', key.nspname, replacement.spare, key.relname)
                    ELSE format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s USING INDEX %I', key.table, key.conname, key.conname,
                                CASE key.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END, replacement.spare) END;
            ELSIF n > planned.replaces AND EXISTS (
                SELECT FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace s ON s.oid = c.relnamespace
                 WHERE f.oid = ANY (refers.oids) AND tenancy.online_proof(f.oid)
                   AND starts_with(statement, format('ALTER TABLE %I.%I ADD CONSTRAINT %I FOREIGN KEY ', s.nspname, c.relname, f.conname))) THEN
                statement := statement || ' NOT VALID';
            END IF;
            replacement.statements := replacement.statements || statement;
        END LOOP;
        replacement.touched := replacement.touched || parts;
        replacement.proofs := ARRAY(
            SELECT format('ALTER TABLE %I.%I VALIDATE CONSTRAINT %I', s.nspname, c.relname, f.conname) FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace s ON s.oid = c.relnamespace
             WHERE f.oid = ANY (refers.oids) AND tenancy.online_proof(f.oid) ORDER BY 1);
        replacement.caveats := replacement.caveats
            || ARRAY(SELECT v FROM unnest(refers.oids) f, tenancy.online_caveat(f) v WHERE v IS NOT NULL ORDER BY 1);
        RETURN NEXT replacement;
    END LOOP;
END $$;

-- The references of crossing_keys, and the keys that they need. Of the unique keys in p_replaced a plan takes for granted that
-- they carry the tenant.
CREATE FUNCTION tenancy.online_references(p_relation regclass, p_replaced regclass[]) RETURNS SETOF tenancy.online_replacement
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
DECLARE
    relation_name CONSTANT text := tenancy.checked_name(p_relation);
    planned     record;
    key         record;
    wanted      text;
    fields      text;
    made        text[] := '{}';
    replacement tenancy.online_replacement;
BEGIN
    FOR planned IN SELECT * FROM tenancy.crossing_keys(p_relation, p_replaced) LOOP
        replacement := NULL;
        replacement.note := planned.note;
        IF planned.statement IS NULL THEN
            RETURN NEXT replacement;
            CONTINUE;
        ELSIF planned.action = 'key' THEN
            -- Of the reference that comes next.
            wanted := planned.statement;
            CONTINUE;
        END IF;
        SELECT k.oid, k.confrelid, c.relkind, format('%I.%I', n.nspname, c.relname) AS parent,
               ARRAY[r.tenant_column] || ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u (num, n)
                                                 JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.num ORDER BY u.n) AS columns,
               ARRAY(SELECT a FROM unnest(k.confkey) a ORDER BY a) AS numbers
          INTO STRICT key
          FROM pg_constraint k
          JOIN pg_class c ON c.oid = k.confrelid JOIN pg_namespace n ON n.oid = c.relnamespace
          JOIN tenancy.protected_tables r ON r.relation = k.confrelid
         WHERE k.conrelid = p_relation AND k.contype = 'f' AND k.conparentid = 0
           AND starts_with(planned.statement, format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT ', relation_name, k.conname));
        -- Two references can need the same key, and a unique key that is replaced can be that.
        IF wanted IS NOT NULL AND format('%s %s', key.parent, key.numbers) <> ALL (made)
           AND NOT EXISTS (SELECT FROM pg_index i
                            WHERE i.indexrelid = ANY (p_replaced) AND i.indrelid = key.confrelid AND i.indimmediate
                              AND i.indpred IS NULL AND i.indexprs IS NULL
                              AND ARRAY(SELECT a FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) a ORDER BY a) = key.numbers) THEN
            made := made || format('%s %s', key.parent, key.numbers);
            replacement.action := 'key';
            replacement.relation := key.confrelid;
            replacement.columns := key.columns;
            replacement.touched := ARRAY[key.confrelid];
            IF key.relkind = 'r' THEN
                fields := substr(wanted, length(format('ALTER TABLE %s ADD UNIQUE ', key.parent)) + 1);
                replacement.spare := 'tenancy_online_key_' || key.oid;
                replacement := tenancy.online_spare(replacement, format(' ON %s USING btree %s', key.parent, fields), NULL, NULL);
                replacement.statements := ARRAY[]::text[];
            ELSE
                replacement.statements := ARRAY[wanted];
                replacement.caveats := ARRAY[format('a unique key of %s is built while it is locked, within the lock timeout: PostgreSQL builds no index of a partitioned table concurrently', key.parent)];
            END IF;
            RETURN NEXT replacement;
            replacement := NULL;
        END IF;
        wanted := NULL;
        replacement.action := 'foreign_key';
        replacement.relation := p_relation;
        replacement.touched := CASE WHEN key.confrelid = p_relation THEN ARRAY[p_relation] ELSE ARRAY[p_relation, key.confrelid::regclass] END;
        replacement.statements := ARRAY[tenancy.online_lock(replacement.touched), planned.statement || CASE WHEN tenancy.online_proof(key.oid) THEN ' NOT VALID' ELSE '' END];
        replacement.proofs := ARRAY(SELECT format('ALTER TABLE %s VALIDATE CONSTRAINT %I', relation_name, k.conname)
                                      FROM pg_constraint k WHERE k.oid = key.oid AND tenancy.online_proof(k.oid));
        replacement.caveats := ARRAY(SELECT v FROM tenancy.online_caveat(key.oid) v WHERE v IS NOT NULL);
        RETURN NEXT replacement;
    END LOOP;
END $$;

-- References that hardening made and has yet to prove: what was there before was proven.
CREATE FUNCTION tenancy.online_unproven() RETURNS TABLE (relation regclass, object text, statement text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
    SELECT k.conrelid::regclass, k.conname::text, format('ALTER TABLE %I.%I VALIDATE CONSTRAINT %I', n.nspname, c.relname, k.conname)
      FROM tenancy.isolation_changes m
      JOIN tenancy.isolation_changes l ON l.relation = m.relation AND l.kind = m.kind AND l.object = m.object AND l.taken
      JOIN pg_constraint k ON k.conrelid = m.relation AND k.conname = m.object AND k.contype = 'f' AND NOT k.convalidated
      JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE m.kind = 'constraint' AND NOT m.taken AND l.detail ~ '^FOREIGN KEY' AND l.detail !~ ' NOT (VALID|ENFORCED)$'
       AND coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true)
       AND m.detail = pg_get_constraintdef(k.oid)
     ORDER BY n.nspname, c.relname, k.conname;
$$;

-- Indexes that were built ahead and have not become keys.
CREATE FUNCTION tenancy.online_spares() RETURNS TABLE (relation regclass, object text, statement text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
    SELECT i.indrelid::regclass, c.relname::text, format('DROP INDEX CONCURRENTLY %I.%I', n.nspname, c.relname)
      FROM tenancy.isolation_changes m
      JOIN pg_index i ON i.indrelid = m.relation
      JOIN pg_class c ON c.oid = i.indexrelid AND c.relname = m.object JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE m.kind = 'index' AND NOT m.taken AND m.object ~ '^tenancy_online_key_\d+$'
       AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
     ORDER BY n.nspname, c.relname;
$$;

DO $$
DECLARE
    function regprocedure;
BEGIN
    FOREACH function IN ARRAY ARRAY['tenancy.online_spare(tenancy.online_replacement, text, text, name)',
        'tenancy.online_lock(regclass[])', 'tenancy.online_proof(oid)', 'tenancy.online_caveat(oid)', 'tenancy.online_name(regclass, text[], text, regclass)',
        'tenancy.online_uniques(regclass)',
        'tenancy.online_references(regclass, regclass[])', 'tenancy.online_unproven()', 'tenancy.online_spares()']::regprocedure[] LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', function);
    END LOOP;
END $$;
