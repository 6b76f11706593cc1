//! What reached the shards of a distributed table. No Citus is at hand: what the check asks it for stands in, over tables
//! that are the shards, and that have what Citus 13.2 was seen to make of the coordinator's policies.

use tenancy::rls::Severity::Error;

use super::{assert_found, assert_silent, find, verified};

/// The extension's name, its list of distributed tables, and its way to ask each shard.
const STAND_IN: &str = r#"
SET allow_system_table_mods = on;
INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
    SELECT pg_nextoid('pg_extension', 'oid', 'pg_extension_oid_index'), 'citus', oid, 'pg_catalog'::regnamespace, false, '13.2-1'
      FROM pg_roles WHERE rolname = current_user;
CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass PRIMARY KEY);
CREATE SCHEMA shards;
CREATE TABLE shards.placed (shardid bigint PRIMARY KEY, logicalrelid regclass NOT NULL, shard regclass NOT NULL);
CREATE FUNCTION pg_catalog.run_command_on_shards(table_name regclass, command text)
    RETURNS TABLE (shardid bigint, success boolean, result text) LANGUAGE plpgsql AS $$
BEGIN
    FOR shardid, result IN SELECT p.shardid, p.shard::text FROM shards.placed p WHERE p.logicalrelid = table_name LOOP
        BEGIN
            EXECUTE format(command, result) INTO result;
            success := true;
        EXCEPTION WHEN others THEN
            success := false;
            result := SQLERRM;
        END;
        RETURN NEXT;
    END LOOP;
END $$;
-- A table gets two shards with its policies. A sub-select does not work on Citus, a restrictive policy is the test's own.
CREATE FUNCTION shards.distribute(relation regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    shard text;
BEGIN
    EXECUTE format('DROP POLICY IF EXISTS tenant_floor ON %s', relation);
    EXECUTE format('ALTER POLICY tenant_isolation ON %s USING (tenant_id = tenancy.current_tenant_id())
                    WITH CHECK (tenant_id = tenancy.current_tenant_id())', relation);
    INSERT INTO pg_dist_partition VALUES (relation);
    FOR id IN 1..2 LOOP
        shard := format('shards.%I', (SELECT relname FROM pg_class WHERE oid = relation) || '_10200' || id);
        EXECUTE format('CREATE TABLE %s (LIKE %s)', shard, relation);
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', shard);
        EXECUTE format('CREATE POLICY tenant_isolation ON %s TO %I USING (tenant_id = tenancy.current_tenant_id())
                        WITH CHECK (tenant_id = tenancy.current_tenant_id())', shard, tenancy.role_name('app'));
        INSERT INTO shards.placed VALUES (10 * relation::oid::bigint + id, relation, shard);
    END LOOP;
END $$;
CREATE TABLE public."kept as is" (LIKE public.events INCLUDING ALL);
SELECT tenancy.test_protect('public."kept as is"');
SELECT shards.distribute('public.events'), shards.distribute('public.tickets'), shards.distribute('public."kept as is"');
"#;

#[tokio::test]
async fn shards_that_lost_a_policy_are_found() {
    let report = verified(&format!(
        "{STAND_IN}
         -- As Citus carries a restrictive policy: it arrives permissive.
         CREATE POLICY floor ON public.events AS RESTRICTIVE USING (tenant_id = tenancy.current_tenant_id());
         CREATE POLICY floor ON shards.events_102001 USING (tenant_id = tenancy.current_tenant_id());
         CREATE POLICY floor ON shards.events_102002 USING (tenant_id = tenancy.current_tenant_id());
         -- One shard of two holds its owner to nothing.
         ALTER TABLE shards.tickets_102002 NO FORCE ROW LEVEL SECURITY"
    ))
    .await;
    assert_eq!(report.engine, "citus");
    let restrictive = assert_found(&report, Error, "shard-policy-differs", "public.events");
    assert_eq!(restrictive.message, "2 of its shards do not have its row-level security");
    assert!(restrictive.evidence.contains("floor PERMISSIVE"), "{restrictive:#?}");
    assert!(restrictive.evidence.contains("the coordinator: row security t, forced t; floor RESTRICTIVE"));
    let unforced = assert_found(&report, Error, "shard-policy-differs", "public.tickets");
    assert_eq!(unforced.message, "1 of its shards do not have its row-level security");
    assert!(unforced.evidence.contains("forced f"), "{unforced:#?}");
    // Its shards say what it says.
    assert!(find(&report, "shard-policy-differs", "public.\"kept as is\"").is_none(), "{report:#?}");
}

#[tokio::test]
async fn a_shard_that_cannot_be_asked_is_found() {
    let report =
        verified(&format!("{STAND_IN} INSERT INTO shards.placed VALUES (1, 'public.events', 0)")).await;
    let finding = assert_found(&report, Error, "shard-policy-differs", "public.events");
    assert!(finding.evidence.contains("shard 1"), "{finding:#?}");
}

#[tokio::test]
async fn without_citus_no_shard_is_asked() {
    let report = verified("").await;
    assert_eq!(report.engine, "postgresql");
    assert_silent(&report, "shard-policy-differs");
}
