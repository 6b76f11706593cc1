//! What plpgsql cannot run for us, over the connection itself: COPY to the client, and reading through a cursor.

use std::collections::BTreeMap;

use sqlx::postgres::PgConnection;
use sqlx::{Column as _, Executor, Row};

use crate::Result;
use crate::db::quote::{ident, literal, trusted};
use crate::rls::probe::attack::{Attack, Command, Context, Target};
use crate::rls::probe::commands::Extra;
use crate::rls::probe::judge::Tried;
use crate::rls::probe::runner::{Item, Outcome, Refusal};

const FOUND: &str = "tenancy_probe";

/// Opens the savepoint that every attempt returns to.
pub(crate) async fn begin(connection: &mut PgConnection) -> Result<()> {
    connection.execute("SAVEPOINT tenancy_probe").await?;
    Ok(())
}

/// Whether the driver can go on with the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    Open,
    /// It is out of step with the server after a refused COPY; all that is left is to close it.
    Spoiled,
}

/// Reads the table in A's context through a cursor, locks its rows, and copies its tenant column to here.
pub(crate) async fn read(connection: &mut PgConnection, target: &Target<'_>) -> Result<(Vec<Tried>, Line)> {
    let Some((attnum, column)) = target.tenant_column() else { return Ok((Vec::new(), Line::Open)) };
    if !target.privileges.selects.contains(&attnum) {
        return Ok((Vec::new(), Line::Open));
    }
    let name = &target.node.name;
    let [a, b] = [literal(&target.tenants[0]), literal(&target.tenants[1])];
    let which = format!(
        "SELECT CASE WHEN {column} = {a} THEN 0 ELSE 1 END AS {FOUND} FROM {name} WHERE {column} IN ({a}, {b})"
    );
    let mut sql = String::from("ROLLBACK TO SAVEPOINT tenancy_probe;");
    for (setting, value) in &target.item(Context::A, None).settings {
        sql.push_str(&format!(
            "SELECT pg_catalog.set_config({}, {}, true);",
            literal(setting),
            literal(value)
        ));
    }
    let cursor = format!("DECLARE tenancy_probe CURSOR FOR {which}");
    sql.push_str(&format!(
        "SET LOCAL ROLE {};{cursor};FETCH 100 FROM tenancy_probe;CLOSE tenancy_probe",
        ident(target.role)
    ));
    let outcome = fetch(connection, sql).await?;
    let readable = outcome.attempt.is_some();
    let mut tried = vec![attempt(Extra::Cursor, cursor, outcome)];
    // Where reading itself fails, so do the others; and a refused COPY costs the connection.
    if !readable {
        return Ok((tried, Line::Open));
    }
    let mut line = Line::Open;
    // No more than the canaries: where the policies leak, the whole table would come.
    let statement = format!("COPY (SELECT {column} FROM {name} WHERE {column} IN ({a}, {b})) TO STDOUT");
    let outcome = match copy(connection, &statement, &target.tenants).await? {
        Ok(seen) => answered(seen),
        Err(error) => {
            line = Line::Spoiled;
            refused(error)?
        }
    };
    tried.push(attempt(Extra::Copy, statement, outcome));
    // A statement of its own, as a policy may look at it, and the last: one that is refused ends the transaction until
    // the next table rolls back to the savepoint.
    if line == Line::Open && !target.privileges.updates.is_empty() {
        let lock = format!("{which} FOR UPDATE");
        let outcome = fetch(connection, lock.clone()).await?;
        tried.push(attempt(Extra::Lock, lock, outcome));
    }
    Ok((tried, line))
}

/// Runs statements and counts the rows of A and of B that come.
async fn fetch(connection: &mut PgConnection, sql: String) -> Result<Outcome> {
    let rows = match connection.fetch_all(sqlx::raw_sql(trusted(sql))).await {
        Ok(rows) => rows,
        Err(error) => return refused(error),
    };
    let mut seen = [0_i64; 2];
    for row in rows.iter().filter(|row| row.columns().iter().any(|column| column.name() == FOUND)) {
        let which: i32 = row.try_get(FOUND)?;
        seen[usize::from(which == 1)] += 1;
    }
    Ok(answered(seen))
}

/// Rows of A and of B that come over, none of them kept. The inner error is the server's refusal to start.
async fn copy(
    connection: &mut PgConnection,
    statement: &str,
    tenants: &[String; 3],
) -> Result<Result<[i64; 2], sqlx::Error>> {
    let mut stream = match connection.copy_out_raw(statement).await {
        Ok(stream) => stream,
        Err(error) => return Ok(Err(error)),
    };
    let mut seen = [0, 0];
    // Each message is one row.
    while let Some(row) = std::future::poll_fn(|context| stream.as_mut().poll_next(context)).await {
        let row = row?;
        let Ok(value) = std::str::from_utf8(&row) else { continue };
        for (which, tenant) in tenants.iter().take(2).enumerate() {
            seen[which] += i64::from(is_key(value.trim_end(), tenant));
        }
    }
    Ok(Ok(seen))
}

/// Whether a column shows that key; a number may have more zeros.
fn is_key(value: &str, key: &str) -> bool {
    value == key || value.parse::<f64>().is_ok_and(|value| key.parse::<f64>().is_ok_and(|key| key == value))
}

fn answered(seen: [i64; 2]) -> Outcome {
    Outcome {
        attempt: Some(0),
        touched: 1,
        answer: Some(format!("[{}, {}]", seen[0], seen[1])),
        ..Outcome::default()
    }
}

/// The server's no as an outcome; whatever else went wrong ends the run.
fn refused(error: sqlx::Error) -> Result<Outcome> {
    let refusal = match error.as_database_error() {
        Some(database) => Refusal {
            code: database.code().unwrap_or_default().into_owned(),
            message: database.message().into(),
            constraint: String::new(),
            column: String::new(),
        },
        None => return Err(error.into()),
    };
    Ok(Outcome { refused: vec![refusal], ..Outcome::default() })
}

fn attempt(extra: Extra, statement: String, outcome: Outcome) -> Tried {
    let attack = Attack {
        context: Context::A,
        command: Command::Extra(extra),
        spoof: None,
        flag: None,
        counts: false,
    };
    let item =
        Item { attempts: vec![statement], returns: true, settings: BTreeMap::new(), ..Item::default() };
    (attack, item, outcome)
}

#[cfg(test)]
mod tests {
    use super::is_key;

    #[test]
    fn a_key_is_known_however_it_is_printed() {
        assert!(is_key("731.00", "731") && is_key("v1b2", "v1b2"));
        assert!(!is_key("731.5", "731") && !is_key("\\N", "731") && !is_key("v1b2", "v1b3"));
    }
}
