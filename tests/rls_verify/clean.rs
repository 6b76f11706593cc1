//! What is right passes, and nothing is left behind.

use sqlx::{ConnectOptions, Connection};
use tenancy::rls::{Options, Severity};

use super::{assert_quiet, database, verified, verify};

const ROWS: &str = r#"
INSERT INTO public.countries VALUES ('DE', 'Germany');
INSERT INTO tenancy.plans (key, name) VALUES ('free', 'Free') ON CONFLICT DO NOTHING;
INSERT INTO tenancy.tenants (slug, name, plan) SELECT 'tenant-' || n, 'Tenant', 'free' FROM generate_series(1, 3) n;
INSERT INTO public.events (tenant_id, title, country, starts_on, ends_on)
    SELECT id, 'E' || n, 'DE', '2026-01-01', '2026-01-02' FROM tenancy.tenants, generate_series(1, 20) n;
INSERT INTO public.tickets (tenant_id, event_id, price) SELECT tenant_id, id, 10 FROM public.events;
"#;

#[tokio::test]
async fn empty_tables_pass() {
    let report = verified("").await;
    assert_quiet(&report);
    assert!(report.findings.is_empty(), "{report:#?}");
    assert_eq!(report.summary.tables, 2);
    assert!(report.summary.probes >= 40, "{report:#?}");
    assert_eq!(report.attempts.failed, report.attempts.tried, "{report:#?}");
}

#[tokio::test]
async fn full_tables_pass_and_nothing_is_left_behind() {
    let database = database(ROWS).await;
    let mut connection = database.connect().await.expect("a connection");
    let count = "SELECT (SELECT count(*) FROM tenancy.tenants) || ' ' || (SELECT count(*) FROM public.events) || ' ' \
                 || (SELECT count(*) FROM public.tickets) || ' ' || (SELECT count(*) FROM public.countries) || ' ' \
                 || (SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM public.tickets t) || ' ' \
                 || (SELECT last_value FROM public.tickets_id_seq)";
    let before: String = sqlx::query_scalar(count).fetch_one(&mut connection).await.expect("counts");
    let report = verify(&database, &Options::default()).await.expect("a report");
    assert_quiet(&report);
    assert!(report.findings.is_empty(), "{report:#?}");
    let after: String = sqlx::query_scalar(count).fetch_one(&mut connection).await.expect("counts");
    assert_eq!(before, after);
    connection.close().await.expect("closed");
}

#[tokio::test]
async fn an_aborted_run_leaves_nothing_behind() {
    let database = database(ROWS).await;
    let options = Options::default();
    for milliseconds in [10, 20, 30, 45, 60, 80, 100] {
        let run = verify(&database, &options);
        tokio::time::timeout(std::time::Duration::from_millis(milliseconds), run).await.ok();
    }
    let mut connection = database.connect().await.expect("a connection");
    // The servers of the dropped connections notice and roll back.
    for _ in 0..100 {
        let busy: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
             AND backend_type = 'client backend'",
        )
        .fetch_one(&mut connection)
        .await
        .expect("activity");
        if busy == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let counts: (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM tenancy.tenants), (SELECT count(*) FROM public.tickets)",
    )
    .fetch_one(&mut connection)
    .await
    .expect("counts");
    assert_eq!(counts, (3, 60));
}

#[tokio::test]
async fn a_report_is_what_the_contract_says() {
    let report = verified("ALTER TABLE public.tickets DISABLE ROW LEVEL SECURITY").await;
    let json = serde_json::to_value(&report).expect("JSON");
    assert_eq!(json["schema_version"], 1);
    assert_eq!(json["engine"], "postgresql");
    assert_eq!(json["summary"]["passed"], false);
    assert_eq!(json["summary"]["errors"], 1);
    let finding = &json["findings"][0];
    assert_eq!(finding["check"], "rls-disabled");
    assert_eq!(finding["severity"], "error");
    assert_eq!(finding["object"], "public.tickets");
    assert_eq!(finding["object_kind"], "table");
    assert_eq!(finding["source"], "probe");
    let evidence = finding["evidence"].as_str().expect("a text");
    assert!(evidence.starts_with("as tenancy_app in the context of tenant A: SELECT"), "{evidence}");
    assert!(json["not_proven"].as_array().is_some());
}

#[tokio::test]
async fn fingerprints_are_the_same_in_every_run_and_database() {
    let sql = "ALTER TABLE public.tickets DISABLE ROW LEVEL SECURITY";
    let (one, other) = (verified(sql).await, verified(sql).await);
    assert_eq!(one.findings[0].fingerprint, other.findings[0].fingerprint);
    assert_eq!(one.findings[0].evidence, other.findings[0].evidence);
}

#[tokio::test]
async fn without_probes_the_catalogue_alone_speaks() {
    let database = database("ALTER TABLE public.tickets DISABLE ROW LEVEL SECURITY").await;
    let options = Options { probes: false, ..Options::default() };
    let report = verify(&database, &options).await.expect("a report");
    assert_eq!(report.summary.probes, 0);
    assert!(!report.passed(Severity::Error, false));
    let narrowed = Options { tables: vec!["events".into()], ..Options::default() };
    assert_quiet(&verify(&database, &narrowed).await.expect("a report"));
    let narrowed = Options { checks: vec!["tenant-nullable".into()], ..Options::default() };
    let report = verify(&database, &narrowed).await.expect("a report");
    assert!(
        report.passed(Severity::Warning, false) && !report.passed(Severity::Warning, true),
        "{report:#?}"
    );
    let unknown = Options { tables: vec!["nothing".into()], ..Options::default() };
    assert!(verify(&database, &unknown).await.is_err());
}

#[tokio::test]
async fn what_no_probe_tried_is_not_proven() {
    let database = database("").await;
    let options = Options { probes: false, ..Options::default() };
    let report = verify(&database, &options).await.expect("a report");
    assert!(report.summary.passed && report.findings.is_empty(), "{report:#?}");
    let unproven: Vec<_> = report.not_proven.iter().map(|table| table.object.as_str()).collect();
    assert_eq!(unproven, ["public.events", "public.tickets"]);
    assert!(report.not_proven[0].reason.contains("switched off"), "{report:#?}");
    let strict = Options { strict: true, ..options };
    assert!(!verify(&database, &strict).await.expect("a report").summary.passed);
    let strict = Options { strict: true, ..Options::default() };
    assert!(verify(&database, &strict).await.expect("a report").summary.passed);
}

#[tokio::test]
async fn an_attack_ends_even_where_the_timeout_is_zero() {
    // The policy raises an error where no limit stands.
    let database = database(
        "CREATE FUNCTION public.limits() RETURNS boolean STABLE LANGUAGE plpgsql AS
             $$ BEGIN ASSERT current_setting('statement_timeout') = '30s'; RETURN true; END $$;
         ALTER POLICY tenant_isolation ON public.tickets USING (tenant_id = tenancy.current_tenant_id() AND (SELECT public.limits()))",
    )
    .await;
    let options = Options { statement_timeout: std::time::Duration::ZERO, ..Options::default() };
    assert_quiet(&verify(&database, &options).await.expect("a report"));
}
