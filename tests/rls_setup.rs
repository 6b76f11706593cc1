//! What `rls setup` makes holds: each test attacks as the application role what setup left behind.

use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};
use tenancy::Outcome;
use tenancy::rls::setup::{NewTables, Protection, Setup, TableKind, plan, setup};
use tenancy::{Error, ErrorKind};

use crate::common::database;

mod doors;
mod guard;
mod harden;
mod keys;
mod names;
mod online;
mod online_harden;
mod roles;
mod schema;
mod state;
mod teardown;

const A: &str = "aaaaaaaa-0000-4000-8000-000000000000";
const B: &str = "bbbbbbbb-0000-4000-8000-000000000000";

async fn exec(pool: &PgPool, sql: impl Into<String>) {
    let sql = sql.into();
    sqlx::raw_sql(AssertSqlSafe(sql.clone()))
        .execute(pool)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// A database with two tenants.
async fn platform(schema: &str) -> PgPool {
    let pool = database().await;
    exec(&pool, "INSERT INTO tenancy.plans (key, name) VALUES ('test', 'Test')").await;
    exec(
        &pool,
        format!("INSERT INTO tenancy.tenants (id, slug, name, plan) VALUES ('{A}', 'a', 'A', 'test'), ('{B}', 'b', 'B', 'test')"),
    )
    .await;
    exec(&pool, schema).await;
    pool
}

async fn set_up(pool: &PgPool, options: &Setup) -> tenancy::Result<Protection> {
    let mut tx = pool.begin().await?;
    let outcome = setup(&mut tx, options).await?;
    tx.commit().await?;
    Ok(outcome)
}

async fn set_up_all(pool: &PgPool) -> Protection {
    set_up(pool, &Setup::default()).await.unwrap()
}

fn named(table: &str) -> Setup {
    Setup { tables: vec![table.into()], ..Setup::default() }
}

fn failure(result: tenancy::Result<Protection>) -> Error {
    result.expect_err("it should have been refused")
}

/// Runs a statement as a role in a tenant's context, or in none, and rolls it back. Gives the rows it touched or read.
async fn try_as(pool: &PgPool, role: &str, context: Option<&str>, sql: &str) -> Result<u64, String> {
    let mut tx = pool.begin().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("SET LOCAL ROLE {role}"))).execute(&mut *tx).await.unwrap();
    if let Some(tenant) = context {
        sqlx::query("SELECT set_config('app.current_tenant_id', $1, true)")
            .bind(tenant)
            .execute(&mut *tx)
            .await
            .unwrap();
    }
    let result = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut *tx).await;
    result.map(|done| done.rows_affected()).map_err(|error| {
        error
            .as_database_error()
            .and_then(|e| e.code().map(|code| code.into_owned()))
            .unwrap_or(error.to_string())
    })
}

async fn app(pool: &PgPool, tenant: &str, sql: &str) -> Result<u64, String> {
    try_as(pool, "tenancy_app", Some(tenant), sql).await
}

fn denied() -> Result<u64, String> {
    Err("42501".into())
}

/// Everything in the catalogues that isolation is made of, in a fixed order.
async fn catalogs(connection: &mut PgConnection) -> Vec<String> {
    sqlx::query(
        "SELECT format('table %s %s %s %s %s', c.oid::regclass, c.relowner::regrole, c.relrowsecurity,
                       c.relforcerowsecurity, (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(c.relacl) a)) AS line
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('tenancy', 'information_schema')
         UNION ALL
         SELECT format('column %s.%s %s %s', c.oid::regclass, a.attname, a.attnotnull,
                       (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(a.attacl) x))
           FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('tenancy', 'information_schema') AND c.relkind IN ('r', 'p')
         UNION ALL
         SELECT format('policy %s on %s %s %s %s %s %s', polname, polrelid::regclass, polpermissive, polcmd,
                       polroles::regrole[], pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
           FROM pg_policy WHERE polrelid::regclass::text !~ '^tenancy[.]'
         UNION ALL
         SELECT format('constraint %s %s', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint
          WHERE conrelid <> 0 AND conrelid::regclass::text !~ '^(tenancy|pg_catalog|information_schema)[.]'
         UNION ALL
         SELECT format('index %s', pg_get_indexdef(indexrelid)) FROM pg_index
          WHERE indrelid >= 16384 AND indrelid::regclass::text !~ '^(tenancy|pg_toast)[.]'
         UNION ALL
         SELECT format('schema %s %s', nspname, (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(nspacl) a))
           FROM pg_namespace WHERE nspname !~ '^pg_'
         UNION ALL
         SELECT format('registered %s %s %s', relation, kind, tenant_column) FROM tenancy.protected_tables
         ORDER BY 1",
    )
    .fetch_all(connection)
    .await
    .unwrap()
    .iter()
    .map(|row| row.get("line"))
    .collect()
}

async fn catalogs_of(pool: &PgPool) -> Vec<String> {
    catalogs(&mut pool.acquire().await.unwrap()).await
}

/// The columns of a table besides id and x, in two tenants with two and three rows.
async fn rows(pool: &PgPool, table: &str, column: &str, a: &str, b: &str) {
    exec(
        pool,
        format!(
            "INSERT INTO {table} (id, {column}, x) SELECT g, CASE WHEN g <= 2 THEN '{a}' ELSE '{b}' END::{}, 'x'
             FROM generate_series(1, 5) g",
            if a == A { "uuid" } else { "text" }
        ),
    )
    .await;
}
