//! Makes the users of the synthetic tenants members of them, as an isolation contract says.

use std::collections::BTreeSet;

use sqlx::Executor;
use sqlx::postgres::PgConnection;
use sqlx::postgres::types::Oid;

use crate::Result;
use crate::db::quote::{ident, literal, trusted};
use crate::rls::contract::Acting;
use crate::rls::probe::batch::Batch;
use crate::rls::probe::row::Values;
use crate::rls::probe::seed::Seeder;

/// For each statement of the preparation the table that it adds rows to.
pub(super) async fn tables(connection: &mut PgConnection, acting: &Acting) -> Result<Vec<Option<Oid>>> {
    let mut found = Vec::new();
    for name in acting.prepared_tables() {
        let oid = sqlx::query_scalar("SELECT pg_catalog.to_regclass($1)::oid").bind(name);
        found.push(oid.fetch_one(&mut *connection).await?);
    }
    Ok(found)
}

impl Batch<'_> {
    /// Runs the preparation for both tenants. Says why, where that did not work.
    pub(super) async fn prepare(
        &self,
        connection: &mut PgConnection,
        seeder: &mut Seeder<'_>,
    ) -> Result<Option<String>> {
        // All of it or nothing: what failed is tried again once more rows stand.
        connection.execute("SAVEPOINT preparation").await?;
        for [a, b] in self.keys(seeder) {
            for (which, key) in [(0, &a), (1, &b)] {
                for statement in seeder.acting.prepare(key, which) {
                    // Inside a DO block no statement can end the transaction that will be rolled back.
                    let block = format!("BEGIN EXECUTE {}; END", literal(&statement));
                    match connection.execute(sqlx::raw_sql(trusted(format!("DO {}", literal(&block))))).await
                    {
                        Ok(_) => {}
                        Err(sqlx::Error::Database(error)) => {
                            connection.execute("ROLLBACK TO preparation").await?;
                            let code = error.code().unwrap_or_default().into_owned();
                            return Ok(Some(format!(
                                "context.prepare of the contract failed: {} ({code})",
                                error.message()
                            )));
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        connection.execute("RELEASE preparation").await?;
        self.adopt(connection, seeder).await?;
        Ok(None)
    }

    /// Lets the rows of the preparation stand for the tenants where no others could be made: a user has but one profile.
    async fn adopt(&self, connection: &mut PgConnection, seeder: &mut Seeder<'_>) -> Result<()> {
        for oid in self.shared.prepared.iter().flatten() {
            let Some(node) = self.nodes.get(oid) else { continue };
            let Some(column) = node.tenant.and_then(|attnum| node.column(attnum)) else { continue };
            if seeder.canaries.rows.contains_key(oid) {
                continue;
            }
            let values: Vec<String> =
                node.columns.iter().map(|column| format!("{}::text", ident(&column.name))).collect();
            let mut rows: Vec<Values> = Vec::new();
            for which in 0..2 {
                let query = format!(
                    "SELECT pg_catalog.to_json(ARRAY[{}]::text[])::text FROM {} WHERE {} = {}::{} LIMIT 1",
                    values.join(", "),
                    node.name,
                    ident(&column.name),
                    literal(&seeder.key(column, which)),
                    column.type_name
                );
                connection.execute("SAVEPOINT adoption").await?;
                match sqlx::query_scalar(trusted(query)).fetch_optional(&mut *connection).await {
                    Ok(row) => {
                        let row: Option<String> = row;
                        rows.extend(row.and_then(|row| serde_json::from_str(&row).ok()));
                        connection.execute("RELEASE adoption").await?;
                    }
                    // Whoever may not read it has no row to show; the table stays unproven.
                    Err(sqlx::Error::Database(_)) => {
                        connection.execute("ROLLBACK TO adoption").await?;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            if let Ok(rows) = <[Values; 2]>::try_from(rows) {
                seeder.canaries.rows.insert(*oid, rows);
                seeder.canaries.order.push(*oid);
            }
        }
        Ok(())
    }

    /// The keys of A and B, as the tables of the preparation hold them, else as any table does.
    pub(super) fn keys(&self, seeder: &Seeder<'_>) -> BTreeSet<[String; 2]> {
        let of = |oid: &u32| {
            let node = self.nodes.get(oid)?;
            let column = node.column(node.tenant?)?;
            Some([seeder.key(column, 0), seeder.key(column, 1)])
        };
        let keys: BTreeSet<_> = self.shared.prepared.iter().flatten().filter_map(of).collect();
        if keys.is_empty() { self.nodes.keys().filter_map(of).collect() } else { keys }
    }

    /// What a user of A would do to join B, in this table.
    pub(super) fn join(&self, oid: u32, seeder: &Seeder<'_>) -> Vec<String> {
        let other = self.nodes.get(&oid).and_then(|node| Some(seeder.key(node.column(node.tenant?)?, 1)));
        let Some(other) = other else { return Vec::new() };
        let statements = seeder.acting.prepare(&other, 0).into_iter().zip(&self.shared.prepared);
        statements.filter(|(_, table)| **table == Some(oid)).map(|(statement, _)| statement).collect()
    }

    /// Whether a row of the preparation references the table and cannot be cleared away.
    pub(super) fn entangled(&self, oid: u32, seeder: &Seeder<'_>) -> bool {
        self.shared.prepared.iter().flatten().any(|prepared| {
            let refers = |node: &super::schema::Node| node.references().any(|key| key.referenced.0 == oid);
            *prepared != oid
                && !seeder.canaries.rows.contains_key(prepared)
                && self.nodes.get(prepared).is_some_and(refers)
        })
    }
}
