//! Applying files to a server that is thrown away: statement by statement, with what they rely on made as it is missed.

use std::collections::BTreeSet;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError};

use super::failure::{failed, plain};
use super::file::SqlFile;
use super::prelude::{self, Prelude};
use crate::Result;
use crate::db::quote::{ident, trusted};
use crate::db::script::{self, Item, Statement};
use crate::db::{self, Session};
use crate::rls::verify::CONNECT_TIMEOUT;

/// What came of it.
#[derive(Debug, Clone)]
pub struct Applied {
    /// How to connect to the database that the files made.
    pub options: PgConnectOptions,
    /// How many statements were run.
    pub statements: usize,
    /// What was made besides, and what was passed over.
    pub notes: Vec<String>,
}

/// Applies files to a server that holds nothing else, as its superuser. Roles and databases that they name without
/// making them are made, and so is what a Supabase project or a platform of this library has before its own files.
/// `progress` hears how many statements of how many are done.
///
/// # Errors
/// [`crate::Error::Script`], naming the file, the line and the statement; [`crate::Error::Database`].
pub async fn apply(
    server: &PgConnectOptions,
    files: &[SqlFile],
    role_prefix: &str,
    progress: &(dyn Fn(usize, usize) + Send + Sync),
) -> Result<Applied> {
    let scripts = parsed(files)?;
    let quiet = server.clone().options([("client_min_messages", "error")]);
    let mut admin = db::connect(quiet.clone(), CONNECT_TIMEOUT).await?;
    let mut notes = Vec::new();
    let preludes =
        prelude::needed(scripts.iter().flat_map(|(_, items)| items), files.iter().any(|file| file.supabase));
    for prelude in &preludes {
        notes.push(prepare(&mut admin, &quiet, *prelude, role_prefix).await?);
    }
    let connection = db::connect(quiet.clone(), CONNECT_TIMEOUT).await?;
    let mut applier = Applier {
        server: quiet,
        admin,
        connection,
        transaction: None,
        database: None,
        made_roles: BTreeSet::new(),
        preludes,
        statements: 0,
        notes,
    };
    let all: usize = scripts.iter().map(|(_, items)| items.len()).sum();
    let mut done = 0;
    for (file, items) in &scripts {
        applier
            .file(file, items, &mut || {
                done += 1;
                progress(done, all);
            })
            .await?;
    }
    if !applier.made_roles.is_empty() {
        let names = applier.made_roles.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        applier.notes.push(format!("made the roles that the files name and do not make: {names}"));
    }
    let options = match &applier.database {
        Some(database) => server.clone().database(database),
        None => server.clone(),
    };
    Ok(Applied { options, statements: applier.statements, notes: applier.notes })
}

/// Makes sure that files can be taken apart, before a server is started for them.
///
/// # Errors
/// [`crate::Error::Script`], naming the file and the line.
pub fn check(files: &[SqlFile]) -> Result<()> {
    parsed(files).map(|_| ())
}

fn parsed(files: &[SqlFile]) -> Result<Vec<(&SqlFile, Vec<Item<'_>>)>> {
    let mut scripts = Vec::new();
    for file in files {
        let items = script::split(&file.text).map_err(|error| file.wrong(error.line, error.what, None))?;
        for item in &items {
            if let Item::Meta { line, command, arguments } = item {
                check_meta(file, *line, command, arguments)?;
            }
        }
        scripts.push((file, items));
    }
    Ok(scripts)
}

/// Refuses a command of psql's that would change what the file makes.
fn check_meta(file: &SqlFile, line: usize, command: &str, arguments: &str) -> Result<()> {
    const HARMLESS: &[&str] = &[
        "restrict",
        "unrestrict",
        "set",
        "unset",
        "echo",
        "qecho",
        "warn",
        "pset",
        "timing",
        "x",
        "a",
        "t",
        "l",
        "encoding",
        "errverbose",
        "conninfo",
        "q",
        "quit",
    ];
    let hint = match command {
        "connect" | "c" if database(arguments).is_some() => return Ok(()),
        "connect" | "c" => "write \\connect DATABASE",
        _ if HARMLESS.contains(&command) || command.starts_with('d') => return Ok(()),
        "i" | "ir" | "include" | "include_relative" => "name the files after --schema, in their order",
        "copy" => "write COPY … FROM stdin, and the rows after it",
        _ => "take it out, or write it as SQL",
    };
    let what = format!("\\{command} {arguments}");
    Err(file.wrong(line, format!("{} is not supported", what.trim_end()), Some(hint)))
}

/// Makes what the files rely on, and says so.
async fn prepare(
    admin: &mut PgConnection,
    server: &PgConnectOptions,
    prelude: Prelude,
    role_prefix: &str,
) -> Result<String> {
    match prelude {
        Prelude::Supabase => {
            db::run_script(admin, include_str!("../../../sql/rls/supabase.sql")).await?;
            Ok("the files are written for Supabase: made its schemas auth, storage and extensions as far as policies \
                need them, and the roles anon, authenticated and service_role with Supabase's default privileges"
                .into())
        }
        Prelude::ControlPlane => {
            let mut session = Session::new(db::connect(server.clone(), CONNECT_TIMEOUT).await?);
            let mut transaction = session.begin().await?;
            db::migrate(&mut transaction, role_prefix).await?;
            transaction.commit().await?;
            Ok("the files use the control plane and do not make it: made it first, as `tenantctl db migrate` does"
                .into())
        }
    }
}

const TAKE_NOTE: &str = "SAVEPOINT tenantctl; LOCK TABLE pg_catalog.pg_class IN ACCESS SHARE MODE;
    ROLLBACK TO SAVEPOINT tenantctl; RELEASE SAVEPOINT tenantctl";

struct Applier {
    server: PgConnectOptions,
    /// Makes what is missing, whoever the script acts as.
    admin: PgConnection,
    connection: PgConnection,
    /// The line where the transaction begins that is under way.
    transaction: Option<usize>,
    /// The database that a script connected to.
    database: Option<String>,
    made_roles: BTreeSet<String>,
    /// What was there before the first file.
    preludes: Vec<Prelude>,
    statements: usize,
    notes: Vec<String>,
}

/// What to do about a statement that failed.
enum Remedy {
    /// Somebody else's error.
    None,
    /// It is done already, or means nothing here.
    Pass(Option<String>),
    /// Run it again, after this.
    After(String),
    /// Run these instead.
    Instead(Vec<String>),
}

impl Applier {
    async fn file(
        &mut self,
        file: &SqlFile,
        items: &[Item<'_>],
        done: &mut (dyn FnMut() + Send),
    ) -> Result<()> {
        let statements = || {
            items.iter().filter_map(|item| match item {
                Item::Sql(statement) => Some(statement),
                Item::Copy { .. } | Item::Meta { .. } => None,
            })
        };
        let whole = file.transaction && !statements().any(|s| is_control(s) || is_of_its_own(s));
        if whole {
            self.command("BEGIN").await?;
            self.transaction = Some(1);
        }
        for item in items {
            match item {
                Item::Sql(statement) => self.statement(file, statement, None).await?,
                Item::Copy { statement, data, data_line } => {
                    self.statement(file, statement, Some((data, *data_line))).await?;
                }
                Item::Meta { command: "q" | "quit", .. } => break,
                Item::Meta { line, command: "connect" | "c", arguments } => {
                    if let Some(database) = database(arguments) {
                        self.connect(file, *line, database).await?;
                    }
                }
                // Only those that change nothing are left.
                Item::Meta { .. } => {}
            }
            done();
        }
        if whole {
            // Constraints that were deferred have their say now.
            self.command("COMMIT").await.map_err(|error| failed(file, None, error))?;
        } else if let Some(line) = self.transaction {
            let what = "the transaction that begins here is not ended";
            return Err(file.wrong(line, what, Some("end it with COMMIT")));
        }
        self.transaction = None;
        // The next file begins as in a session of its own.
        self.command("RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL").await?;
        Ok(())
    }

    async fn command(&mut self, sql: &'static str) -> sqlx::Result<()> {
        sqlx::raw_sql(sql).execute(&mut self.connection).await.map(|_| ())
    }

    async fn run(connection: &mut PgConnection, sql: &str) -> sqlx::Result<()> {
        sqlx::raw_sql(trusted(sql.to_owned())).execute(connection).await.map(|_| ())
    }

    async fn statement(
        &mut self,
        file: &SqlFile,
        statement: &Statement<'_>,
        data: Option<(&str, usize)>,
    ) -> Result<()> {
        let guarded = self.transaction.is_some() && !is_control(statement);
        let mut tried = BTreeSet::new();
        loop {
            if guarded {
                self.command("SAVEPOINT tenantctl").await?;
            }
            let outcome = match data {
                None => Self::run(&mut self.connection, statement.text).await,
                Some((rows, _)) => copy(&mut self.connection, statement.text, rows).await,
            };
            let error = match outcome {
                Ok(()) => {
                    if guarded {
                        self.command("RELEASE SAVEPOINT tenantctl").await?;
                    }
                    self.follow(statement);
                    self.statements += 1;
                    return Ok(());
                }
                Err(error) => error,
            };
            let remedy = self.remedy(statement, &error);
            if guarded && !matches!(remedy, Remedy::None) {
                self.command("ROLLBACK TO SAVEPOINT tenantctl; RELEASE SAVEPOINT tenantctl").await?;
            }
            let fail = |error| failed(file, Some((statement, data.map(|(_, line)| line))), error);
            match remedy {
                Remedy::None => return Err(fail(error)),
                Remedy::Pass(note) => {
                    self.notes.extend(note.filter(|note| !self.notes.contains(note)));
                    return Ok(());
                }
                Remedy::After(sql) => {
                    if !tried.insert(sql.clone()) {
                        return Err(fail(error));
                    }
                    Self::run(&mut self.admin, &sql).await?;
                    if guarded {
                        // A transaction remembers what was not there until it takes a new lock.
                        self.command(TAKE_NOTE).await?;
                    }
                }
                Remedy::Instead(statements) => {
                    for sql in statements {
                        Self::run(&mut self.admin, &sql).await.map_err(fail)?;
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Keeps track of the transaction.
    fn follow(&mut self, statement: &Statement<'_>) {
        let word = statement.words.first().map(String::as_str).unwrap_or_default();
        let says = |other: &str| statement.words.iter().any(|word| word == other);
        match word {
            "begin" if self.transaction.is_none() => self.transaction = Some(statement.line),
            "start" if self.transaction.is_none() => self.transaction = Some(statement.line),
            "commit" | "end" | "abort" | "rollback" if says("to") || (says("chain") && !says("no")) => {}
            "commit" | "end" | "abort" | "rollback" => self.transaction = None,
            "prepare" if statement.begins(&["prepare", "transaction"]) => self.transaction = None,
            _ => {}
        }
    }

    fn remedy(&mut self, statement: &Statement<'_>, error: &sqlx::Error) -> Remedy {
        let Some(error) = error.as_database_error().and_then(|e| e.try_downcast_ref::<PgDatabaseError>())
        else {
            return Remedy::None;
        };
        let message = error.message();
        let named = |before: &str, after: &str| {
            message.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)).map(str::to_owned)
        };
        // A locale of the machine where the dump was made.
        if statement.begins(&["create", "database"]) && message.contains("locale") {
            return statement.words.get(2).map_or(Remedy::None, |word| {
                Remedy::Instead(vec![format!("CREATE DATABASE {}", ident(&plain(word)))])
            });
        }
        match error.code() {
            "42704" | "22023" => {
                if let Some(role) = named("role \"", "\" does not exist") {
                    self.made_roles.insert(role.clone());
                    return Remedy::After(format!("CREATE ROLE {} NOLOGIN", ident(&role)));
                }
                // A newer pg_dump sets what this server has not; a setting of the platform's own has a dot.
                if message.starts_with("unrecognized configuration parameter") && statement.begins(&["set"]) {
                    return Remedy::Pass(Some(format!("passed over {}: {message}", statement.text)));
                }
                Remedy::None
            }
            "3D000" => match named("database \"", "\" does not exist") {
                Some(database) => Remedy::After(format!("CREATE DATABASE {}", ident(&database))),
                None => Remedy::None,
            },
            "42710" => match named("role \"", "\" already exists") {
                Some(role) if role == "postgres" => Remedy::Pass(None),
                // Made because an earlier statement named it: now it gets what its own statement says.
                Some(role) if self.made_roles.remove(&role) || self.gave(&role) => {
                    alter_role(statement, &role)
                }
                _ => Remedy::None,
            },
            // Every database has it, and some dumps make it all the same.
            "42P06" if statement.begins(&["create", "schema", "public"]) => Remedy::Pass(None),
            _ => Remedy::None,
        }
    }

    /// Whether a role is one that was there before the first file.
    fn gave(&self, role: &str) -> bool {
        self.preludes.contains(&Prelude::Supabase) && prelude::SUPABASE_ROLES.contains(&role)
    }

    /// Goes on in another database, as `\\connect` does.
    async fn connect(&mut self, file: &SqlFile, line: usize, database: String) -> Result<()> {
        if !matches!(database.as_str(), "postgres" | "template1") {
            if let Some(other) = self.database.as_ref().filter(|other| **other != database) {
                let what = format!("it connects to {database:?} after {other:?}");
                return Err(file.wrong(line, what, Some("verify one database at a time")));
            }
            self.database = Some(database.clone());
        }
        let query = "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = $1)";
        let found: bool = sqlx::query_scalar(query).bind(&database).fetch_one(&mut self.admin).await?;
        if !found {
            Self::run(&mut self.admin, &format!("CREATE DATABASE {}", ident(&database))).await?;
        }
        self.connection = db::connect(self.server.clone().database(&database), CONNECT_TIMEOUT).await?;
        self.transaction = None;
        Ok(())
    }
}

/// The name of the database in the arguments of `\connect`.
fn database(arguments: &str) -> Option<String> {
    let rest = arguments.strip_prefix("-reuse-previous=on").map_or(arguments, str::trim);
    if let Some(info) = rest.strip_prefix("\"dbname='") {
        let name = info.strip_suffix("'\"")?;
        return Some(name.replace("\\'", "'").replace("\\\\", "\\"));
    }
    let name = if rest.starts_with('"') { rest } else { rest.split_whitespace().next()? };
    let name = if name.starts_with('"') { plain(name) } else { name.to_owned() };
    (!name.is_empty() && name != "-" && !name.contains(['=', ':'])).then_some(name)
}

/// What gives a role that is there already the properties that CREATE ROLE names.
fn alter_role(statement: &Statement<'_>, role: &str) -> Remedy {
    let [create, kind, name] = match &statement.words[..] {
        [create, kind, name, ..] => [create, kind, name],
        _ => return Remedy::None,
    };
    if create != "create" || !matches!(kind.as_str(), "role" | "user" | "group") {
        return Remedy::None;
    }
    // Past the name, as it stands there.
    let lower = statement.text.to_ascii_lowercase();
    let mut at = 0;
    for word in [create, kind, name] {
        match lower[at..].find(&word.to_ascii_lowercase()) {
            Some(before) => at += before + word.len(),
            None => return Remedy::None,
        }
    }
    let options = &statement.text[at..];
    let role = ident(role);
    let login = if kind == "user" { " LOGIN" } else { "" };
    Remedy::Instead(vec![format!("ALTER ROLE {role}{login}"), format!("ALTER ROLE {role} {options}")])
}

/// Whether a statement is about the transaction itself.
fn is_control(statement: &Statement<'_>) -> bool {
    const WORDS: &[&str] = &["begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release"];
    statement.words.first().is_some_and(|word| WORDS.contains(&word.as_str()))
        || statement.begins(&["set", "transaction"])
        || statement.begins(&["prepare", "transaction"])
}

/// Whether a statement has to be a transaction of its own.
fn is_of_its_own(statement: &Statement<'_>) -> bool {
    statement.begins(&["vacuum"])
        || statement.begins(&["create", "database"])
        || statement.begins(&["drop", "database"])
        || statement.begins(&["alter", "system"])
        || statement.words.iter().any(|word| word == "concurrently")
}

async fn copy(connection: &mut PgConnection, statement: &str, rows: &str) -> sqlx::Result<()> {
    let mut copy = connection.copy_in_raw(statement).await?;
    copy.send(rows.as_bytes()).await?;
    copy.finish().await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_to_connect_to() {
        for (arguments, name) in [
            ("app", Some("app")),
            ("\"My App\"", Some("My App")),
            ("app boss", Some("app")),
            ("-reuse-previous=on \"dbname='it\\'s'\"", Some("it's")),
            ("", None),
            ("- boss", None),
            ("postgres://h/db", None),
            ("host=h dbname=x", None),
        ] {
            assert_eq!(database(arguments).as_deref(), name, "{arguments}");
        }
    }
}
