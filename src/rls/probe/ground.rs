//! The rows of two synthetic tenants in one table, for whoever attacks it in another way than the probes.

use std::collections::BTreeMap;

use sqlx::postgres::PgConnection;
use sqlx::postgres::types::Oid;

use crate::Result;
use crate::rls::contract::Acting;
use crate::rls::probe::batch::Batch;
use crate::rls::probe::row::Values;
use crate::rls::probe::schema::Node;
use crate::rls::probe::seed::{Canaries, Hand, Maker, Seeder};
use crate::rls::probe::values::tenant_value;
use crate::rls::probe::{Prepared, Results, Settings, prepared};
use crate::rls::scope::{Scope, Session};

/// A table with a row of tenant A and one of tenant B in it.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    pub(crate) table: Node,
    /// Name of the tenant column.
    pub(crate) column: String,
    /// Keys of A, B and of a tenant that does not exist, as the column holds them.
    pub(crate) keys: [String; 3],
    /// Rows of A and B.
    pub(crate) rows: [Values; 2],
    /// Rows that could be added for A and B.
    pub(crate) spares: [Option<Values>; 2],
    /// Whether the context was never set so far in this session.
    pub(crate) unset: bool,
    pub(crate) acting: Acting,
}

/// Makes a row of each tenant in the one table that the scope is narrowed to, in the transaction that the connection is
/// in. Says why, where that does not work.
pub(crate) async fn ground(
    connection: &mut PgConnection,
    settings: &Settings<'_>,
    session: &Session,
    scope: &Scope,
) -> Result<Result<Ground, String>> {
    let Prepared { shared, nodes, oids } =
        prepared(connection, settings, session, scope, &mut Results::default()).await?;
    let Some(Oid(oid)) = oids.first().copied() else {
        return Ok(Err("it is no table that the application role reaches".into()));
    };
    let batch = Batch::of(&shared, &nodes, vec![oid]);
    let ids = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
    let mut seeder = Seeder {
        nodes: &batch.nodes,
        tenants: [ids[0], ids[1]],
        acting: &scope.acting,
        suspected: settings.suspected,
        canaries: Canaries::default(),
    };
    let preset: bool = sqlx::query_scalar(
        "SELECT coalesce(bool_or(pg_catalog.current_setting(s.name, true) IS NOT NULL), false) FROM \
         pg_catalog.unnest($1::text[]) AS s(name)",
    )
    .bind(scope.acting.settings())
    .fetch_one(&mut *connection)
    .await?;
    let home = |in_context| Hand { role: Maker::Home, in_context };
    seeder.fill(connection, &[home(false)]).await?;
    let mut unset = !preset;
    if !seeder.canaries.rows.contains_key(&oid) {
        unset = false;
        seeder.fill(connection, &[home(true)]).await?;
    }
    if let Some(reason) = batch.prepare(connection, &mut seeder).await? {
        return Ok(Err(reason));
    }
    let Some(table) = batch.nodes.get(&oid) else { return Ok(Err("it is gone".into())) };
    let Some(column) = table.tenant.and_then(|attnum| table.column(attnum)) else {
        return Ok(Err("it has no tenant column".into()));
    };
    let Some(rows) = seeder.canaries.rows.get(&oid).cloned() else {
        let reason = seeder.canaries.reasons.get(&oid).cloned();
        return Ok(Err(reason.unwrap_or_else(|| "no row could be made".into())));
    };
    Ok(Ok(Ground {
        column: column.name.clone(),
        keys: [seeder.key(column, 0), seeder.key(column, 1), tenant_value(column, &ids[2])],
        rows,
        spares: seeder.canaries.spares.get(&oid).cloned().unwrap_or_default(),
        unset,
        acting: scope.acting.clone(),
        table: table.clone(),
    }))
}

impl Ground {
    /// The settings of the context: of A (0), of B (1), of a tenant that does not exist (2).
    pub(crate) fn context(&self, which: usize) -> BTreeMap<String, String> {
        self.acting.tenant(&self.keys[which], which)
    }
}
