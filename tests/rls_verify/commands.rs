//! Commands beside the plain ones: each takes another path to the same policies, and wakes other triggers.

use tenancy::rls::Severity::Error;
use tenancy::rls::report::{Source, Verdict};
use tenancy::rls::{Finding, Report};

use super::{assert_found, assert_quiet, assert_silent, verified};

/// A table whose policies compare the tenant, each with something besides.
fn table(name: &str, columns: &str, read: &str, write: &str) -> String {
    let own = "tenant_id = (SELECT tenancy.current_tenant_id())";
    format!(
        "CREATE TABLE public.{name} (tenant_id uuid NOT NULL, note text NOT NULL, {columns});
         ALTER TABLE public.{name} ENABLE ROW LEVEL SECURITY; ALTER TABLE public.{name} FORCE ROW LEVEL SECURITY;
         ALTER TABLE public.{name} OWNER TO tenancy_owner;
         CREATE INDEX ON public.{name} (tenant_id);
         CREATE POLICY r ON public.{name} FOR SELECT USING ({own} OR {read});
         CREATE POLICY i ON public.{name} FOR INSERT WITH CHECK ({own});
         CREATE POLICY u ON public.{name} FOR UPDATE USING ({own} OR {write}) WITH CHECK ({own} OR {write});
         GRANT SELECT, INSERT, UPDATE ON public.{name} TO tenancy_app;
         INSERT INTO tenancy.protected_tables (relation, kind, tenant_column) VALUES ('public.{name}', 'tenant', 'tenant_id');"
    )
}

/// Trigger functions that open something for the rest of a statement, and shut it when the statement is over.
const OPENER: &str = "CREATE FUNCTION public.opens() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('app.bulk', 'k3y', true); RETURN NEW; END $$;
    CREATE FUNCTION public.shuts() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('app.bulk', '', true); RETURN NULL; END $$;";
const OPEN: &str = "current_setting('app.bulk', true) = 'k3y'";

/// A trigger function that takes a note of some tenant along, with rights of its own.
fn taker(name: &str, table: &str, whose: &str) -> String {
    format!(
        "CREATE FUNCTION public.{name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
             NEW.note := concat_ws(' ', NEW.note, (SELECT max(n.note) FROM public.{table} n WHERE n.tenant_id {whose} NEW.tenant_id));
             RETURN NEW; END $$;"
    )
}

#[track_caller]
fn convicted<'a>(report: &'a Report, check: &str, object: &str) -> &'a Finding {
    let finding = assert_found(report, Error, check, object);
    assert_eq!(finding.source, Source::Probe, "{finding:#?}");
    finding
}

#[tokio::test]
async fn triggers_that_open_the_policies_for_the_rest_of_a_statement_are_found() {
    let (insert, shut) = ("BEFORE INSERT ON public", "CREATE TRIGGER z AFTER INSERT ON");
    let report = verified(&[
        OPENER.to_string(),
        table("slots", "code text PRIMARY KEY", OPEN, OPEN),
        format!("CREATE TRIGGER o {insert}.slots FOR EACH ROW EXECUTE FUNCTION public.opens(); {shut} public.slots EXECUTE FUNCTION public.shuts();"),
        table("parcels", "id uuid DEFAULT gen_random_uuid(), PRIMARY KEY (tenant_id, id)", OPEN, OPEN),
        format!("CREATE TRIGGER o {insert}.parcels FOR EACH STATEMENT EXECUTE FUNCTION public.opens(); {shut} public.parcels EXECUTE FUNCTION public.shuts();"),
        // What it takes from the other tenant comes back with the row.
        table("notes", "id uuid PRIMARY KEY DEFAULT gen_random_uuid()", "false", "false"),
        taker("copies", "notes", "<>"), taker("quotes", "memos", "<>"),
        format!("CREATE TRIGGER o {insert}.notes FOR EACH ROW EXECUTE FUNCTION public.copies();"),
        table("memos", "id uuid PRIMARY KEY DEFAULT gen_random_uuid()", "false", "false"),
        "CREATE TRIGGER o BEFORE UPDATE ON public.memos FOR EACH ROW EXECUTE FUNCTION public.quotes();".into(),
    ].concat())
    .await;
    assert!(convicted(&report, "conflict-leak", "public.slots").evidence.contains("ON CONFLICT"));
    assert!(convicted(&report, "merge-leak", "public.parcels").evidence.contains("MERGE INTO"));
    assert!(convicted(&report, "returning-leak", "public.notes").evidence.contains("INSERT INTO"));
    assert!(convicted(&report, "returning-leak", "public.memos").evidence.contains("UPDATE public.memos"));
}

#[tokio::test]
async fn triggers_and_keys_that_keep_to_the_tenant_are_quiet() {
    let (insert, shut) = ("BEFORE INSERT ON public", "CREATE TRIGGER z AFTER INSERT ON");
    let report = verified(
        &[
            OPENER.to_string(),
            // A key of all tenants tells that a value exists, and changes nothing.
            table("slots", "code text PRIMARY KEY", "false", "false"),
            format!("CREATE TRIGGER o {insert}.slots FOR EACH ROW EXECUTE FUNCTION public.opens(); {shut} public.slots EXECUTE FUNCTION public.shuts();"),
            table(
                "parcels",
                "id uuid DEFAULT gen_random_uuid(), PRIMARY KEY (tenant_id, id)",
                "false",
                "false",
            ),
            format!("CREATE TRIGGER o {insert}.parcels FOR EACH STATEMENT EXECUTE FUNCTION public.opens(); {shut} public.parcels EXECUTE FUNCTION public.shuts();"),
            table("notes", "id uuid PRIMARY KEY DEFAULT gen_random_uuid()", "false", "false"),
        taker("copies", "notes", "="), taker("quotes", "memos", "="),
            format!("CREATE TRIGGER o {insert}.notes FOR EACH ROW EXECUTE FUNCTION public.copies();"),
        table("memos", "id uuid PRIMARY KEY DEFAULT gen_random_uuid()", "false", "false"),
        "CREATE TRIGGER o BEFORE UPDATE ON public.memos FOR EACH ROW EXECUTE FUNCTION public.quotes();".into(),
        ]
        .concat(),
    )
    .await;
    for check in ["conflict-leak", "merge-leak", "returning-leak", "probe-leak"] {
        assert_silent(&report, check);
    }
    for name in ["slots", "parcels", "notes", "memos"] {
        let table = report.tables.iter().find(|table| table.object == format!("public.{name}"));
        assert_eq!(table.expect("a verdict").verdict, Verdict::Proven, "{report:#?}");
    }
}

#[tokio::test]
async fn policies_that_look_at_the_statement_are_found() {
    let key = "id uuid PRIMARY KEY DEFAULT gen_random_uuid()";
    let lock = "pg_catalog.upper(current_query()) LIKE 'SELECT % FOR UPDATE'";
    let report = verified(
        &[
            table("exported", key, "current_query() ILIKE 'copy %'", "false"),
            table("queue", key, lock, lock),
            // A job that takes a table apart piece by piece.
            table("walked", key, "current_query() ILIKE '%DECLARE % CURSOR %'", "false"),
        ]
        .concat(),
    )
    .await;
    assert!(convicted(&report, "copy-leak", "public.exported").evidence.contains("COPY (SELECT"));
    assert!(convicted(&report, "lock-leak", "public.queue").evidence.contains("FOR UPDATE"));
    assert!(convicted(&report, "probe-leak", "public.walked").evidence.contains("CURSOR"));
}

#[tokio::test]
async fn a_partitioned_table_is_copied_too() {
    let report = verified(
        "CREATE TABLE public.log (tenant_id uuid NOT NULL, at date NOT NULL) PARTITION BY RANGE (at);
         CREATE TABLE public.log_1 PARTITION OF public.log DEFAULT;
         CREATE INDEX ON public.log (tenant_id);
         SELECT tenancy.test_protect('public.log');",
    )
    .await;
    assert_quiet(&report);
}

#[tokio::test]
async fn truncate_empties_the_table_for_all() {
    let report = verified("GRANT TRUNCATE ON public.tickets TO tenancy_app").await;
    let finding = convicted(&report, "grant-truncate", "public.tickets");
    assert!(finding.evidence.contains("TRUNCATE"), "{finding:#?}");
    assert!(finding.fix.starts_with("REVOKE TRUNCATE"), "{finding:#?}");
    // Held, and of no use: nobody may enter the schema.
    let report = verified(
        "CREATE SCHEMA shut; CREATE TABLE shut.t (tenant_id uuid); GRANT TRUNCATE ON shut.t TO tenancy_app",
    )
    .await;
    assert_silent(&report, "grant-truncate");
}
