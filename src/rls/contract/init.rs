//! Guesses an isolation contract from a database, and says why.
//!
//! Policies are the best witness: a column that they compare with a setting, with a claim of a token, or with what a table
//! says of the user, holds the tenant. What they do not say is guessed from names, and asked.

mod context;
mod facts;
mod members;
mod reading;
mod roles;
mod syntax;
mod tenants;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sqlx::Executor;
use sqlx::postgres::PgConnection;
use sqlx::postgres::types::Oid;

use self::facts::{Facts, Table};
use self::roles::Roles;
use self::tenants::Tenants;
use super::{Context, Contract, Tenants as Keys};
use crate::{Error, Result};

/// What is known already and need not be guessed.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The tenant column.
    pub tenant_column: Option<String>,
    /// The roles that the application runs as.
    pub app_roles: Vec<String>,
}

/// A contract as the database suggests it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Guess {
    /// What was guessed.
    pub contract: Contract,
    /// Why each key has its value.
    pub reasons: Vec<Remark>,
    /// What the database does not say.
    pub questions: Vec<Remark>,
}

/// Something to say about a key of a contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// The key, as `app_roles` or `context.set`.
    pub key: &'static str,
    /// The reason, or the question.
    pub text: String,
}

impl Guess {
    /// The contract as a file, with the reasons and questions as comments.
    ///
    /// # Errors
    /// [`Error::Configuration`] where the contract would not be read as it was meant.
    pub fn to_yaml(&self) -> Result<String> {
        let text = yaml::write(self);
        if Contract::parse(&text, "the guess")? == self.contract {
            return Ok(text);
        }
        Err(Error::Configuration { what: "the guess would be read otherwise than meant".into(), hint: None })
    }
}

/// Reasons and questions as they come up.
#[derive(Default)]
struct Draft {
    reasons: Vec<Remark>,
    questions: Vec<Remark>,
}

impl Draft {
    fn because(&mut self, key: &'static str, text: String) {
        self.reasons.push(Remark { key, text });
    }

    fn ask(&mut self, key: &'static str, text: String) {
        self.questions.push(Remark { key, text });
    }
}

/// Guesses the contract of the platform in this database. The connection is inside its caller's transaction; nothing is
/// changed but its search path.
///
/// # Errors
/// [`Error::Invalid`] where there is no tenant column or no role to guess, [`Error::NotFound`] where what is known already
/// is not there.
pub async fn guess(connection: &mut PgConnection, known: &Known) -> Result<Guess> {
    // Expressions then name everything with its schema.
    connection.execute("SET LOCAL search_path = pg_catalog, pg_temp").await?;
    let facts = Facts::read(connection).await?;
    check(connection, &facts, known).await?;
    let readings: Vec<(Oid, reading::Reading)> = facts
        .policies
        .iter()
        .filter_map(|policy| {
            let table = facts.table(policy.relation)?;
            Some((table.oid, reading::read(&facts, table, policy)))
        })
        .collect();
    let mut draft = Draft::default();
    let mut tenants = tenants::find(&facts, &readings, known.tenant_column.as_deref(), &mut draft);
    if tenants.of.is_empty() {
        return Err(Error::Invalid {
            field: "tenant column",
            value: String::new(),
            reason: "no policy compares a column with a setting, a claim or a table of members, and no table has a \
                     column of a usual name, as tenant_id"
                .into(),
            hint: Some("name the column that holds the tenant with --tenant-column".into()),
        });
    }
    let roles = roles::find(connection, &facts, &tenants, &known.app_roles, &mut draft).await?;
    adopt_root(&facts, &mut tenants, &roles, &mut draft);
    let tables = tables(&facts, &tenants, &mut draft);
    let shared_tables = shared(&facts, &tenants, &roles, &mut draft);
    let schemas = schemas(&facts, &tenants, &roles);
    draft.because(
        "schemas",
        "Every schema with a table that is a tenant's or that the application reaches.".into(),
    );
    let set = context::settings(&readings, &tenants, &mut draft);
    let prepare = members::prepare(&facts, &readings, &tenants, &mut draft);
    if prepare.is_empty() && !set.iter().any(|text| text.contains("{tenant}")) {
        draft.ask("context.prepare", "Which rows make a user a member of a tenant?".into());
    }
    draft.because("context.tenants", "Two tenants are made up, and rolled back.".into());
    let contract = Contract {
        tenant_column: tenants.column.iter().cloned().collect(),
        tables,
        schemas,
        app_roles: roles.app,
        admin_roles: roles.admin,
        context: Context { set, prepare, tenants: Keys::Auto },
        shared_tables,
        ignore: Vec::new(),
    };
    Ok(Guess { contract, reasons: draft.reasons, questions: draft.questions })
}

/// Makes sure that what is known already is there.
async fn check(connection: &mut PgConnection, facts: &Facts, known: &Known) -> Result<()> {
    let missing = |kind, name: &str| Error::NotFound { kind, name: name.into(), suggestion: None };
    if let Some(column) = &known.tenant_column
        && !facts.tables.iter().any(|table| table.column(column).is_some())
    {
        return Err(missing("column", column));
    }
    for role in &known.app_roles {
        let found: Option<Oid> = sqlx::query_scalar("SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1")
            .bind(role)
            .fetch_optional(&mut *connection)
            .await?;
        found.ok_or_else(|| missing("role", role))?;
    }
    Ok(())
}

/// Takes the table of the tenants for a tenant table, where the application reaches it: who else is a customer is nobody's
/// business.
fn adopt_root(facts: &Facts, tenants: &mut Tenants, roles: &Roles, draft: &mut Draft) {
    let Some((root, key)) = tenants.root_key(facts).map(|(root, key)| (root, key.to_owned())) else { return };
    let (reads, writes) = roles.reaches(root.oid);
    if (reads || writes) && !tenants.of.contains_key(&root.oid.0) && !tenants.users {
        draft.because(
            "tables",
            format!("The tenant columns reference {}, and the application reaches it.", root.quoted),
        );
        tenants.of.insert(root.oid.0, key);
    }
}

/// Tables whose tenant column is called otherwise.
fn tables(facts: &Facts, tenants: &Tenants, draft: &mut Draft) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let told = draft.reasons.iter().any(|reason| reason.key == "tables");
    for table in &facts.tables {
        let Some(column) = tenants.of.get(&table.oid.0) else { continue };
        if tenants.column.as_ref() != Some(column) {
            if !told || tenants.root != Some(table.oid) {
                draft.because("tables", format!("The policies of {} narrow {column}.", table.quoted));
            }
            found.insert(table.quoted.clone(), column.clone());
        }
    }
    found
}

/// Tables without a tenant that the application can only read.
fn shared(facts: &Facts, tenants: &Tenants, roles: &Roles, draft: &mut Draft) -> Vec<String> {
    let mut found = Vec::new();
    let hangs = |table: &Table| {
        table
            .columns
            .iter()
            .any(|column| column.target.is_some_and(|target| tenants.of.contains_key(&target.0)))
    };
    for table in facts.tables.iter().filter(|table| !tenants.of.contains_key(&table.oid.0)) {
        let child = table.parent.is_some_and(|parent| tenants.of.contains_key(&parent.0));
        match roles.reaches(table.oid) {
            _ if child => {}
            (false, false) => {}
            (true, false) if !table.row_security && !hangs(table) => {
                draft.ask("shared_tables", format!("Is {} the same for all tenants?", table.quoted));
                found.push(table.quoted.clone());
            }
            (_, writes) => {
                let why = match tenants.per_user.get(&table.oid.0) {
                    Some(column) => format!("its policies narrow {column} to the user"),
                    None if hangs(table) => "it hangs on a tenant table".into(),
                    None if writes => "the application writes to it".into(),
                    None => "it has policies of its own".into(),
                };
                draft.ask(
                    "tables",
                    format!("Whose rows are in {}? It has no tenant column, and {why}.", table.quoted),
                );
            }
        }
    }
    if !found.is_empty() {
        let text = "The application can only read them, and they have no tenant column.";
        draft.because("shared_tables", text.into());
    }
    found
}

fn schemas(facts: &Facts, tenants: &Tenants, roles: &Roles) -> Vec<String> {
    let ours =
        |table: &&Table| tenants.of.contains_key(&table.oid.0) || roles.reaches(table.oid) != (false, false);
    let found: BTreeSet<&str> = facts.tables.iter().filter(ours).map(|table| table.schema.as_str()).collect();
    found.into_iter().map(str::to_owned).collect()
}
