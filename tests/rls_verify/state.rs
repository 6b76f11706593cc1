//! The state of the tables: who owns them, what hangs on them, what they inherit, what comes after them.

use crate::common::verify;
use tenancy::rls::Severity::{Error, Note, Warning};
use tenancy::rls::report::Source;
use tenancy::rls::{Contract, Options, Report};

use super::{assert_found, assert_quiet, assert_silent, common, database, find, mend, verified};

async fn look(database: &sqlx::postgres::PgConnectOptions) -> Report {
    verify(database, &Options::default()).await.expect("a report")
}

#[tokio::test]
async fn owner_bypasses_is_found_and_mended() {
    let database = database("ALTER TABLE public.tickets OWNER TO CURRENT_USER").await;
    let report = look(&database).await;
    let finding =
        report.findings.iter().find(|finding| finding.check == "owner-bypasses").expect("a finding");
    assert_eq!(finding.severity, Warning);
    assert!(finding.evidence.contains("SUPERUSER; owner of public.tickets"), "{finding:#?}");
    mend(&database, &report).await;
    let report = look(&database).await;
    assert!(report.findings.is_empty(), "{report:#?}");
}

#[tokio::test]
async fn owner_bypasses_is_a_note_where_no_control_plane_set_the_tables_up() {
    let database = common::Database::empty().await;
    let app = format!("{}_app", database.name);
    let schema = "CREATE ROLE @ NOLOGIN; CREATE SCHEMA \"My Data\"; GRANT USAGE ON SCHEMA \"My Data\" TO @;
         CREATE TABLE \"My Data\".\"Order's\" (tenant_id uuid PRIMARY KEY, note text);
         ALTER TABLE \"My Data\".\"Order's\" ENABLE ROW LEVEL SECURITY; ALTER TABLE \"My Data\".\"Order's\" FORCE ROW LEVEL SECURITY;
         CREATE POLICY p ON \"My Data\".\"Order's\" TO @ USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
         GRANT SELECT, INSERT, UPDATE, DELETE ON \"My Data\".\"Order's\" TO @";
    common::execute(&database.options, &schema.replace('@', &app)).await;
    let contract = format!(
        "tenant_column: tenant_id\napp_roles: [{app}]\ncontext:\n  set: [\"SELECT set_config('app.tenant', '{{tenant}}', true)\"]\n"
    );
    let options = Options {
        contract: Some(Contract::parse(&contract, "isolation.yaml").expect("a contract")),
        ..Options::default()
    };
    let report = verify(&database.options, &options).await.expect("a report");
    assert_eq!(report.findings.len(), 1, "{report:#?}");
    assert_eq!((report.findings[0].check.as_str(), report.findings[0].severity), ("owner-bypasses", Note));
    mend(&database.options, &report).await;
    let report = verify(&database.options, &options).await.expect("a report");
    assert!(report.findings.is_empty(), "{report:#?}");
    assert!(report.not_proven.is_empty(), "{report:#?}");
}

/// Two steps from the tenant's table, under names that must be quoted.
const CHILDREN: &str = r#"
    CREATE TABLE public."File's" (id bigint PRIMARY KEY, "Tenant" uuid NOT NULL, event uuid NOT NULL,
        FOREIGN KEY ("Tenant", event) REFERENCES public.events);
    CREATE TABLE public.thumbs (file bigint NOT NULL REFERENCES public."File's", content bytea);
    GRANT SELECT, INSERT ON public."File's", public.thumbs TO tenancy_app;
"#;

#[tokio::test]
async fn child_unprotected_is_found_and_mended() {
    let database = database(&format!(
        "{CHILDREN} CREATE TABLE public.options (org uuid PRIMARY KEY REFERENCES tenancy.tenants, dark boolean);
         GRANT SELECT (dark) ON public.options TO tenancy_app"
    ))
    .await;
    let report = look(&database).await;
    for object in [r#"public."File's""#, "public.thumbs", "public.options"] {
        let finding = assert_found(&report, Error, "child-unprotected", object);
        assert!(
            find(&report, "unclassified-table", &finding.object).is_none(),
            "one defect, one finding: {report:#?}"
        );
    }
    mend(&database, &report).await;
    let report = look(&database).await;
    assert!(report.findings.is_empty(), "{report:#?}");
    // Each tenant sees its own.
    common::execute(
        &database,
        r#"INSERT INTO tenancy.plans (key, name) VALUES ('free', 'Free') ON CONFLICT DO NOTHING;
           INSERT INTO public.countries VALUES ('DE', 'Germany');
           INSERT INTO tenancy.tenants (slug, name, plan) SELECT 'tenant-' || n, 'Tenant', 'free' FROM generate_series(1, 3) n;
           INSERT INTO public.events (tenant_id, title, country, starts_on, ends_on)
               SELECT id, 'E', 'DE', '2026-01-01', '2026-01-02' FROM tenancy.tenants;
           INSERT INTO public."File's" SELECT row_number() OVER (), tenant_id, id FROM public.events;
           INSERT INTO public.thumbs SELECT id FROM public."File's";
           SELECT set_config('app.current_tenant_id', (SELECT min(id::text) FROM tenancy.tenants), false); SET ROLE tenancy_app;
           DO $$ BEGIN ASSERT (SELECT count(*) FROM public.thumbs) = 1; ASSERT (SELECT count(*) FROM public."File's") = 1; END $$"#,
    )
    .await;
}

#[tokio::test]
async fn a_child_whose_policy_does_not_look_at_the_parent_is_found() {
    let database = database(&format!(
        r#"{CHILDREN} ALTER TABLE public."File's" ENABLE ROW LEVEL SECURITY; ALTER TABLE public.thumbs ENABLE ROW LEVEL SECURITY;
           CREATE POLICY "all of it" ON public."File's" USING (true)"#
    ))
    .await;
    let report = look(&database).await;
    let finding = assert_found(&report, Error, "child-unprotected", r#"public."File's""#);
    assert!(finding.message.contains("all of it"), "{finding:#?}");
    // Denied to all: safe, and of no use.
    assert_found(&report, Warning, "child-unprotected", "public.thumbs");
    mend(&database, &report).await;
    let report = look(&database).await;
    assert!(report.findings.is_empty(), "{report:#?}");
}

#[tokio::test]
async fn children_that_are_safe_are_quiet() {
    let report = verified(
        "CREATE TABLE public.hidden (event uuid, tenant uuid, FOREIGN KEY (tenant, event) REFERENCES public.events);
         CREATE TABLE public.kinds (id int PRIMARY KEY, best uuid, tenant uuid, FOREIGN KEY (tenant, best) REFERENCES public.events);
         CREATE TABLE public.below (kind int REFERENCES public.kinds, name text); GRANT SELECT ON public.kinds TO tenancy_app;
         INSERT INTO tenancy.protected_tables (relation, kind) VALUES ('public.kinds', 'shared');
         CREATE TABLE public.files (id bigint PRIMARY KEY, tenant uuid, event uuid, FOREIGN KEY (tenant, event) REFERENCES public.events);
         ALTER TABLE public.files ENABLE ROW LEVEL SECURITY; GRANT SELECT, INSERT ON public.files TO tenancy_app;
         CREATE POLICY own ON public.files USING (EXISTS (SELECT FROM public.events e WHERE e.tenant_id = tenant AND e.id = event));
         CREATE TABLE public.notes (id bigint REFERENCES public.files); GRANT SELECT ON public.notes TO tenancy_app;
         ALTER TABLE public.notes ENABLE ROW LEVEL SECURITY; CREATE POLICY anything ON public.notes USING (true);
         CREATE POLICY floor ON public.notes AS RESTRICTIVE USING (id IN (SELECT f.id FROM public.files f))",
    )
    .await;
    assert_quiet(&report);
    assert_silent(&report, "child-unprotected");
    assert_silent(&report, "unclassified-table");
}

#[tokio::test]
async fn partition_open_is_found_and_mended() {
    let database = database(
        "CREATE TABLE public.logs (tenant_id uuid NOT NULL, at date NOT NULL, PRIMARY KEY (tenant_id, at)) PARTITION BY RANGE (at);
         CREATE TABLE public.logs_2026 PARTITION OF public.logs FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
         CREATE TABLE public.base (tenant_id uuid NOT NULL, id int, PRIMARY KEY (tenant_id, id));
         CREATE TABLE public.\"Kid\" (extra text, PRIMARY KEY (tenant_id, id)) INHERITS (public.base);
         SELECT tenancy.test_protect('public.logs'), tenancy.test_protect('public.base');
         GRANT SELECT ON public.logs_2026, public.\"Kid\" TO tenancy_app",
    )
    .await;
    let report = look(&database).await;
    for object in ["public.logs_2026", "public.\"Kid\""] {
        let finding = assert_found(&report, Error, "partition-open", object);
        assert_eq!(finding.source, Source::Probe);
    }
    assert_eq!(report.summary.errors, 2, "{report:#?}");
    mend(&database, &report).await;
    assert_silent(&look(&database).await, "partition-open");
}

#[tokio::test]
async fn extension_table_open_is_found_and_mended() {
    let database = database(
        "CREATE SCHEMA queue; GRANT USAGE ON SCHEMA queue TO tenancy_app;
         CREATE TABLE queue.jobs (id int, body text); CREATE TABLE queue.kinds (id int); CREATE TABLE queue.inbox (id int);
         GRANT SELECT, INSERT ON queue.jobs TO tenancy_app; GRANT SELECT ON queue.kinds TO tenancy_app;
         GRANT INSERT ON queue.inbox TO tenancy_app;
         ALTER EXTENSION plpgsql ADD TABLE queue.jobs; ALTER EXTENSION plpgsql ADD TABLE queue.kinds;
         ALTER EXTENSION plpgsql ADD TABLE queue.inbox",
    )
    .await;
    let report = look(&database).await;
    assert_found(&report, Warning, "extension-table-open", "queue.jobs");
    assert_eq!(report.findings.len(), 1, "what is only read, or only written, is safe: {report:#?}");
    mend(&database, &report).await;
    assert!(look(&database).await.findings.is_empty());
}

#[tokio::test]
async fn recursive_policy_is_found_and_mended() {
    let database = database(
        "CREATE POLICY again ON public.tickets AS RESTRICTIVE USING (price <= (SELECT max(price) FROM public.tickets));
         CREATE TABLE public.a (tenant_id uuid PRIMARY KEY, b uuid); CREATE TABLE public.b (tenant_id uuid PRIMARY KEY, a uuid);
         SELECT tenancy.test_protect('public.a'), tenancy.test_protect('public.b');
         CREATE FUNCTION public.look() RETURNS bigint STABLE LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM public.a); END';
         CREATE POLICY there ON public.a AS RESTRICTIVE USING (b IN (SELECT tenant_id FROM public.b));
         CREATE POLICY back ON public.b AS RESTRICTIVE FOR SELECT USING (public.look() > 0)",
    )
    .await;
    let report = look(&database).await;
    assert_found(&report, Warning, "recursive-policy", "public.tickets");
    let finding = assert_found(&report, Warning, "recursive-policy", "public.a");
    assert!(finding.message.contains("public.b") || finding.message.contains(" b"), "{finding:#?}");
    assert_found(&report, Warning, "recursive-policy", "public.b");
    assert_silent(&report, "context-uncast-empty");
    let findings = report.findings.iter().filter(|finding| finding.check == "recursive-policy");
    for finding in findings {
        common::execute(&database, &finding.fix).await;
    }
    assert_quiet(&look(&database).await);
}

#[tokio::test]
async fn policies_that_read_other_tables_without_a_circle_are_quiet() {
    let report = verified(
        "CREATE POLICY there ON public.tickets AS RESTRICTIVE USING (event_id IN (SELECT id FROM public.events));
         CREATE FUNCTION public.visible() RETURNS bigint STABLE LANGUAGE sql SECURITY DEFINER
             AS 'SELECT count(*) FROM public.events WHERE tenant_id = tenancy.current_tenant_id()';
         CREATE POLICY back ON public.events AS RESTRICTIVE FOR UPDATE USING (true)
             WITH CHECK (EXISTS (SELECT FROM public.tickets) OR true);
         CREATE POLICY helped ON public.events AS RESTRICTIVE USING (public.visible() >= 0)",
    )
    .await;
    assert_silent(&report, "recursive-policy");
}

#[tokio::test]
async fn new_table_guard_is_a_note_where_new_tables_open_up() {
    let database = database(
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO tenancy_app",
    )
    .await;
    let report = look(&database).await;
    assert_quiet(&report);
    assert_eq!(report.findings.len(), 1, "{report:#?}");
    assert_eq!(find(&report, "new-table-guard", "public").expect("a note").severity, Note);
    common::execute(
        &database,
        "CREATE FUNCTION public.guard() RETURNS event_trigger LANGUAGE plpgsql AS
             'BEGIN EXECUTE ''ALTER TABLE public.x ENABLE ROW LEVEL SECURITY''; END';
         CREATE EVENT TRIGGER \"The guard\" ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.guard()",
    )
    .await;
    assert!(look(&database).await.findings.is_empty());
    common::execute(&database, "ALTER EVENT TRIGGER \"The guard\" DISABLE").await;
    let off = look(&database).await;
    assert_eq!(find(&off, "new-table-guard", "\"The guard\"").expect("a note").severity, Note);
    mend(&database, &off).await;
    assert!(look(&database).await.findings.is_empty());
    common::execute(&database, "DROP EVENT TRIGGER \"The guard\"").await;
    mend(&database, &report).await;
    assert!(look(&database).await.findings.is_empty());
}
