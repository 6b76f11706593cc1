//! Rights that row-level security does not guard, or that reach further than somebody meant.

use crate::common::verify;
use tenancy::rls::Options;
use tenancy::rls::Severity::{Error, Note, Warning};

use super::{assert_found, assert_quiet, assert_silent, database, find, mend, verified};

#[tokio::test]
async fn each_grant_is_found_and_mended() {
    let database = database(
        r#"
        GRANT TRIGGER ON public.events TO tenancy_app; GRANT REFERENCES ON public.events TO PUBLIC;
        GRANT REFERENCES (id) ON public.tickets TO tenancy_app; GRANT SELECT (price) ON public.tickets TO PUBLIC;
        GRANT ALL ON SEQUENCE public.tickets_id_seq TO tenancy_app;
        ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, TRUNCATE ON TABLES TO tenancy_app;
        ALTER DEFAULT PRIVILEGES GRANT INSERT, SELECT ON TABLES TO PUBLIC;
        CREATE SCHEMA "My ""Data"; GRANT USAGE ON SCHEMA "My ""Data" TO tenancy_app;
        CREATE TABLE "My ""Data"."Ünit's" (tenant_id uuid NOT NULL REFERENCES tenancy.tenants, "No" serial, PRIMARY KEY (tenant_id, "No"));
        SELECT tenancy.test_protect('"My ""Data"."Ünit''s"');
        GRANT TRIGGER, REFERENCES, UPDATE ON "My ""Data"."Ünit's" TO tenancy_app;
        GRANT SELECT ON "My ""Data"."Ünit's" TO PUBLIC; GRANT SELECT ON SEQUENCE "My ""Data"."Ünit's_No_seq" TO tenancy_app;
        "#,
    )
    .await;
    // What PUBLIC may do other tests' roles may do as well, while they are there: only these checks.
    let checks =
        ["grant-trigger", "grant-references", "grant-public", "grant-tenant-column", "sequence-readable"];
    let checks =
        checks.into_iter().chain(["default-privileges", "new-table-guard"]).map(String::from).collect();
    let report = verify(&database, &Options { checks, ..Options::default() }).await.expect("a report");
    let odd = r#""My ""Data"."Ünit's""#;
    for object in ["public.events", odd] {
        assert_found(&report, Error, "grant-trigger", object);
    }
    for object in ["public.events", "public.tickets", odd] {
        assert_found(&report, Warning, "grant-references", object);
    }
    for object in ["public.tickets", odd] {
        assert_found(&report, Warning, "grant-public", object);
    }
    for object in ["public.tickets_id_seq", r#""My ""Data"."Ünit's_No_seq""#] {
        assert_found(&report, Note, "sequence-readable", object);
    }
    // The policies pin it.
    assert_silent(&report, "grant-tenant-column");
    let found = report.findings.iter().filter(|finding| finding.check == "default-privileges");
    let mut kinds: Vec<&str> = found.map(|finding| finding.object_kind.as_str()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["role", "schema"]);
    mend(&database, &report).await;
    let report = verify(&database, &Options::default()).await.expect("a report");
    assert!(report.findings.is_empty(), "{report:#?}");
}

#[tokio::test]
async fn rights_that_are_safe_or_out_of_reach_are_quiet() {
    let report = verified(
        "CREATE SCHEMA hidden; CREATE TABLE hidden.t (tenant_id uuid PRIMARY KEY, id serial);
         GRANT TRIGGER, REFERENCES, SELECT ON hidden.t TO tenancy_app, PUBLIC;
         GRANT ALL ON SEQUENCE hidden.t_id_seq TO tenancy_app;
         GRANT TRIGGER, REFERENCES ON public.events TO tenancy_auditor;
         GRANT SELECT ON public.countries TO PUBLIC;
         CREATE SEQUENCE public.numbers; GRANT ALL ON SEQUENCE public.numbers TO tenancy_app;
         CREATE TABLE public.orders (tenant_id uuid NOT NULL REFERENCES tenancy.tenants, id serial, PRIMARY KEY (tenant_id, id));
         SELECT tenancy.test_protect('public.orders'); GRANT USAGE ON SEQUENCE public.orders_id_seq TO tenancy_app;
         ALTER DEFAULT PRIVILEGES IN SCHEMA hidden GRANT ALL ON TABLES TO tenancy_auditor;
         ALTER DEFAULT PRIVILEGES FOR ROLE tenancy_owner GRANT ALL ON TABLES TO tenancy_owner",
    )
    .await;
    assert!(report.findings.is_empty(), "{report:#?}");
}

#[tokio::test]
async fn grant_tenant_column_is_a_warning_where_policies_allow_several_tenants() {
    let database = database(
        "GRANT UPDATE (tenant_id) ON public.events TO tenancy_app; GRANT UPDATE ON public.tickets TO tenancy_app;
         DROP POLICY tenant_floor ON public.tickets;
         ALTER POLICY tenant_isolation ON public.tickets USING (tenant_id IN (SELECT tenancy.current_tenant_id()))
             WITH CHECK (tenant_id IN (SELECT tenancy.current_tenant_id()))",
    )
    .await;
    let report = verify(&database, &Options::default()).await.expect("a report");
    assert_found(&report, Warning, "grant-tenant-column", "public.tickets");
    assert!(
        find(&report, "grant-tenant-column", "public.events").is_none(),
        "WITH CHECK pins it: {report:#?}"
    );
    mend(&database, &report).await;
    assert_silent(&verify(&database, &Options::default()).await.expect("a report"), "grant-tenant-column");
    // The other columns are as they were.
    super::common::execute(
        &database,
        "DO $$ BEGIN ASSERT has_column_privilege('tenancy_app', 'public.tickets', 'price', 'UPDATE');
                     ASSERT NOT has_column_privilege('tenancy_app', 'public.tickets', 'tenant_id', 'UPDATE');
                     ASSERT has_column_privilege('tenancy_app', 'public.events', 'title', 'UPDATE'); END $$",
    )
    .await;
}

#[tokio::test]
async fn large_objects_are_found_and_mended() {
    let database = database(
        "SELECT lo_from_bytea(1000001, 'of the operator'), lo_from_bytea(1000002, 'of all');
         GRANT SELECT ON LARGE OBJECT 1000002 TO tenancy_app",
    )
    .await;
    let report = verify(&database, &Options::default()).await.expect("a report");
    assert_eq!(report.findings.len(), 1, "{report:#?}");
    assert_found(&report, Warning, "large-objects", "pg_catalog.pg_largeobject");
    super::common::execute(&database, "ALTER LARGE OBJECT 1000001 OWNER TO tenancy_app").await;
    let report = verify(&database, &Options::default()).await.expect("a report");
    let finding = assert_found(&report, Error, "large-objects", "pg_catalog.pg_largeobject");
    assert!(finding.evidence.contains("2 large objects"), "{finding:#?}");
    mend(&database, &report).await;
    let report = verify(&database, &Options::default()).await.expect("a report");
    assert!(report.findings.is_empty(), "{report:#?}");
    // The way is closed, not the report only.
    super::common::execute(
        &database,
        "SET ROLE tenancy_app;
         DO $$ BEGIN PERFORM lo_get(1000001); RAISE EXCEPTION 'read it'; EXCEPTION WHEN insufficient_privilege THEN NULL; END $$",
    )
    .await;
}

#[tokio::test]
async fn a_large_object_of_somebody_else_is_quiet() {
    let report = verified("SELECT lo_from_bytea(0, 'of the operator')").await;
    assert_quiet(&report);
    assert_silent(&report, "large-objects");
}
