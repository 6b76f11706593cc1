//! A migrated database of its own for each test, on the server that TENANCY_TEST_URL names.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, PgPool};
use tokio::sync::OnceCell;

static TEMPLATE: OnceCell<String> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(0);

fn server() -> PgConnectOptions {
    std::env::var("TENANCY_TEST_URL").expect("TENANCY_TEST_URL").parse().expect("a PostgreSQL URL")
}

async fn run(options: &PgConnectOptions, sql: String) {
    let mut connection = options.connect().await.expect("a connection");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("set up a database");
    sqlx::Connection::close(connection).await.expect("close");
}

async fn template() -> &'static str {
    TEMPLATE
        .get_or_init(|| async {
            let name = format!("tenancy_template_{}", std::process::id());
            run(&server(), format!("CREATE DATABASE {name}")).await;
            let mut files: Vec<_> = std::fs::read_dir("migrations")
                .expect("migrations")
                .map(|f| f.expect("file").path())
                .collect();
            files.sort();
            let mut sql = std::fs::read_to_string("sql/db/bootstrap.sql").expect("bootstrap");
            sql.push_str("CREATE TABLE tenancy._sqlx_migrations (version bigint PRIMARY KEY);");
            for file in files {
                sql.push_str(&std::fs::read_to_string(file).expect("migration"));
            }
            run(&server().database(&name), sql).await;
            name
        })
        .await
}

/// A fresh database with the control plane in it, connected to as superuser.
pub(crate) async fn database() -> PgPool {
    let template = template().await;
    let name = format!("tenancy_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    run(&server(), format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
    PgPoolOptions::new().max_connections(4).connect_with(server().database(&name)).await.expect("a pool")
}
