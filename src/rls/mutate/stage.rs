//! Weakens, in sessions whose transaction is never committed.

use sqlx::Executor;
use sqlx::postgres::PgConnection;

use crate::Result;
use crate::db::quote::trusted;
use crate::rls::mutate::oracle::{Crossings, Oracle};
use crate::rls::mutate::weaken::{Mutation, Opening};
use crate::rls::probe::Ground;

/// A session in a transaction in which both tenants have their rows, for one weakening after the other.
pub(super) struct Stage {
    pub(super) connection: PgConnection,
    pub(super) ground: Ground,
}

impl Stage {
    /// What gets through once the table is weakened.
    pub(super) async fn through(
        &mut self,
        role: &str,
        mutation: &Mutation,
    ) -> Result<Result<Crossings, String>> {
        self.connection.execute("SAVEPOINT mutant").await?;
        // What a script reaches of what is not weakened is no news.
        let known = match &mutation.opening {
            Opening::Script(script) => {
                Oracle::new(&mut self.connection, &self.ground, role).ask_script(script).await?
            }
            _ => Crossings::new(),
        };
        let outcome = match weaken(&mut self.connection, Some(mutation)).await? {
            Ok(()) => {
                Ok(Oracle::new(&mut self.connection, &self.ground, role).ask(&mutation.opening).await?)
            }
            Err(reason) => Err(reason),
        };
        self.connection.execute("ROLLBACK TO mutant; RELEASE mutant").await?;
        Ok(outcome.map(|through| through.into_iter().filter(|(what, _)| !known.contains_key(what)).collect()))
    }
}

/// Weakens. Says in the server's words why, where that was refused.
pub(super) async fn weaken(
    connection: &mut PgConnection,
    mutation: Option<&Mutation>,
) -> Result<Result<(), String>> {
    let Some(mutation) = mutation else { return Ok(Ok(())) };
    // As the policies were read, so they are written.
    connection.execute("SET LOCAL search_path = pg_catalog").await?;
    for statement in &mutation.statements {
        match connection.execute(sqlx::raw_sql(trusted(statement.clone()))).await {
            Ok(_) => {}
            Err(sqlx::Error::Database(error)) => {
                let code = error.code().unwrap_or_default().into_owned();
                return Ok(Err(format!("{} ({code})", error.message())));
            }
            Err(error) => return Err(error.into()),
        }
    }
    connection.execute("SET LOCAL search_path TO DEFAULT").await?;
    Ok(Ok(()))
}
