//! SET ROLE, from the application role to roles that no policy binds.

use sqlx::postgres::PgConnection;
use sqlx::{Executor, Row};

use crate::Result;
use crate::db::quote::{ident, literal, trusted};
use crate::rls::probe::batch::Batch;
use crate::rls::probe::seed::Seeder;
use crate::rls::probe::{Leak, Results};
use crate::rls::report::Severity;

impl Batch<'_> {
    /// Logs in as the application role, becomes each exempt role that it is said to reach, and reads tenant B's row.
    pub(super) async fn climb(
        &self,
        connection: &mut PgConnection,
        seeder: &Seeder<'_>,
        results: &mut Results,
    ) -> Result<()> {
        let scope = self.shared.scope;
        let table = self.targets.iter().filter(|oid| seeder.canaries.rows.contains_key(oid));
        let Some((node, column)) = table
            .filter_map(|oid| self.nodes.get(oid))
            .find_map(|node| Some((node, node.column(node.tenant?)?)))
        else {
            return Ok(());
        };
        let (a, b) = (seeder.key(column, 0), seeder.key(column, 1));
        for role in scope.roles.iter().filter(|role| role.settable && role.exempt()) {
            let mut sql = String::from("SAVEPOINT climb;");
            for (setting, value) in scope.acting.tenant(&a, 0) {
                let (setting, value) = (literal(&setting), literal(&value));
                sql.push_str(&format!("SELECT pg_catalog.set_config({setting}, {value}, true);"));
            }
            let column = ident(&column.name);
            let read = |b: &str| format!("SELECT count(*) FROM {} WHERE {column} = {b}", node.name);
            let (app, name) = (ident(&scope.app.name), ident(&role.name));
            sql.push_str(&format!(
                "SET LOCAL SESSION AUTHORIZATION {app};SET LOCAL ROLE {name};SELECT pg_catalog.quote_ident({}), s.count \
                 FROM ({}) AS s",
                literal(&role.name),
                read(&literal(&b))
            ));
            let outcome = connection.fetch_all(sqlx::raw_sql(trusted(sql))).await;
            connection.execute("ROLLBACK TO SAVEPOINT climb").await?;
            results.attempts.tried += 1;
            let rows = match outcome {
                Ok(rows) => rows,
                // Refused, as it should be; or whoever verifies may not log in as others.
                Err(sqlx::Error::Database(_)) => {
                    results.attempts.failed += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let Some(row) = rows.last() else { continue };
            let (object, seen): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
            if seen == 0 {
                results.attempts.failed += 1;
                continue;
            }
            results.attempts.succeeded += 1;
            results.leaks.push(Leak {
                check: if role.superuser { "role-superuser" } else { "role-bypassrls" },
                severity: Severity::Error,
                object,
                object_kind: "role".into(),
                detail: String::new(),
                message: "SET ROLE leads to other tenants' rows".into(),
                evidence: format!(
                    "as {} in the context of tenant A: SET ROLE {name}; {} → {seen} rows of tenant B",
                    scope.app.name,
                    read("'<tenant B>'")
                ),
            });
        }
        Ok(())
    }
}
