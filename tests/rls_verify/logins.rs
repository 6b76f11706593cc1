//! The logins behind the application role: what they hold of their own, and who of them administers.

use tenancy::rls::Severity::{Error, Note};
use tenancy::rls::report::Source;

use super::roles::Roles;
use super::{assert_found, assert_quiet, find};

/// `$other` is the platform's login, two hops from the role.
const LOGIN: &str =
    "CREATE ROLE $app_web; GRANT $app TO $app_web; GRANT $app_web TO $other; ALTER ROLE $other LOGIN;";

async fn with_login(sql: &str) -> (Roles, tenancy::rls::Report) {
    let roles = Roles::new(&format!("{LOGIN}{sql}")).await;
    let report = roles.verify().await;
    super::common::execute(&roles.database, &format!("DROP OWNED BY {0}_web; DROP ROLE {0}_web", roles.app))
        .await;
    (roles, report)
}

#[tokio::test]
async fn a_policy_for_the_login_is_attacked_as_the_login() {
    let (roles, report) = with_login(
        "DROP POLICY tenant_floor ON public.tickets; CREATE POLICY q ON public.tickets TO $other USING (price >= 0)",
    )
    .await;
    let finding = assert_found(&report, Error, "permissive-leak", "public.tickets");
    assert_eq!(finding.source, Source::Probe);
    assert!(finding.evidence.contains(&format!("as {}", roles.other)), "{finding:#?}");
}

#[tokio::test]
async fn what_is_granted_to_the_login_is_found() {
    let (_, report) = with_login(
        "GRANT TRUNCATE ON public.tickets TO $other;
         CREATE SCHEMA bill; CREATE TABLE bill.inv (tenant_id uuid PRIMARY KEY, total int);
         GRANT USAGE ON SCHEMA bill TO $app_web; GRANT SELECT ON bill.inv TO $other;
         CREATE MATERIALIZED VIEW public.m AS SELECT * FROM public.tickets; GRANT SELECT ON public.m TO $app_web",
    )
    .await;
    assert_found(&report, Error, "grant-truncate", "public.tickets");
    assert_found(&report, Error, "rls-disabled", "bill.inv");
    assert_found(&report, Error, "materialized-view", "public.m");
}

#[tokio::test]
async fn what_the_login_holds_within_its_tenant_is_quiet() {
    let (_, report) = with_login(
        "CREATE TABLE public.drafts (tenant_id uuid PRIMARY KEY, line text); SELECT tenancy.test_protect('public.drafts');
         GRANT UPDATE ON public.drafts TO $other; GRANT SELECT ON public.tickets TO $other",
    )
    .await;
    assert_quiet(&report);
    // A stranger's right is nobody's business here.
    let report = Roles::new("ALTER ROLE $other LOGIN; GRANT TRUNCATE ON public.tickets TO $other").await;
    assert_quiet(&report.verify().await);
}

/// The control plane of the database calls its roles `$app_owner` and so on; `$other` administers it.
const OPERATOR: &str = "CREATE ROLE $app_owner; GRANT $app, $app_owner TO $other; ALTER ROLE $other LOGIN;
     CREATE OR REPLACE FUNCTION tenancy.role_name(kind text) RETURNS text LANGUAGE sql IMMUTABLE STRICT
         RETURN CASE kind WHEN 'owner' THEN '$app_owner' ELSE 'tenancy_' || kind END;
     ALTER TABLE public.tickets OWNER TO $app_owner; ALTER TABLE public.events OWNER TO $app_owner;";

async fn with_operator(sql: &str) -> (Roles, tenancy::rls::Report) {
    let roles = Roles::new(&format!("{OPERATOR}{sql}")).await;
    let report = roles.verify().await;
    super::common::execute(
        &roles.database,
        &format!("DROP OWNED BY {0}_owner CASCADE; DROP ROLE {0}_owner", roles.app),
    )
    .await;
    (roles, report)
}

#[tokio::test]
async fn a_login_that_administers_is_a_note() {
    let (roles, report) = with_operator("").await;
    assert_eq!(report.summary.errors + report.summary.warnings, 0, "{report:#?}");
    let finding = find(&report, "login-escapes", &roles.other).expect("a note");
    assert_eq!(finding.severity, Note);
    assert!(finding.message.contains("administers"), "{finding:#?}");
}

#[tokio::test]
async fn a_login_that_administers_and_is_more_than_that_is_an_error() {
    // Out of the control plane's role first: its members are looked at in every other test's database.
    let (roles, report) = with_operator("REVOKE tenancy_app FROM $app; ALTER ROLE $other BYPASSRLS").await;
    assert_found(&report, Error, "login-escapes", &roles.other);
    let (roles, report) = with_operator("ALTER TABLE public.tickets OWNER TO $other").await;
    assert_found(&report, Error, "login-escapes", &roles.other);
}
