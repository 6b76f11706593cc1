//! A database per test.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, raw_sql};

/// A fresh database with every migration, as its superuser.
pub(crate) async fn database() -> PgConnectOptions {
    let url = std::env::var("TENANCY_TEST_URL").expect("TENANCY_TEST_URL names a scratch server");
    let server = PgConnectOptions::from_str(&url).expect("a URL");
    let name = format!("test_{}", uuid::Uuid::new_v4().simple());
    execute(&server, &format!("CREATE DATABASE {name}")).await;
    let database = server.database(&name);
    let root = env!("CARGO_MANIFEST_DIR");
    let read = |path: String| std::fs::read_to_string(path).expect("a migration");
    let mut sql = String::from("BEGIN;");
    // Roles belong to the cluster, tests run side by side.
    sql += "SELECT pg_advisory_xact_lock(7);";
    sql += &read(format!("{root}/sql/db/bootstrap.sql"));
    sql += "CREATE TABLE tenancy._sqlx_migrations (version bigint PRIMARY KEY);";
    let mut files: Vec<_> = std::fs::read_dir(format!("{root}/migrations"))
        .expect("migrations")
        .map(|entry| entry.expect("a file").path().display().to_string())
        .collect();
    files.sort();
    for file in files {
        sql += &read(file);
    }
    sql += "COMMIT;";
    execute(&database, &sql).await;
    database
}

/// Runs statements, and expects them to work.
pub(crate) async fn execute(options: &PgConnectOptions, sql: &str) {
    let mut connection = options.connect().await.expect("a connection");
    connection
        .execute(raw_sql(AssertSqlSafe(sql.to_string())))
        .await
        .unwrap_or_else(|error| panic!("{error}: {sql}"));
    connection.close().await.expect("closed");
}
