//! The state of the tables: row-level security, ownership, keys, grants.

use std::time::Duration;

use sqlx::{ConnectOptions, Executor};
use tenancy::rls::Options;
use tenancy::rls::Severity::{Error, Warning};
use tenancy::rls::report::Verdict;

use super::{assert_found, assert_only, assert_quiet, assert_silent, verified};

#[tokio::test]
async fn rls_disabled_is_found() {
    let report = verified("ALTER TABLE public.tickets DISABLE ROW LEVEL SECURITY").await;
    assert_found(&report, Error, "rls-disabled", "public.tickets");
    assert_eq!(report.summary.errors, 1, "one defect, one finding: {report:#?}");
}

#[tokio::test]
async fn rls_disabled_in_another_schema_and_unregistered_is_found() {
    let report = verified(
        "CREATE SCHEMA billing; GRANT USAGE ON SCHEMA billing TO tenancy_app;
         CREATE TABLE billing.invoices (tenant_id uuid NOT NULL, total int, PRIMARY KEY (tenant_id));
         GRANT SELECT ON billing.invoices TO tenancy_app",
    )
    .await;
    assert_found(&report, Error, "rls-disabled", "billing.invoices");
    assert_silent(&report, "unclassified-table");
}

#[tokio::test]
async fn rls_disabled_out_of_reach_is_quiet() {
    let report = verified(
        "CREATE TABLE public.internal (tenant_id uuid PRIMARY KEY, note text);
         CREATE SCHEMA hidden; CREATE TABLE hidden.t (tenant_id uuid PRIMARY KEY); GRANT SELECT ON hidden.t TO tenancy_app",
    )
    .await;
    assert_quiet(&report);
    // It was asked for, and refused.
    for object in ["public.internal", "hidden.t"] {
        let table = report.tables.iter().find(|table| table.object == object).expect("a verdict");
        assert_eq!((table.verdict, table.tried), (Verdict::Proven, 1), "{table:?}");
    }
}

#[tokio::test]
async fn a_table_that_a_migration_holds_is_not_waited_for_without_end() {
    let database = super::database("").await;
    let mut migration = database.connect().await.expect("a connection");
    migration.execute("BEGIN; LOCK TABLE public.tickets").await.expect("a lock");
    let options = Options { lock_timeout: Duration::from_millis(100), ..Options::default() };
    let error = tenancy::rls::verify(&database, &options).await.expect_err("a timeout");
    assert_eq!(error.kind(), tenancy::ErrorKind::Conflict, "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("try again")), "{error:?}");
}

#[tokio::test]
async fn a_role_without_rights_proves_nothing() {
    let report = verified("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM tenancy_app").await;
    let unproven = report.not_proven.iter().find(|unproven| unproven.object == "\"tenancy_app\"");
    assert!(unproven.is_some_and(|unproven| unproven.reason.contains("nothing was tried")), "{report:#?}");
    assert!(report.passed(tenancy::rls::Severity::Warning, false), "{report:#?}");
}

#[tokio::test]
async fn an_open_partition_is_found() {
    let report = verified(
        "CREATE TABLE public.logs (tenant_id uuid NOT NULL, at date NOT NULL, line text, PRIMARY KEY (tenant_id, at))
             PARTITION BY RANGE (at);
         CREATE TABLE public.logs_2026 PARTITION OF public.logs FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
         SELECT tenancy.test_protect('public.logs');
         GRANT SELECT ON public.logs_2026 TO tenancy_app",
    )
    .await;
    let finding = assert_found(&report, Error, "partition-open", "public.logs_2026");
    assert_eq!(finding.source, tenancy::rls::report::Source::Probe);
    assert_silent(&report, "rls-disabled");
}

#[tokio::test]
async fn partitions_behind_their_parent_are_quiet() {
    let report = verified(
        "CREATE TABLE public.logs (tenant_id uuid NOT NULL, at date NOT NULL, line text, PRIMARY KEY (tenant_id, at))
             PARTITION BY RANGE (at);
         CREATE TABLE public.logs_2026 PARTITION OF public.logs FOR VALUES FROM ('2019-01-01') TO ('2019-03-01');
         CREATE TABLE public.kinds (tenant_id uuid NOT NULL, kind text NOT NULL, PRIMARY KEY (tenant_id, kind))
             PARTITION BY LIST (kind);
         CREATE TABLE public.kinds_x PARTITION OF public.kinds FOR VALUES IN ('x', 'y');
         CREATE TABLE public.hashed (tenant_id uuid NOT NULL, id int, PRIMARY KEY (tenant_id, id)) PARTITION BY HASH (tenant_id);
         CREATE TABLE public.hashed_0 PARTITION OF public.hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE public.hashed_1 PARTITION OF public.hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         SELECT tenancy.test_protect('public.logs'), tenancy.test_protect('public.kinds'), tenancy.test_protect('public.hashed')",
    )
    .await;
    assert_only(&report, "tenant-no-reference");
}

#[tokio::test]
async fn a_protected_partition_and_an_inheritance_child_in_their_own_right_are_quiet() {
    let report = verified(
        "CREATE TABLE public.logs (tenant_id uuid NOT NULL, at date NOT NULL, line text, PRIMARY KEY (tenant_id, at))
             PARTITION BY RANGE (at);
         CREATE TABLE public.logs_2019 PARTITION OF public.logs FOR VALUES FROM ('2019-01-01') TO ('2019-03-01');
         CREATE TABLE public.base (tenant_id uuid NOT NULL, id int, PRIMARY KEY (tenant_id, id));
         CREATE TABLE public.child (extra text NOT NULL, PRIMARY KEY (tenant_id, id)) INHERITS (public.base);
         SELECT tenancy.test_protect('public.logs'), tenancy.test_protect('public.logs_2019'),
                tenancy.test_protect('public.base'), tenancy.test_protect('public.child')",
    )
    .await;
    assert_only(&report, "tenant-no-reference");
}

#[tokio::test]
async fn rls_not_forced_is_found() {
    let report = verified("ALTER TABLE public.tickets NO FORCE ROW LEVEL SECURITY").await;
    assert_found(&report, Warning, "rls-not-forced", "public.tickets");
}

#[tokio::test]
async fn unclassified_table_is_found() {
    let report =
        verified("CREATE TABLE public.notes (body text); GRANT SELECT (body) ON public.notes TO tenancy_app")
            .await;
    let finding = assert_found(&report, Warning, "unclassified-table", "public.notes");
    assert_eq!(finding.fix, "SELECT tenancy.share('public.notes');");
}

#[tokio::test]
async fn a_shared_or_unreachable_table_is_quiet() {
    let report = verified(
        "CREATE TABLE public.notes (body text);
         CREATE TABLE public.units (name text) PARTITION BY LIST (name);
         CREATE TABLE public.units_a PARTITION OF public.units DEFAULT;
         GRANT SELECT ON public.units, public.units_a TO tenancy_app;
         INSERT INTO tenancy.protected_tables (relation, kind) VALUES ('public.units', 'shared')",
    )
    .await;
    assert_quiet(&report);
}

#[tokio::test]
async fn grant_truncate_is_found() {
    let report = verified("GRANT TRUNCATE ON public.tickets TO tenancy_app").await;
    assert_found(&report, Error, "grant-truncate", "public.tickets");
    let report = verified("GRANT TRUNCATE ON public.tickets TO tenancy_auditor").await;
    assert_quiet(&report);
}

#[tokio::test]
async fn tenant_nullable_is_found() {
    let table = "CREATE TABLE public.notes (tenant_id uuid, id int, body text, UNIQUE (tenant_id, id));
                 SELECT tenancy.test_protect('public.notes');";
    let report = verified(table).await;
    assert_found(&report, Warning, "tenant-nullable", "public.notes");
    let report =
        verified(&format!("{table} ALTER TABLE public.notes ADD CHECK (tenant_id IS NOT NULL)")).await;
    assert_quiet(&report);
}

#[tokio::test]
async fn unindexed_tenant_column_is_found() {
    let table = "CREATE TABLE public.notes (tenant_id uuid NOT NULL, id int PRIMARY KEY, body text);
                 SELECT tenancy.test_protect('public.notes');
                 CREATE INDEX ON public.notes (id, tenant_id); CREATE INDEX ON public.notes (tenant_id) WHERE id > 5;";
    let report = verified(table).await;
    assert_found(&report, Warning, "unindexed-tenant-column", "public.notes");
    let report = verified(&format!("{table} CREATE INDEX ON public.notes (tenant_id, body)")).await;
    assert_quiet(&report);
}

#[tokio::test]
async fn a_shared_table_that_is_written_or_has_a_tenant_is_found() {
    let report = verified("GRANT INSERT (name) ON public.countries TO tenancy_app").await;
    assert_found(&report, Warning, "unclassified-table", "public.countries");
    let report = verified(
        "CREATE TABLE public.prices (tenant_id uuid, amount int); GRANT SELECT ON public.prices TO tenancy_app;
         INSERT INTO tenancy.protected_tables (relation, kind) VALUES ('public.prices', 'shared')",
    )
    .await;
    assert_found(&report, Error, "unclassified-table", "public.prices");
}
