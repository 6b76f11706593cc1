//! What the application role is, and what it can become.

use sqlx::postgres::PgConnectOptions;
use tenancy::rls::Severity::Error;
use tenancy::rls::{Options, Report};

use super::{assert_found, assert_quiet, assert_silent, database, find, verify};

/// Roles belong to the cluster: these have names of their own. `$app` is what the application runs as, a member of the
/// control plane's role; `$other` is for the test.
pub(super) struct Roles {
    pub(super) app: String,
    pub(super) other: String,
    pub(super) database: PgConnectOptions,
}

impl Roles {
    pub(super) async fn new(sql: &str) -> Self {
        let suffix = uuid::Uuid::new_v4().simple().to_string();
        let (app, other) = (format!("app_{suffix}"), format!("other_{suffix}"));
        let sql = format!("CREATE ROLE $app IN ROLE tenancy_app; CREATE ROLE $other; {sql}");
        let database = database(&sql.replace("$app", &app).replace("$other", &other)).await;
        Self { app, other, database }
    }

    pub(super) async fn verify(&self) -> Report {
        let options = Options { app_roles: vec![self.app.clone()], ..Options::default() };
        let report = verify(&self.database, &options).await.expect("a report");
        let sql = "DROP OWNED BY $app, $other CASCADE; DROP ROLE $app, $other";
        super::common::execute(
            &self.database,
            &sql.replace("$app", &self.app).replace("$other", &self.other),
        )
        .await;
        report
    }
}

#[tokio::test]
async fn a_member_of_the_application_role_is_confined() {
    let report = Roles::new("ALTER ROLE $app LOGIN; GRANT $other TO $app").await.verify().await;
    assert_quiet(&report);
    assert!(report.findings.is_empty(), "{report:#?}");
}

#[tokio::test]
async fn role_superuser_is_found_any_number_of_hops_away() {
    let roles = Roles::new(
        "CREATE ROLE $other_hop; GRANT $other_hop TO $app; ALTER ROLE $app NOINHERIT;
                            GRANT $other TO $other_hop; ALTER ROLE $other SUPERUSER",
    )
    .await;
    let report = roles.verify().await;
    assert_found(&report, Error, "role-superuser", &roles.other);
    assert_silent(&report, "verifier-privileged");
    super::common::execute(&roles.database, &format!("DROP ROLE {}_hop", roles.other)).await;
}

#[tokio::test]
async fn role_bypassrls_is_found() {
    let roles = Roles::new("GRANT $other TO $app; ALTER ROLE $other BYPASSRLS").await;
    let report = roles.verify().await;
    assert_found(&report, Error, "role-bypassrls", &roles.other);
}

#[tokio::test]
async fn verifier_privileged_is_found_and_proves_nothing() {
    let roles = Roles::new("ALTER ROLE $app BYPASSRLS").await;
    let report = roles.verify().await;
    assert_found(&report, Error, "verifier-privileged", &roles.app);
    assert_eq!(report.not_proven.len(), 2, "{report:#?}");
    assert_eq!(report.summary.probes, 0);
}

#[tokio::test]
async fn owner_reachable_is_found() {
    let roles = Roles::new("GRANT $other TO $app; ALTER TABLE public.tickets OWNER TO $other").await;
    let report = roles.verify().await;
    assert_found(&report, Error, "owner-reachable", "public.tickets");
    let roles =
        Roles::new("CREATE SCHEMA s AUTHORIZATION $app; CREATE TABLE s.t (tenant_id uuid PRIMARY KEY);")
            .await;
    let report = roles.verify().await;
    assert_found(&report, Error, "owner-reachable", "s");
    let roles = Roles::new("ALTER TABLE public.tickets OWNER TO $other").await;
    assert_quiet(&roles.verify().await);
}

#[tokio::test]
async fn an_owner_in_reach_that_no_policy_binds_is_an_error() {
    let roles = Roles::new(
        "GRANT $other TO $app; ALTER TABLE public.tickets OWNER TO $other; ALTER TABLE public.tickets NO FORCE ROW LEVEL SECURITY",
    )
    .await;
    let report = roles.verify().await;
    assert_found(&report, Error, "rls-not-forced", "public.tickets");
    assert_silent(&report, "permissive-leak");
}

#[tokio::test]
async fn login_escapes_is_found() {
    // Out of the control plane's role first: its members are looked at in every other test's database.
    let roles =
        Roles::new("REVOKE tenancy_app FROM $app; ALTER ROLE $other LOGIN BYPASSRLS; GRANT $app TO $other")
            .await;
    let report = roles.verify().await;
    assert_found(&report, Error, "login-escapes", &roles.other);
    let roles = Roles::new(
        "ALTER ROLE $other LOGIN NOINHERIT; GRANT $app TO $other; CREATE ROLE $app_owner; GRANT $app_owner TO $other;
         ALTER TABLE public.tickets OWNER TO $app_owner",
    )
    .await;
    let report = roles.verify().await;
    assert_found(&report, Error, "login-escapes", &roles.other);
    super::common::execute(
        &roles.database,
        &format!("DROP OWNED BY {0}_owner CASCADE; DROP ROLE {0}_owner", roles.app),
    )
    .await;
}

#[tokio::test]
async fn logins_that_are_bound_or_strangers_are_quiet() {
    let roles = Roles::new("ALTER ROLE $other LOGIN; GRANT $app TO $other").await;
    assert_quiet(&roles.verify().await);
    let roles = Roles::new("ALTER ROLE $other LOGIN BYPASSRLS").await;
    let report = roles.verify().await;
    assert!(find(&report, "login-escapes", &roles.other).is_none(), "{report:#?}");
}

#[tokio::test]
async fn a_role_that_the_application_can_become_is_attacked_too() {
    let roles = Roles::new(
        "ALTER ROLE $app NOINHERIT; GRANT $other TO $app; DROP POLICY tenant_floor ON public.tickets;
         GRANT SELECT ON public.tickets TO $other; CREATE POLICY reports ON public.tickets TO $other USING (price >= 0)",
    )
    .await;
    let report = roles.verify().await;
    let finding = assert_found(&report, Error, "permissive-leak", "public.tickets");
    assert!(finding.evidence.contains(&format!("as {}", roles.other)), "{finding:#?}");
}

#[tokio::test]
async fn who_acts_for_owner_and_application_may_verify_and_who_may_do_nothing_proves_nothing() {
    // Not the control plane's owner: a login that could become it would be a finding in every other test's database.
    let roles = Roles::new(
        "ALTER ROLE $other LOGIN PASSWORD 'open sesame'; CREATE ROLE $app_owner; GRANT $app_owner, $app TO $other;
         GRANT USAGE ON SCHEMA tenancy TO $other; GRANT SELECT ON tenancy.protected_tables TO $other;
         ALTER TABLE public.events DROP CONSTRAINT events_tenant_id_fkey; ALTER TABLE public.events OWNER TO $app_owner;
         ALTER TABLE public.tickets OWNER TO $app_owner; INSERT INTO public.countries VALUES ('DE', 'Germany')",
    )
    .await;
    let connect = roles.database.clone().username(&roles.other).password("open sesame");
    let options = Options { app_roles: vec![roles.app.clone()], ..Options::default() };
    assert_quiet(&verify(&connect, &options).await.expect("a report"));
    let plant =
        "CREATE POLICY wide ON public.tickets USING (true); DROP POLICY tenant_floor ON public.tickets";
    super::common::execute(&roles.database, plant).await;
    let report = verify(&connect, &options).await.expect("a report");
    let finding = assert_found(&report, Error, "permissive-leak", "public.tickets");
    assert_eq!(finding.source, tenancy::rls::report::Source::Probe);
    let owner = format!("{}_owner", roles.app);
    super::common::execute(&roles.database, &format!("REVOKE {owner}, {} FROM {}", roles.app, roles.other))
        .await;
    let report = verify(&connect, &options).await.expect("a report");
    assert_eq!(report.not_proven.len(), 2, "{report:#?}");
    let finding = assert_found(&report, Error, "permissive-leak", "public.tickets");
    assert_eq!(finding.source, tenancy::rls::report::Source::Catalog);
    // Who is given one connection reads the same with it as with two.
    let options = Options { probes: false, ..options };
    let shared = verify(&connect, &options).await.expect("a report");
    let scarce = format!("ALTER ROLE {} CONNECTION LIMIT 1", roles.other);
    super::common::execute(&roles.database, &scarce).await;
    let alone = verify(&connect, &options).await.expect("a report");
    assert_eq!(format!("{:?}", alone.findings), format!("{:?}", shared.findings));
    assert!(!alone.findings.is_empty());
    roles.verify().await;
    super::common::execute(&roles.database, &format!("DROP OWNED BY {owner} CASCADE; DROP ROLE {owner}"))
        .await;
}

#[tokio::test]
async fn an_unknown_role_is_an_error() {
    let database = database("").await;
    let options = Options { app_roles: vec!["nobody_of_that_name".into()], ..Options::default() };
    let error = verify(&database, &options).await.expect_err("no such role");
    assert_eq!(error.kind(), tenancy::ErrorKind::NotFound);
}
