//! `rls verify`: each defect planted and found, each look-alike left alone, nothing left behind.

mod becoming;
mod citus;
mod clean;
mod commands;
mod doors;
mod ends;
mod functions;
mod grants;
mod helpers;
mod keys;
mod logins;
mod meaning;
mod more_doors;
mod oracles;
mod paths;
mod pgtap;
mod policies;
mod reports;
mod repro;
mod roles;
mod roles_more;
mod rows;
mod session;
mod settings;
mod state;
mod tables;
mod views;

use sqlx::postgres::PgConnectOptions;
use tenancy::rls::{Finding, Options, Report, Severity};

pub(crate) use crate::common::{self, verify};

/// Protects a table the way the design says.
const HELPER: &str = r#"
CREATE FUNCTION tenancy.test_protect(relation regclass, tenant text DEFAULT 'tenant_id') RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    kind text := (SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = relation AND attname = tenant);
    term text := format('%I = (SELECT tenancy.current_tenant_id%s())', tenant,
                        CASE kind WHEN 'uuid' THEN '' WHEN 'bigint' THEN '_bigint' ELSE '_text' END);
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation);
    EXECUTE format('ALTER TABLE %s OWNER TO %I', relation, tenancy.role_name('owner'));
    EXECUTE format('CREATE POLICY tenant_isolation ON %s TO %I USING (%s) WITH CHECK (%3$s)',
                   relation, tenancy.role_name('app'), term);
    EXECUTE format('CREATE POLICY tenant_floor ON %s AS RESTRICTIVE TO PUBLIC USING (%s OR pg_has_role(%L, ''USAGE''))
                    WITH CHECK (%2$s OR pg_has_role(%3$L, ''USAGE''))',
                   relation, term, tenancy.role_name('admin'));
    EXECUTE format('GRANT SELECT, INSERT, DELETE ON %s TO %I', relation, tenancy.role_name('app'));
    EXECUTE (SELECT format('GRANT UPDATE (%s) ON %s TO %I', string_agg(quote_ident(attname), ', '), relation, tenancy.role_name('app'))
               FROM pg_attribute WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped AND attname <> tenant
             HAVING count(*) > 0);
    INSERT INTO tenancy.protected_tables (relation, kind, tenant_column) VALUES (relation, 'tenant', tenant);
END $$;
"#;

/// A schema as a careful team writes it.
const SCHEMA: &str = r#"
CREATE TABLE public.countries (code text PRIMARY KEY CHECK (code ~ '^[A-Z]{2}$'), name text NOT NULL);
GRANT SELECT ON public.countries TO tenancy_app;
INSERT INTO tenancy.protected_tables (relation, kind) VALUES ('public.countries', 'shared');
CREATE TABLE public.events (
    tenant_id uuid NOT NULL REFERENCES tenancy.tenants,
    id        uuid NOT NULL DEFAULT gen_random_uuid(),
    title     text NOT NULL CHECK (title <> ''),
    country   text NOT NULL REFERENCES public.countries,
    starts_on date NOT NULL,
    ends_on   date NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CHECK (ends_on > starts_on)
);
CREATE TABLE public.tickets (
    tenant_id uuid NOT NULL,
    id        bigint GENERATED ALWAYS AS IDENTITY,
    event_id  uuid NOT NULL,
    price     numeric(8, 2) NOT NULL CHECK (price >= 0),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, event_id) REFERENCES public.events (tenant_id, id)
);
SELECT tenancy.test_protect('public.events'), tenancy.test_protect('public.tickets');
"#;

/// A fresh database with the careful schema and what the test does to it.
async fn database(sql: &str) -> PgConnectOptions {
    let options = common::Database::migrated().await.options;
    common::execute(&options, HELPER).await;
    common::execute(&options, SCHEMA).await;
    if !sql.is_empty() {
        common::execute(&options, sql).await;
    }
    options
}

/// What verification says of the careful schema after something was done to it.
async fn verified(sql: &str) -> Report {
    let database = database(sql).await;
    verify(&database, &Options::default()).await.expect("a report")
}

/// Does something to the careful schema, finds each defect, runs each one's fix, and sees that it is gone.
async fn mended(sql: &str, defects: &[(Severity, &str, &str)]) -> Report {
    let database = database(sql).await;
    let report = verify(&database, &Options::default()).await.expect("a report");
    for (severity, check, object) in defects {
        let finding = assert_found(&report, *severity, check, object);
        common::execute(&database, &finding.fix).await;
    }
    let after = verify(&database, &Options::default()).await.expect("a report");
    for (_, check, object) in defects {
        assert!(find(&after, check, object).is_none(), "{check} on {object} stays: {after:#?}");
    }
    report
}

fn find<'a>(report: &'a Report, check: &str, object: &str) -> Option<&'a Finding> {
    report.findings.iter().find(|finding| finding.check == check && finding.object == object)
}

/// Fails unless the defect was found, as the severity says, and nothing else of that severity.
#[track_caller]
fn assert_found<'a>(report: &'a Report, severity: Severity, check: &str, object: &str) -> &'a Finding {
    let finding =
        find(report, check, object).unwrap_or_else(|| panic!("no {check} on {object}: {report:#?}"));
    assert_eq!(finding.severity, severity, "{report:#?}");
    assert!(
        !finding.message.is_empty() && !finding.evidence.is_empty() && !finding.fix.is_empty(),
        "{finding:#?}"
    );
    assert!(!report.passed(severity, false));
    finding
}

/// Fails if there is anything to say but notes.
#[track_caller]
fn assert_quiet(report: &Report) {
    assert!(report.passed(Severity::Warning, true), "{report:#?}");
}

/// Fails if any other check says anything.
#[track_caller]
fn assert_only(report: &Report, check: &str) {
    assert!(report.findings.iter().all(|finding| finding.check == check), "{report:#?}");
}

/// Fails if the check says anything.
#[track_caller]
fn assert_silent(report: &Report, check: &str) {
    assert!(report.findings.iter().all(|finding| finding.check != check), "{report:#?}");
}

/// What every finding says to paste, carried out by the superuser; fails if one says nothing that can be.
async fn mend(database: &PgConnectOptions, report: &Report) {
    for finding in &report.findings {
        assert!(!finding.fix.contains('…'), "{finding:#?}");
        common::execute(database, &finding.fix).await;
    }
}
