//! What tells of other tenants without showing a row of theirs.

use tenancy::rls::Options;
use tenancy::rls::Severity::Note;

use super::{assert_found, assert_silent, common, database, verified};

/// All of it, the standing notes included.
async fn everything(database: &sqlx::postgres::PgConnectOptions) -> tenancy::rls::Report {
    tenancy::rls::verify(database, &Options { probes: false, ..Options::default() }).await.expect("a report")
}

#[tokio::test]
async fn statements_and_sizes_that_everybody_sees_are_notes_until_they_are_mended() {
    let database = database("").await;
    let report = everything(&database).await;
    let statements = assert_found(&report, Note, "activity-oracle", "tenancy_app").fix.clone();
    // Nobody has counted the rows yet.
    assert_silent(&report, "estimate-oracle");
    common::execute(
        &database,
        "INSERT INTO tenancy.tenants (slug, name, plan) SELECT 'acme', 'Acme', key FROM tenancy.plans LIMIT 1;
         INSERT INTO public.countries VALUES ('DE', 'Germany');
         INSERT INTO public.events (tenant_id, title, country, starts_on, ends_on)
             SELECT id, 'a', 'DE', '2026-01-01', '2026-01-02' FROM tenancy.tenants; ANALYZE public.events",
    )
    .await;
    let report = everything(&database).await;
    let sizes = assert_found(&report, Note, "estimate-oracle", "tenancy_app").fix.clone();
    common::execute(&database, &statements).await;
    common::execute(&database, &sizes).await;
    let report = everything(&database).await;
    assert_silent(&report, "activity-oracle");
    assert_silent(&report, "estimate-oracle");
    // The rest of the catalogue stays open to everybody, as programs expect.
    common::execute(&database, "SET ROLE tenancy_app; SELECT oid, relname, relkind, relacl FROM pg_class")
        .await;
}

#[tokio::test]
async fn a_tenant_column_that_refers_to_nobody_is_a_note_until_it_is_mended() {
    let sql = "CREATE TABLE public.\"no tes\" (tenant_id uuid NOT NULL, id int, PRIMARY KEY (tenant_id, id));
         CREATE TABLE public.parts (tenant_id uuid NOT NULL, id int, PRIMARY KEY (tenant_id, id)) PARTITION BY RANGE (id);
         CREATE TABLE public.parts_1 PARTITION OF public.parts FOR VALUES FROM (0) TO (9);
         CREATE TABLE public.tied (tenant_id uuid NOT NULL, id int, event uuid NOT NULL, PRIMARY KEY (tenant_id, id),
             FOREIGN KEY (tenant_id, event) REFERENCES public.events (tenant_id, id));
         CREATE TABLE public.twice (tenant_id uuid NOT NULL, id int, PRIMARY KEY (tenant_id, id),
             FOREIGN KEY (tenant_id, id) REFERENCES public.tied (tenant_id, id));
         CREATE TABLE public.circle (tenant_id uuid NOT NULL, id int, PRIMARY KEY (tenant_id, id),
             FOREIGN KEY (tenant_id, id) REFERENCES public.circle);
         SELECT tenancy.test_protect(t) FROM unnest(ARRAY['public.\"no tes\"', 'public.parts', 'public.tied', 'public.twice',
             'public.circle']::regclass[]) AS t;";
    let report = super::mended(
        sql,
        &[
            (Note, "tenant-no-reference", "public.\"no tes\""),
            (Note, "tenant-no-reference", "public.parts"),
            (Note, "tenant-no-reference", "public.circle"),
        ],
    )
    .await;
    let found = report.findings.iter().filter(|finding| finding.check == "tenant-no-reference").count();
    assert_eq!(found, 3, "{report:#?}");
    assert_silent(&verified("").await, "tenant-no-reference");
}
