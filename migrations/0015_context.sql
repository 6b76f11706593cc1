-- The sealed context: tenancy.current_tenant_id() takes only a tenant that is signed with a key which the application
-- role cannot read, so that SQL which somebody injects into the application cannot name another tenant.
--
-- A token is 'sealed-1.<key>.<expiry>.<mac>.<tenant>': the key's id in 16 hexadecimal digits, the second after 1970 at
-- which it expires in 10 decimal digits, the MAC in 64 hexadecimal digits, and the tenant, which is the rest. The MAC is
-- HMAC-SHA-256 (RFC 2104, FIPS 198-1) over 'tenancy-context-v1.<key>.<expiry>.<tenant>' in UTF-8.

CREATE TABLE tenancy.context_keys (
    id         text PRIMARY KEY CHECK (id ~ '^[0-9a-f]{16}$'),
    -- A copy of the database under another name takes none of the tokens that the original takes.
    database   name NOT NULL DEFAULT current_database(),
    key        bytea NOT NULL CHECK (octet_length(key) = 32),
    -- The key filled up to a block of SHA-256 and XORed with the constants of RFC 2104: made once, not for every token.
    inner_pad  bytea NOT NULL CHECK (octet_length(inner_pad) = 64),
    outer_pad  bytea NOT NULL CHECK (octet_length(outer_pad) = 64),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- From then on what it signed is refused; 'infinity' for the key that signs.
    expires_at timestamptz NOT NULL DEFAULT 'infinity'
);
CREATE UNIQUE INDEX context_keys_signing ON tenancy.context_keys (expires_at) WHERE expires_at = 'infinity';
COMMENT ON TABLE tenancy.context_keys IS 'Keys that sign the context; for the owner role alone';

-- A right on all tables of the schema that somebody grants by accident still shows no key.
ALTER TABLE tenancy.context_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenancy.context_keys FORCE ROW LEVEL SECURITY;
DO $$
BEGIN
    EXECUTE format('CREATE POLICY control_plane ON tenancy.context_keys TO %I USING (true) WITH CHECK (true)',
                   tenancy.role_name('owner'));
    EXECUTE format('REVOKE ALL ON tenancy.context_keys FROM PUBLIC, %I, %I, %I',
                   tenancy.role_name('app'), tenancy.role_name('admin'), tenancy.role_name('auditor'));
END $$;

-- STABLE as convert_to is: it would not be inlined otherwise.
CREATE FUNCTION tenancy.context_token(inner_pad bytea, outer_pad bytea, head text, tenant text) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN 'sealed-1.' || head || '.' || encode(sha256(outer_pad || sha256(
        inner_pad || convert_to('tenancy-context-v1.' || head || '.' || tenant, 'UTF8'))), 'hex') || '.' || tenant;

-- A token is good for transactions that begin before it expires: none loses its tenant half-way.
CREATE FUNCTION tenancy.unseal(token text) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    inner_pad bytea;
    outer_pad bytea;
BEGIN
    SELECT k.inner_pad, k.outer_pad INTO inner_pad, outer_pad FROM tenancy.context_keys k
     WHERE k.id = substr(token, 10, 16) AND k.database = current_database() AND k.expires_at > now();
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    -- Comparing stops at the first byte that differs. What is compared are digests of both under the key: how long it
    -- took tells nothing about the token that was expected.
    IF sha256(outer_pad || convert_to(token, 'UTF8'))
       <> sha256(outer_pad || convert_to(tenancy.context_token(inner_pad, outer_pad, substr(token, 10, 27),
                                                               substr(token, 103)), 'UTF8')) THEN
        RETURN NULL;
    END IF;
    -- Only what was signed is known to be a number.
    RETURN CASE WHEN to_timestamp(substr(token, 27, 10)::float8) > now() THEN nullif(substr(token, 103), '') END;
END $$;
COMMENT ON FUNCTION tenancy.unseal IS 'Tenant of a token that one of the keys signed and that has not expired, else NULL';

CREATE FUNCTION tenancy.context_mode() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN EXISTS (
        SELECT FROM pg_depend d
         WHERE d.classid = 'pg_proc'::regclass AND d.objid = 'tenancy.current_tenant_id()'::regprocedure
           AND d.refclassid = 'pg_proc'::regclass AND d.refobjid = 'tenancy.unseal(text)'::regprocedure)
    THEN 'sealed' ELSE 'plain' END;
$$;
COMMENT ON FUNCTION tenancy.context_mode IS 'sealed where the context has to be signed, else plain';

-- A new key signs from now on; what others signed is taken for another while. Returns the new key's id.
CREATE FUNCTION tenancy.rotate_context_key(grace interval DEFAULT '1 hour') RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    until   CONSTANT timestamptz := clock_timestamp() + grace;
    fresh   CONSTANT text := substr(replace(gen_random_uuid()::text, '-', ''), 17);
    -- Each brings 122 bits of the server's cryptographic random number generator.
    key     CONSTANT bytea := sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
                                  || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
BEGIN
    IF until IS NULL OR grace < interval '0' OR NOT isfinite(until) THEN
        RAISE EXCEPTION 'an old key cannot be valid for another %', grace USING ERRCODE = 'invalid_parameter_value';
    END IF;
    LOCK TABLE tenancy.context_keys IN SHARE ROW EXCLUSIVE MODE;
    UPDATE tenancy.context_keys k SET expires_at = until WHERE k.expires_at > until;
    DELETE FROM tenancy.context_keys k WHERE k.expires_at <= clock_timestamp() OR k.database <> current_database();
    INSERT INTO tenancy.context_keys (id, key, inner_pad, outer_pad)
    SELECT fresh, key, decode(string_agg(lpad(to_hex(b.byte # 54), 2, '0'), '' ORDER BY b.at), 'hex'),
           decode(string_agg(lpad(to_hex(b.byte # 92), 2, '0'), '' ORDER BY b.at), 'hex')
      FROM (SELECT n AS at, CASE WHEN n < 32 THEN get_byte(key, n) ELSE 0 END AS byte FROM generate_series(0, 63) n) b;
    RETURN fresh;
END $$;
COMMENT ON FUNCTION tenancy.rotate_context_key IS 'Makes a new key for the context; the old ones are valid for the time given';

-- SECURITY DEFINER, so that no superuser who calls it lends it rights.
CREATE FUNCTION tenancy.sign_context(tenant text, ttl interval DEFAULT '5 minutes') RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    expiry  CONSTANT bigint := extract(epoch FROM clock_timestamp() + ttl);
    signing record;
BEGIN
    IF tenant IS NULL OR tenant = '' OR expiry IS NULL OR expiry NOT BETWEEN 0 AND 9999999999 THEN
        RAISE EXCEPTION 'a context needs a tenant and a time to expire' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT k.id, k.inner_pad, k.outer_pad INTO signing FROM tenancy.context_keys k
     WHERE k.expires_at = 'infinity' AND k.database = current_database();
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no key to sign the context with' USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'run tenantctl rls context rotate';
    END IF;
    RETURN tenancy.context_token(signing.inner_pad, signing.outer_pad,
                                 signing.id || '.' || lpad(expiry::text, 10, '0'), tenant);
END $$;
COMMENT ON FUNCTION tenancy.sign_context IS 'Token for app.current_tenant_id; for the owner role alone';

-- What a service needs to sign by itself: the key's id and the key.
CREATE FUNCTION tenancy.signing_key() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('tenancy-context-v1 %s %s', k.id, encode(k.key, 'hex')) FROM tenancy.context_keys k
     WHERE k.expires_at = 'infinity' AND k.database = current_database();
$$;
COMMENT ON FUNCTION tenancy.signing_key IS 'The key that signs the context, in the form that tenancy::context::Signer reads';

-- What the owner role sets app.current_tenant_id to. Where that has to be signed it fails for who may not sign: a
-- context without rows would be taken for a tenant without rows.
CREATE FUNCTION tenancy.context_value(tenant text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF tenancy.context_mode() = 'plain' THEN
        RETURN tenant;
    END IF;
    RETURN tenancy.sign_context(tenant);
END $$;
COMMENT ON FUNCTION tenancy.context_value IS 'Value of app.current_tenant_id for a tenant: signed where it has to be';

-- Both forms are inlined into the query that calls them. The plain one takes a token as well, without looking at its
-- MAC, so that services can sign before the context is sealed. After set_config(..., true) the variable reads '' and not
-- NULL for the rest of the session, hence nullif.
CREATE FUNCTION tenancy.define_context(mode text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    definition record;
BEGIN
    FOR definition IN
        SELECT f.name, f.type,
               CASE mode WHEN 'sealed' THEN 'tenancy.unseal(current_setting(''app.current_tenant_id'', true))'
                         WHEN 'plain' THEN
                   'nullif(substr(current_setting(''app.current_tenant_id'', true), '
                   '1 + 102 * starts_with(current_setting(''app.current_tenant_id'', true), ''sealed-1.'')::int), '''')'
                   END AS body
          FROM (VALUES ('current_tenant_id', 'uuid'), ('current_tenant_id_text', 'text'),
                       ('current_tenant_id_bigint', 'bigint')) AS f (name, type)
    LOOP
        IF definition.body IS NULL THEN
            RAISE EXCEPTION 'there is no context mode %', mode USING ERRCODE = 'invalid_parameter_value';
        END IF;
        EXECUTE format('CREATE OR REPLACE FUNCTION tenancy.%s() RETURNS %s LANGUAGE sql STABLE PARALLEL SAFE RETURN %s::%s',
                       definition.name, definition.type, definition.body, definition.type);
    END LOOP;
END $$;
DO $$ BEGIN PERFORM tenancy.define_context('plain'); END $$;

-- Whether the context has to be signed, as desired state: what is missing of a mode.
CREATE FUNCTION tenancy.context_changes(mode text) RETURNS TABLE (action text, statement text, note text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (mode IN ('plain', 'sealed')) IS NOT TRUE THEN
        RAISE EXCEPTION 'there is no context mode %', mode USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY SELECT 'context', format('SELECT tenancy.set_context_mode(%L)', mode), NULL::text
                  WHERE mode <> tenancy.context_mode();
END $$;

-- SECURITY DEFINER: the functions stay the owner role's, whoever calls it. Returns whether anything changed.
CREATE FUNCTION tenancy.set_context_mode(mode text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenancy.lock_isolation();
    PERFORM FROM tenancy.context_changes(mode);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF mode = 'sealed' THEN
        LOCK TABLE tenancy.context_keys IN SHARE ROW EXCLUSIVE MODE;
        IF NOT EXISTS (SELECT FROM tenancy.context_keys k
                        WHERE k.expires_at = 'infinity' AND k.database = current_database()) THEN
            PERFORM tenancy.rotate_context_key('0');
        END IF;
    END IF;
    PERFORM tenancy.define_context(mode);
    RETURN true;
END $$;
COMMENT ON FUNCTION tenancy.set_context_mode IS 'Seals the context, with a key where there is none, or takes plain tenants again';

-- Carries it out, and tells what it did.
CREATE FUNCTION tenancy.change_context(mode text) RETURNS TABLE (action text, statement text, note text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    change record;
BEGIN
    FOR change IN SELECT * FROM tenancy.context_changes(mode) c LOOP
        EXECUTE change.statement;
        RETURN QUERY SELECT change.action, change.statement, change.note;
    END LOOP;
END $$;

DO $$
DECLARE
    function regprocedure;
BEGIN
    FOREACH function IN ARRAY ARRAY[
        'tenancy.context_token(bytea, bytea, text, text)', 'tenancy.rotate_context_key(interval)',
        'tenancy.sign_context(text, interval)', 'tenancy.signing_key()', 'tenancy.define_context(text)',
        'tenancy.context_changes(text)', 'tenancy.change_context(text)', 'tenancy.set_context_mode(text)']::regprocedure[] LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', function);
    END LOOP;
END $$;
