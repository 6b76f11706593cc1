//! What the application role may do beside its tables: attributes, predefined roles, CREATE; and logins nobody declared.

use crate::common::verify;
use tenancy::db::embedded::Ephemeral;
use tenancy::db::{self, Session};
use tenancy::rls::Options;
use tenancy::rls::Severity::{Error, Note, Warning};

use super::roles::Roles;
use super::{assert_found, assert_quiet, assert_silent, common, database, find, mend};

async fn look(roles: &Roles) -> tenancy::rls::Report {
    let options = Options { app_roles: vec![roles.app.clone()], ..Options::default() };
    verify(&roles.database, &options).await.expect("a report")
}

#[tokio::test]
async fn what_makes_a_role_dangerous_is_found_and_mended() {
    let roles = Roles::new(
        "ALTER ROLE $app NOINHERIT; GRANT $other TO $app; ALTER ROLE $other CREATEROLE REPLICATION;
         GRANT pg_read_server_files, pg_execute_server_program, pg_monitor TO $other;
         GRANT EXECUTE ON FUNCTION pg_read_file(text) TO $app; GRANT CREATE ON SCHEMA public TO $other;
         DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO $app', current_database()); END $$",
    )
    .await;
    let report = look(&roles).await;
    let major: u32 =
        report.server_version.split('.').next().and_then(|major| major.parse().ok()).expect("a version");
    let creates = if major < 16 { Error } else { Warning };
    assert_found(&report, creates, "role-createrole", &roles.other);
    assert_found(&report, Error, "role-replication", &roles.other);
    for object in ["pg_read_server_files", "pg_execute_server_program", "pg_catalog.pg_read_file(text)"] {
        assert_found(&report, Error, "role-server-files", object);
    }
    assert_found(&report, Warning, "role-reads-stats", "pg_monitor");
    assert!(
        find(&report, "role-reads-stats", "pg_read_all_stats").is_none(),
        "it comes with pg_monitor: {report:#?}"
    );
    assert_found(&report, Warning, "role-creates", "public");
    assert_eq!(
        report.findings.iter().filter(|finding| finding.check == "role-creates").count(),
        2,
        "{report:#?}"
    );
    mend(&roles.database, &report).await;
    let report = roles.verify().await;
    assert!(report.findings.is_empty(), "{report:#?}");
}

#[tokio::test]
async fn what_others_may_do_is_quiet() {
    // Not granted to the application; a schema that nobody looks into; a path that leads elsewhere.
    let roles = Roles::new(
        "ALTER ROLE $other CREATEROLE REPLICATION; GRANT pg_read_server_files, pg_monitor TO $other;
         GRANT CREATE ON SCHEMA public TO $other; CREATE SCHEMA scratch; GRANT USAGE, CREATE ON SCHEMA scratch TO $app;
         ALTER ROLE $app SET search_path = public; ALTER ROLE $other SET search_path = scratch",
    )
    .await;
    let report = roles.verify().await;
    assert!(report.findings.is_empty(), "{report:#?}");
}

#[tokio::test]
async fn role_creates_follows_the_search_path_of_the_role() {
    let roles = Roles::new(
        r#"CREATE SCHEMA "Odd, one"; GRANT CREATE ON SCHEMA "Odd, one" TO PUBLIC;
           ALTER ROLE $app SET search_path = "Odd, one", public"#,
    )
    .await;
    let report = look(&roles).await;
    assert_found(&report, Warning, "role-creates", r#""Odd, one""#);
    mend(&roles.database, &report).await;
    assert_silent(&roles.verify().await, "role-creates");
}

#[tokio::test]
async fn role_maintain_is_a_note_where_there_is_such_a_right() {
    let database = database(
        "DO $$ BEGIN
             IF current_setting('server_version_num')::int >= 170000 THEN
                 EXECUTE 'GRANT MAINTAIN ON public.tickets TO tenancy_app';
             END IF;
         END $$",
    )
    .await;
    let report = verify(&database, &Options::default()).await.expect("a report");
    let major: u32 =
        report.server_version.split('.').next().and_then(|major| major.parse().ok()).expect("a version");
    if major >= 17 {
        assert_eq!(find(&report, "role-maintain", "public.tickets").expect("a note").severity, Note);
        mend(&database, &report).await;
        assert_silent(&verify(&database, &Options::default()).await.expect("a report"), "role-maintain");
    } else {
        assert!(report.findings.is_empty(), "{report:#?}");
    }
}

#[tokio::test]
async fn a_login_with_bypassrls_and_rights_on_the_tables_is_found() {
    let roles =
        Roles::new("ALTER ROLE $other LOGIN BYPASSRLS; GRANT SELECT ON public.tickets TO $other").await;
    let report = look(&roles).await;
    assert_found(&report, Warning, "bypass-unregistered", &roles.other);
    mend(&roles.database, &report).await;
    assert_quiet(&look(&roles).await);
    // Without a right on any table it reads nothing.
    common::execute(
        &roles.database,
        &format!("REVOKE SELECT ON public.tickets FROM {0}; ALTER ROLE {0} BYPASSRLS", roles.other),
    )
    .await;
    assert_silent(&roles.verify().await, "bypass-unregistered");
}

#[tokio::test]
async fn a_superuser_is_found_unless_it_is_declared() {
    // On a server of its own: every other test's database would see it.
    let server = Ephemeral::start(&common::request()).expect("a server");
    let mut session =
        Session::new(sqlx::ConnectOptions::connect(&server.options()).await.expect("a connection"));
    let mut transaction = session.begin().await.expect("a transaction");
    db::migrate(&mut transaction, "tenancy").await.expect("a control plane");
    transaction.commit().await.expect("a commit");
    common::execute(&server.options(), super::HELPER).await;
    common::execute(&server.options(), super::SCHEMA).await;
    common::execute(
        &server.options(),
        r#"CREATE ROLE "Old 'dba" LOGIN SUPERUSER; CREATE ROLE rdsadmin LOGIN SUPERUSER; CREATE ROLE group_of_dbas SUPERUSER"#,
    )
    .await;
    let report = verify(&server.options(), &Options::default()).await.expect("a report");
    assert_found(&report, Warning, "bypass-unregistered", r#""Old 'dba""#);
    assert_eq!(report.findings.len(), 1, "{report:#?}");
    common::execute(&server.options(), r#"GRANT tenancy_admin TO "Old 'dba""#).await;
    assert_silent(
        &verify(&server.options(), &Options::default()).await.expect("a report"),
        "bypass-unregistered",
    );
    common::execute(&server.options(), r#"REVOKE tenancy_admin FROM "Old 'dba""#).await;
    mend(&server.options(), &report).await;
    let report = verify(&server.options(), &Options::default()).await.expect("a report");
    assert!(report.findings.is_empty(), "{report:#?}");
}
