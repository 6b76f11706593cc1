//! The audit log: who changed what, written in the transaction of the change.

use serde_json::Value;
use sqlx::PgConnection;

use crate::Result;
use crate::id::TenantId;

/// Writes an entry into the transaction under way.
pub(crate) async fn record(
    connection: &mut PgConnection,
    action: &str,
    tenant: Option<TenantId>,
    details: Value,
) -> Result<()> {
    sqlx::query_file!("sql/audit/record.sql", action, tenant.map(|t| t.0), details)
        .execute(connection)
        .await?;
    Ok(())
}
