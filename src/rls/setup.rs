//! Puts the platform's tables under isolation: policies, grants, keys and the registry, as desired state.
//!
//! What a table lacks is decided in the database (`tenancy.protection`), so that a platform's own migrations apply the
//! very same rules with `SELECT tenancy.protect('public.events')`. Here the tables are found and the outcome is told.

use std::collections::HashSet;

use sqlx::postgres::types::Oid;
use sqlx::{Connection, PgConnection};

use super::harden;
use super::platform::{TableRow, explain, find};
use super::protection::Step;
use super::unfinished;
use crate::context::Mode;
use crate::{Error, Outcome, Result, audit};

pub use super::protection::{Protection, TableKind, TableProtection};

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
    /// What becomes of tables that are created from now on; as before where `None`.
    pub on_new_table: Option<NewTables>,
    /// Also what isolation stands on besides policies: references and unique keys that carry the tenant, rows that never change hands,
    /// views that read as their caller, nothing for PUBLIC. Views and the database only where no table is named.
    pub harden: bool,
    /// Whether a tenant in context has to be signed; as before where `None`.
    pub context: Option<Mode>,
}

/// What an event trigger makes of a new table with a tenant column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewTables {
    /// It is put under isolation as it is created.
    Protect,
    /// It is refused, unless its transaction says `SET LOCAL tenancy.accept_new_tables = on`.
    Refuse,
    /// Nothing: there is no event trigger.
    Off,
}

impl NewTables {
    /// The name of the mode in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Protect => "protect",
            Self::Refuse => "refuse",
            Self::Off => "off",
        }
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            enabled: true,
            admin_bypass: false,
            tables: Vec::new(),
            shared: Vec::new(),
            tenant_columns: vec!["tenant_id".into()],
            on_new_table: None,
            harden: false,
            context: None,
        }
    }
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
    tell_unfinished(&mut *tx, &targets, &mut tables).await?;
    let mut database = TableProtection::new("database".into(), TableKind::Database);
    if options.harden {
        // Once all are registered: a reference is between two of them, and its key comes before it.
        for (target, table) in targets.iter().zip(&mut tables).filter(|(target, _)| target.is_tenant()) {
            table.extend(harden::unique_keys(&mut *tx, target.relation, &target.name).await?);
        }
        for (target, table) in targets.iter().zip(&mut tables).filter(|(target, _)| target.is_tenant()) {
            table.extend(harden::relation(&mut *tx, target.relation, &target.name).await?);
        }
        if options.tables.is_empty() {
            tables.extend(harden::views(&mut *tx).await?);
            database.extend(harden::database(&mut *tx).await?);
        }
    } else {
        propose(&mut *tx, &targets, &mut tables).await?;
    }
    if let Some(mode) = options.on_new_table {
        let steps = sqlx::query_file_as!(Step, "sql/rls/guard.sql", mode.as_str(), &options.tenant_columns)
            .fetch_all(&mut *tx)
            .await
            .map_err(|error| explain(error, "database"))?;
        database.extend(steps);
    }
    if let Some(mode) = options.context {
        let steps =
            sqlx::query_file_as!(Step, "sql/context/change.sql", mode.as_str()).fetch_all(&mut *tx).await?;
        database.extend(steps);
    }
    tables.extend(database.told());
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

/// What [`setup`] would do, without doing any of it; [`Protection::script`] makes SQL of it. Takes no locks on tables,
/// unless it is to harden: what that takes shows only once isolation stands, so it is all done and rolled back.
pub async fn plan(connection: &mut PgConnection, options: &Setup) -> Result<Protection> {
    options.check_enabled()?;
    if options.harden {
        let mut attempt = connection.begin().await?;
        let done = setup(&mut attempt, options).await?;
        attempt.rollback().await?;
        return Ok(done);
    }
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
    tell_unfinished(&mut *connection, &targets, &mut tables).await?;
    propose(&mut *connection, &targets, &mut tables).await?;
    let mut database = TableProtection::new("database".into(), TableKind::Database);
    if let Some(mode) = options.on_new_table {
        let steps =
            sqlx::query_file_as!(Step, "sql/rls/guard_plan.sql", mode.as_str(), &options.tenant_columns)
                .fetch_all(&mut *connection)
                .await
                .map_err(|error| explain(error, "database"))?;
        database.extend(steps);
    }
    if let Some(mode) = options.context {
        let steps = sqlx::query_file_as!(Step, "sql/context/plan.sql", mode.as_str())
            .fetch_all(&mut *connection)
            .await?;
        database.extend(steps);
    }
    tables.extend(database.told());
    Ok(Protection { tables, notes })
}

/// Notes on what only an online setup completes.
async fn tell_unfinished(
    connection: &mut PgConnection,
    targets: &[Target],
    tables: &mut [TableProtection],
) -> Result<()> {
    let relations: Vec<Oid> = targets.iter().map(|target| target.relation).collect();
    for (relation, note) in unfinished::notes(connection, &relations).await? {
        for (_, table) in targets.iter().zip(&mut *tables).filter(|(target, _)| target.relation == relation) {
            table.notes.push(note.clone());
        }
    }
    Ok(())
}

/// Notes on what hardening would mend of the tables' references.
pub(super) async fn propose(
    connection: &mut PgConnection,
    targets: &[Target],
    tables: &mut [TableProtection],
) -> Result<()> {
    let (relations, columns): (Vec<Oid>, Vec<String>) = targets
        .iter()
        .filter(|target| target.is_tenant())
        .filter_map(|target| Some((target.relation, target.tenant_column.clone()?)))
        .unzip();
    for (relation, note) in harden::proposals(connection, &relations, &columns).await? {
        // The reference may be of a registered table that nobody asked about.
        let named = targets.iter().position(|target| target.relation == relation);
        if let Some(table) = named.and_then(|at| tables.get_mut(at)) {
            table.notes.push(note);
        }
    }
    Ok(())
}

impl Setup {
    pub(super) fn check_enabled(&self) -> Result<()> {
        if self.enabled {
            return Ok(());
        }
        Err(Error::refused(
            "tenant isolation is switched off by ENABLE_TENANT_ISOLATION",
            "set ENABLE_TENANT_ISOLATION=true; what stands already was left as it is",
        ))
    }
}

/// A table to bring to its desired state.
pub(super) struct Target {
    pub(super) relation: Oid,
    pub(super) name: String,
    pub(super) kind: TableKind,
    pub(super) tenant_column: Option<String>,
    registered: bool,
}

impl Target {
    /// The registry knows two kinds: partitions and children are tenants' tables like their parents.
    pub(super) fn declared_kind(&self) -> &'static str {
        if self.is_tenant() { "tenant" } else { "shared" }
    }

    pub(super) fn is_tenant(&self) -> bool {
        matches!(self.kind, TableKind::Tenant | TableKind::Partition | TableKind::Child)
    }

    pub(super) fn outcome(&self, steps: Vec<Step>) -> TableProtection {
        let outcome = match (self.registered, steps.iter().any(|step| step.action != "note")) {
            (_, false) => Outcome::Unchanged,
            (true, true) => Outcome::Updated,
            (false, true) => Outcome::Created,
        };
        let mut table = TableProtection::new(self.name.clone(), self.kind);
        table.outcome = outcome;
        table.extend(steps);
        table
    }
}

/// The tables that the options mean, parents first, and notes on those that nobody classified.
pub(super) async fn targets(
    connection: &mut PgConnection,
    options: &Setup,
) -> Result<(Vec<Target>, Vec<String>)> {
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
