//! What an interrupted online setup leaves on a table, for those that come after it.

use sqlx::PgConnection;
use sqlx::postgres::types::Oid;

use super::platform::look;
use super::protection::Step;
use crate::Result;
use crate::db::quote::trusted;

/// The constraint that proves a column to be without NULLs while rows come and go; it is dropped once the column says so.
pub(super) const PROOF: &str = "tenancy_online_not_null";

/// Which of these tables wait for the rest of an online setup, with a note for each.
pub(super) async fn notes(connection: &mut PgConnection, relations: &[Oid]) -> Result<Vec<(Oid, String)>> {
    let mut look = look(connection).await?;
    let found =
        sqlx::query_file!("sql/rls/online/unfinished.sql", relations, PROOF).fetch_all(&mut *look).await?;
    look.rollback().await?;
    let note = |hardening| {
        let more = if hardening { " --harden" } else { "" };
        format!("an online setup of it was interrupted: `tenantctl rls setup --online{more}` completes it")
    };
    Ok(found.into_iter().map(|row| (row.relation, note(row.hardening))).collect())
}

/// Writes the constraint down as setup's where it stands. Names mean PostgreSQL's own in the transaction.
pub(super) async fn own(connection: &mut PgConnection, relation: Oid) -> Result<()> {
    sqlx::query_file!("sql/rls/online/own_proof.sql", relation, PROOF).execute(connection).await?;
    Ok(())
}

/// What a teardown has to do before all else: at most one step.
pub(super) async fn removal(connection: &mut PgConnection, relation: Oid) -> Result<Vec<Step>> {
    let mut look = look(connection).await?;
    let found = sqlx::query_file_scalar!("sql/rls/online/drop_proof.sql", relation, PROOF)
        .fetch_optional(&mut *look)
        .await?;
    look.rollback().await?;
    let step = |statement| Step { action: "drop_check".into(), statement: Some(statement), note: None };
    Ok(found.map(step).into_iter().collect())
}

/// Carries [`removal`] out.
pub(super) async fn remove(connection: &mut PgConnection, relation: Oid) -> Result<Vec<Step>> {
    let steps = removal(&mut *connection, relation).await?;
    for statement in steps.iter().filter_map(|step| step.statement.clone()) {
        sqlx::raw_sql(trusted(statement)).execute(&mut *connection).await?;
    }
    Ok(steps)
}
