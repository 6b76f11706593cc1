//! What a session brings with it, and the server that it runs on.

use sqlx::postgres::types::Oid;
use sqlx::{AssertSqlSafe, ConnectOptions};
use tenancy::rls::Options;
use tenancy::rls::Severity::{Error, Warning};

use super::{assert_found, assert_quiet, assert_silent, common, database, find, mended, verified, verify};

const TENANT: &str = "7f0c1d9e-0000-4000-8000-000000000001";

/// The same statement about the test's own database, whatever its name.
fn here(statements: &[&str]) -> String {
    let statements = statements.iter().map(|statement| {
        format!("DO $do$ BEGIN EXECUTE format({}, current_database()); END $do$;", quoted(statement))
    });
    statements.collect()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[tokio::test]
async fn a_preset_tenant_is_found() {
    let database = database(&here(&[
        &format!("ALTER DATABASE %I SET app.current_tenant_id = '{TENANT}'"),
        "ALTER ROLE tenancy_app IN DATABASE %I SET \"app\".\"current_tenant_id\" = 'nobody'",
        "ALTER ROLE tenancy_app IN DATABASE %I SET row_security = off",
    ]))
    .await;
    let name = database.get_database().expect("a name").to_owned();
    let report = verify(&database, &Options::default()).await.expect("a report");
    for (severity, check, object) in [
        (Error, "context-preset", name.as_str()),
        (Error, "context-preset", "tenancy_app"),
        (Warning, "row-security-off", "tenancy_app"),
    ] {
        let finding = assert_found(&report, severity, check, object);
        common::execute(&database, &finding.fix).await;
    }
    assert!(!format!("{report:?}").contains(TENANT), "whose tenant it is stays out of the report");
    let report = verify(&database, &Options::default()).await.expect("a report");
    assert_quiet(&report);
    assert_silent(&report, "context-preset");
    assert_silent(&report, "row-security-off");
}

#[tokio::test]
async fn settings_that_preset_no_tenant_are_silent() {
    let role = "session_bystander";
    common::execute(
        &common::Database::migrated().await.options,
        "DROP ROLE IF EXISTS session_bystander; CREATE ROLE session_bystander",
    )
    .await;
    let report = verified(&here(&[
        "ALTER DATABASE %I SET app.current_tenant_id = ''",
        "ALTER DATABASE %I SET app.current_tenant = 'somebody'",
        "ALTER DATABASE %I SET row_security = on",
        &format!("ALTER ROLE {role} IN DATABASE %I SET app.current_tenant_id = '{TENANT}'"),
        &format!("ALTER ROLE {role} IN DATABASE %I SET row_security = off"),
    ]))
    .await;
    assert_quiet(&report);
    assert_silent(&report, "context-preset");
    assert_silent(&report, "row-security-off");
}

#[tokio::test]
async fn secrets_in_the_catalogue_are_found_and_not_repeated() {
    let secrets =
        ["aHR0cHM6Ly9zaWduaW5n", "tr0ub4dor", "hunter22hunter", "correcthorse", "AKIAABCDEFGHIJKLMNOP"];
    let settings = here(&[
        &format!("ALTER DATABASE %I SET app.jwt_secret = '{}'", secrets[0]),
        &format!(
            "ALTER ROLE tenancy_app IN DATABASE %I SET app.upstream = 'https://me:{}@example.com/'",
            secrets[1]
        ),
    ]);
    let database = database(&format!(
        "{settings}
         CREATE SCHEMA \"odd \"\"one\"; GRANT USAGE ON SCHEMA \"odd \"\"one\" TO tenancy_app;
         CREATE FUNCTION \"odd \"\"one\".\"Sign It\"(\"the text\" text) RETURNS text LANGUAGE plpgsql AS
             $$ DECLARE v_secret CONSTANT text := '{}'; BEGIN RETURN md5(v_secret); END $$;
         CREATE FUNCTION public.connection() RETURNS text LANGUAGE sql AS $$ SELECT 'host=db user=me password={}' $$;
         CREATE FUNCTION public.upload() RETURNS text LANGUAGE sql AS $$ SELECT '{}' $$;",
        secrets[2], secrets[3], secrets[4]
    ))
    .await;
    let name = database.get_database().expect("a name").to_owned();
    let report = verify(&database, &Options::default()).await.expect("a report");
    for object in [
        name.as_str(),
        "tenancy_app",
        "\"odd \"\"one\".\"Sign It\"(\"the text\" text)",
        "public.connection()",
        "public.upload()",
    ] {
        let finding = assert_found(&report, Error, "secret-in-catalog", object);
        common::execute(&database, &finding.fix).await;
    }
    let shown = format!("{report:?}");
    assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{report:#?}");
    let report = verify(&database, &Options::default()).await.expect("a report");
    assert_silent(&report, "secret-in-catalog");
}

#[tokio::test]
async fn what_only_talks_of_secrets_is_silent() {
    let settings = here(&[
        "ALTER DATABASE %I SET app.token_lifetime = '86400000'",
        "ALTER DATABASE %I SET app.secret_name = 'kept-elsewhere'",
        "ALTER DATABASE %I SET app.upstream = 'https://example.com/path'",
        "ALTER DATABASE %I SET app.password = ''",
    ]);
    let report = verified(&format!(
        "{settings}
         CREATE FUNCTION public.check_password(password text, stored text) RETURNS boolean LANGUAGE plpgsql AS
             $$ BEGIN IF password = '' THEN RAISE EXCEPTION 'password is empty'; END IF;
                RETURN md5(password) = stored; END $$;
         CREATE FUNCTION public.secret() RETURNS text LANGUAGE sql AS $$ SELECT current_setting('app.jwt_secret', true) $$;
         CREATE FUNCTION public.reset(kind text) RETURNS boolean LANGUAGE sql AS $$ SELECT kind = 'password_reset' $$;
         CREATE FUNCTION public.connection(p text) RETURNS text LANGUAGE sql AS $$ SELECT format('host=db password=%s', p) $$;"
    ))
    .await;
    assert_quiet(&report);
    assert_silent(&report, "secret-in-catalog");
}

#[tokio::test]
async fn a_function_that_sets_the_tenant_for_the_session_is_found() {
    let report = mended(
        "CREATE FUNCTION public.enter(tenant uuid) RETURNS void LANGUAGE sql AS
             $$ SELECT set_config('app.current_tenant_id', coalesce(tenant::text, ''), false) $$;
         CREATE FUNCTION public.standard(tenant uuid) RETURNS text LANGUAGE sql
             RETURN set_config('app.current_tenant_id', tenant::text, false);
         CREATE PROCEDURE public.\"Enter It\"(tenant uuid) LANGUAGE plpgsql AS
             $$ BEGIN EXECUTE format('SET SESSION app.current_tenant_id TO %L', tenant); END $$;
         CREATE FUNCTION public.local(tenant uuid) RETURNS text LANGUAGE sql AS
             $$ SELECT set_config('app.current_tenant_id', tenant::text, true), set_config('app.mode', 'x', false);
                -- never: set_config('app.current_tenant_id', tenant::text, false)
                SELECT 'done' $$;
         CREATE FUNCTION public.dynamic(tenant uuid) RETURNS void LANGUAGE plpgsql AS
             $$ BEGIN EXECUTE format('SET LOCAL app.current_tenant_id = %L', tenant); END $$;
         CREATE FUNCTION public.revoked(tenant uuid) RETURNS text LANGUAGE sql AS
             $$ SELECT set_config('app.current_tenant_id', tenant::text, false) $$;
         REVOKE EXECUTE ON FUNCTION public.revoked FROM PUBLIC;",
        &[
            (Warning, "function-sets-session", "public.enter(tenant uuid)"),
            (Warning, "function-sets-session", "public.standard(tenant uuid)"),
            (Warning, "function-sets-session", "public.\"Enter It\"(IN tenant uuid)"),
        ],
    )
    .await;
    let found = report.findings.iter().filter(|finding| finding.check == "function-sets-session").count();
    assert_eq!(found, 3, "{report:#?}");
}

/// What the check would say of a server of this version.
async fn outdated(version: i32) -> Vec<(String, String)> {
    #[derive(sqlx::FromRow)]
    struct Row {
        object: String,
        detail: String,
        severity: Option<String>,
    }
    let query = include_str!("../../sql/rls/checks/server-outdated.sql");
    let query = query.replace("current_setting('server_version_num')::int", &version.to_string());
    assert!(query.contains(&version.to_string()), "the check asks for its version in another way");
    let mut connection = common::Database::migrated().await.options.connect().await.expect("a connection");
    let none: Vec<Oid> = Vec::new();
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(query))
        .bind(&none)
        .bind(Vec::<String>::new())
        .bind(Vec::<bool>::new())
        .bind(&none)
        .fetch_all(&mut connection)
        .await
        .expect("rows");
    let rows = rows.into_iter().inspect(|row| assert_eq!(row.object, "server"));
    rows.map(|row| (row.detail, row.severity.unwrap_or_default())).collect()
}

#[tokio::test]
async fn a_server_without_the_fixes_is_found() {
    let warnings = |found: &[(String, String)]| {
        let of = found.iter().filter(|(_, severity)| severity == "warning").map(|(cve, _)| cve.clone());
        of.collect::<Vec<_>>()
    };
    let old = outdated(150_002).await;
    assert_eq!(warnings(&old), ["CVE-2023-2455", "CVE-2023-39418", "CVE-2024-10976", "CVE-2025-8713"]);
    assert_eq!(warnings(&outdated(160_005).await), ["CVE-2025-8713"]);
    assert_eq!(warnings(&outdated(170_000).await), ["CVE-2024-10976", "CVE-2025-8713"]);
    let recent = outdated(150_018).await;
    assert_eq!(recent, [("CVE-2026-14666".to_string(), "note".to_string())]);
    for fixed in [150_019, 160_015, 170_011, 180_006, 190_000] {
        assert!(outdated(fixed).await.is_empty(), "{fixed}");
    }
}

#[tokio::test]
async fn statistics_that_everybody_may_read_are_found() {
    // What an upgrade leaves of a cluster that was initialised before 15.7 or 16.3.
    let report = mended(
        r"SET allow_system_table_mods = on;
          DO $do$ DECLARE
              text text := pg_get_viewdef('pg_catalog.pg_stats_ext_exprs'::regclass);
              old  text := regexp_replace(text, 'pg_has_role\(.*?\) AND', '');
          BEGIN
              ASSERT old <> text;
              EXECUTE 'CREATE OR REPLACE VIEW pg_catalog.pg_stats_ext_exprs WITH (security_barrier) AS ' || old;
          END $do$;",
        &[(Warning, "server-outdated", "pg_catalog.pg_stats_ext_exprs")],
    )
    .await;
    assert!(find(&report, "server-outdated", "pg_catalog.pg_stats_ext").is_none(), "{report:#?}");
}
