//! Puts the platform's tables under isolation: policies, grants, keys and the registry, as desired state.
//!
//! What a table lacks is decided in the database (`tenancy.protection`), so that a platform's own migrations apply the
//! very same rules with `SELECT tenancy.protect('public.events')`. Here the tables are found and the outcome is told.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde::Serialize;
use sqlx::PgConnection;
use sqlx::postgres::types::Oid;

use crate::{Error, Outcome, Result, audit};

/// What [`setup`] is to do.
#[derive(Debug, Clone)]
pub struct Setup {
    /// `ENABLE_TENANT_ISOLATION`: where it is off, nothing is set up and nothing that stands is loosened.
    pub enabled: bool,
    /// `SYSTEM_ADMIN_BYPASS`: whether the admin role has a policy that lets it cross tenants.
    pub admin_bypass: bool,
    /// The tables to protect, as a person types them; all that have a tenant column where empty.
    pub tables: Vec<String>,
    /// Tables to declare as shared reference data.
    pub shared: Vec<String>,
    /// Names of the tenant column, the first that a table has counts. A registered column goes before them.
    pub tenant_columns: Vec<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            enabled: true,
            admin_bypass: false,
            tables: Vec::new(),
            shared: Vec::new(),
            tenant_columns: vec!["tenant_id".into()],
        }
    }
}

/// What [`setup`] did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Protection {
    /// Each table that was looked at, parents before their partitions.
    pub tables: Vec<TableProtection>,
    /// What concerns no single table of these, such as tables that are neither a tenant's nor declared as shared.
    pub notes: Vec<String>,
}

/// What was done to one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableProtection {
    /// Its name, with the schema, quoted as SQL.
    pub table: String,
    /// What it is.
    pub kind: TableKind,
    /// Whether it is new to isolation.
    pub outcome: Outcome,
    /// What was done, a word for each sort of statement: `owner`, `policy`, `grant`, `index`, …
    pub actions: Vec<String>,
    /// The statements that were carried out, in order.
    pub statements: Vec<String>,
    /// What stood in the way of more.
    pub notes: Vec<String>,
}

/// What a table is to isolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TableKind {
    /// It has a tenant column.
    Tenant,
    /// A partition of such a table.
    Partition,
    /// An inheritance child of such a table.
    Child,
    /// Reference data that every tenant reads.
    Shared,
}

impl TableKind {
    /// The name of the kind, as programs see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Partition => "partition",
            Self::Child => "child",
            Self::Shared => "shared",
        }
    }
}

impl Protection {
    /// Whether anything was missing.
    pub fn changed(&self) -> bool {
        self.tables.iter().any(|table| !table.statements.is_empty())
    }

    /// The statements as one script for psql. What several tables need, such as a right on their schema, comes once.
    pub fn script(&self) -> String {
        let mut script = String::from("BEGIN;\nSET LOCAL search_path = pg_catalog, pg_temp;\n");
        let mut written = HashSet::new();
        for note in &self.notes {
            comment(&mut script, &format!("note: {note}"));
        }
        for table in
            self.tables.iter().filter(|table| !table.statements.is_empty() || !table.notes.is_empty())
        {
            script.push('\n');
            comment(&mut script, &table.table);
            for note in &table.notes {
                comment(&mut script, &format!("note: {note}"));
            }
            for statement in table.statements.iter().filter(|statement| written.insert(statement.as_str())) {
                // Writing to a String cannot fail.
                let _ = writeln!(script, "{statement};");
            }
        }
        script.push_str("\nCOMMIT;\n");
        script
    }
}

/// A table's name may hold a line break, which would end the comment and begin a statement.
fn comment(script: &mut String, text: &str) {
    let line = text.replace(|c: char| c.is_control(), " ");
    let _ = writeln!(script, "-- {line}");
}

/// Brings the platform's tables under isolation, in the caller's transaction and as the connecting role: changing a
/// table takes its owner or a superuser. Roll the transaction back for a dry run. Two setups wait for each other.
pub async fn setup(tx: &mut PgConnection, options: &Setup) -> Result<Protection> {
    setup_observed(tx, options, |_, _, _| ()).await
}

/// [`setup`], telling before each table how many are done, of how many, and which comes next.
pub async fn setup_observed(
    tx: &mut PgConnection,
    options: &Setup,
    mut observe: impl FnMut(usize, usize, &str) + Send,
) -> Result<Protection> {
    options.check_enabled()?;
    sqlx::query_file_scalar!("sql/rls/lock.sql").fetch_one(&mut *tx).await?;
    sqlx::query_file_scalar!("sql/rls/forget_dropped.sql").fetch_one(&mut *tx).await?;
    let (targets, notes) = targets(&mut *tx, options).await?;
    let mut tables = Vec::with_capacity(targets.len());
    for (done, target) in targets.iter().enumerate() {
        observe(done, targets.len(), &target.name);
        let steps = sqlx::query_file_as!(
            Step,
            "sql/rls/establish.sql",
            target.relation,
            target.declared_kind(),
            target.tenant_column,
            options.admin_bypass
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(|error| explain(error, &target.name))?;
        tables.push(target.outcome(steps));
    }
    let changed: Vec<&str> = tables
        .iter()
        .filter(|table| !table.statements.is_empty())
        .map(|table| table.table.as_str())
        .collect();
    if !changed.is_empty() {
        audit::record(tx, "rls.setup", None, serde_json::json!({ "tables": changed })).await?;
    }
    Ok(Protection { tables, notes })
}

/// What [`setup`] would do, without doing any of it; [`Protection::script`] makes SQL of it. Takes no locks on tables.
pub async fn plan(connection: &mut PgConnection, options: &Setup) -> Result<Protection> {
    options.check_enabled()?;
    let (targets, notes) = targets(&mut *connection, options).await?;
    let mut tables = Vec::with_capacity(targets.len());
    for target in &targets {
        let steps = sqlx::query_file_as!(
            Step,
            "sql/rls/plan.sql",
            target.relation,
            target.declared_kind(),
            target.tenant_column,
            options.admin_bypass
        )
        .fetch_all(&mut *connection)
        .await
        .map_err(|error| explain(error, &target.name))?;
        tables.push(target.outcome(steps));
    }
    Ok(Protection { tables, notes })
}

impl Setup {
    fn check_enabled(&self) -> Result<()> {
        if self.enabled {
            return Ok(());
        }
        Err(Error::refused(
            "tenant isolation is switched off by ENABLE_TENANT_ISOLATION",
            "set ENABLE_TENANT_ISOLATION=true; what stands already was left as it is",
        ))
    }
}

/// A statement or a note of the database.
struct Step {
    action: String,
    statement: Option<String>,
    note: Option<String>,
}

/// A table of the platform as the database lists it.
struct TableRow {
    relation: Oid,
    name: String,
    schema_name: String,
    table_name: String,
    kind: String,
    tenant_column: Option<String>,
    protected: bool,
}

impl TableRow {
    /// What the table is; `None` where nobody said and it has no tenant column.
    fn kind(&self) -> Result<Option<TableKind>> {
        Ok(Some(match self.kind.as_str() {
            "tenant" => TableKind::Tenant,
            "partition" => TableKind::Partition,
            "child" => TableKind::Child,
            "shared" => TableKind::Shared,
            "unclassified" => return Ok(None),
            other => {
                return Err(Error::BadData {
                    table: "platform_tables()",
                    column: "kind",
                    row: self.name.clone(),
                    value: other.to_owned(),
                    reason: "it is no kind of table that this program knows".into(),
                });
            }
        }))
    }
}

/// A table to bring to its desired state.
struct Target {
    relation: Oid,
    name: String,
    kind: TableKind,
    tenant_column: Option<String>,
    registered: bool,
}

impl Target {
    /// The registry knows two kinds: partitions and children are tenants' tables like their parents.
    fn declared_kind(&self) -> &'static str {
        match self.kind {
            TableKind::Shared => "shared",
            TableKind::Tenant | TableKind::Partition | TableKind::Child => "tenant",
        }
    }

    fn outcome(&self, steps: Vec<Step>) -> TableProtection {
        let outcome = match (self.registered, steps.iter().any(|step| step.action != "note")) {
            (_, false) => Outcome::Unchanged,
            (true, true) => Outcome::Updated,
            (false, true) => Outcome::Created,
        };
        let mut table = TableProtection {
            table: self.name.clone(),
            kind: self.kind,
            outcome,
            actions: Vec::new(),
            statements: Vec::new(),
            notes: Vec::new(),
        };
        for step in steps {
            if step.action != "note" && !table.actions.contains(&step.action) {
                table.actions.push(step.action);
            }
            table.statements.extend(step.statement);
            table.notes.extend(step.note);
        }
        table
    }
}

/// The tables that the options mean, parents first, and notes on those that nobody classified.
async fn targets(connection: &mut PgConnection, options: &Setup) -> Result<(Vec<Target>, Vec<String>)> {
    let known = sqlx::query_file_as!(TableRow, "sql/rls/tables.sql", &options.tenant_columns)
        .fetch_all(&mut *connection)
        .await?;
    let mut targets = Vec::new();
    // What isolation cannot apply to (a view, a table of the control plane) goes to the database all the same: it
    // says why.
    let mut keep_stranger = |relation: Oid, name: &str, kind: TableKind| {
        if known.iter().all(|row| row.relation != relation) {
            targets.push(Target {
                relation,
                name: name.to_owned(),
                kind,
                tenant_column: None,
                registered: false,
            });
        }
    };
    let mut shared = HashSet::new();
    for name in &options.shared {
        let relation = find(&mut *connection, &known, name).await?;
        keep_stranger(relation, name, TableKind::Shared);
        shared.insert(relation);
    }
    let mut wanted = HashSet::new();
    for name in &options.tables {
        let relation = find(&mut *connection, &known, name).await?;
        keep_stranger(relation, name, TableKind::Tenant);
        wanted.extend(
            sqlx::query_file_scalar!("sql/rls/family.sql", relation).fetch_all(&mut *connection).await?,
        );
    }
    let everything = options.tables.is_empty();
    let mut notes = Vec::new();
    for row in &known {
        let kind = match (shared.contains(&row.relation), wanted.contains(&row.relation), row.kind()?) {
            (true, _, _) => TableKind::Shared,
            (false, true, Some(kind)) => kind,
            (false, true, None) => TableKind::Tenant,
            (false, false, Some(kind)) if everything => kind,
            (false, false, None) if everything => {
                notes.push(unclassified(row));
                continue;
            }
            (false, false, _) => continue,
        };
        let tenant_column = match kind {
            TableKind::Shared => None,
            _ => row.tenant_column.clone().or_else(|| options.tenant_columns.first().cloned()),
        };
        targets.push(Target {
            relation: row.relation,
            name: row.name.clone(),
            kind,
            tenant_column,
            registered: row.protected,
        });
    }
    Ok((targets, notes))
}

fn unclassified(row: &TableRow) -> String {
    if row.protected {
        return format!("{} is registered as a tenant's table, but its tenant column is gone", row.name);
    }
    format!(
        "{} has no tenant column: where it is reference data that all tenants read, SELECT tenancy.share({})",
        row.name,
        crate::db::quote::literal(&row.name)
    )
}

/// The table that a name means: as SQL reads it, or else letter for letter, so that nobody has to quote `we"ird é`.
async fn find(connection: &mut PgConnection, known: &[TableRow], name: &str) -> Result<Oid> {
    if let Some(relation) =
        sqlx::query_file_scalar!("sql/rls/find_table.sql", name).fetch_one(connection).await?
    {
        return Ok(relation);
    }
    let plain = |row: &TableRow| format!("{}.{}", row.schema_name, row.table_name);
    let mut same = known.iter().filter(|row| row.table_name == name || plain(row) == name);
    match (same.next(), same.next()) {
        (Some(row), None) => Ok(row.relation),
        (Some(first), Some(second)) => Err(Error::Invalid {
            field: "table",
            value: name.to_owned(),
            reason: format!("it can mean {} or {}", first.name, second.name),
            hint: Some("name it with its schema".into()),
        }),
        (None, _) => {
            Err(Error::NotFound { kind: "table", name: name.to_owned(), suggestion: suggest(known, name) })
        }
    }
}

fn suggest(known: &[TableRow], name: &str) -> Option<String> {
    let name = name.to_lowercase();
    known
        .iter()
        .flat_map(|row| [row.table_name.clone(), format!("{}.{}", row.schema_name, row.table_name)])
        .map(|candidate| (strsim::jaro_winkler(&candidate.to_lowercase(), &name), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// What the database says about a table that isolation cannot apply to, as an error of its own.
fn explain(error: sqlx::Error, table: &str) -> Error {
    let Some(said) =
        error.as_database_error().and_then(|e| e.try_downcast_ref::<sqlx::postgres::PgDatabaseError>())
    else {
        return error.into();
    };
    let (what, hint) = (said.message().to_owned(), said.hint().map(str::to_owned));
    match said.code() {
        "42703" | "42804" | "42809" | "42P01" => {
            Error::Invalid { field: "table", value: table.to_owned(), reason: what, hint }
        }
        "TN010" => Error::Refused { what, hint },
        _ => error.into(),
    }
}
