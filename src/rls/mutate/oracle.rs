//! What really gets through: the statements of an intruder, one after the other, and a look at the rows afterwards.
//!
//! It knows nothing of the checks, and shares no statement with the probes: it logs in as the application role, names
//! tenant A, and reaches for tenant B's row.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::postgres::PgConnection;
use sqlx::{Executor, Row};

use crate::Result;
use crate::db::quote::{ident, literal, trusted};
use crate::rls::mutate::weaken::{CONTEXT, KEYS, Opening};
use crate::rls::probe::Ground;

/// What got through: what it was, and the statement.
pub(super) type Crossings = BTreeMap<String, String>;

/// A context to stand in.
struct Stance {
    words: String,
    settings: BTreeMap<String, String>,
    /// Whether no tenant is served, so that A's row is nobody's business either.
    stranger: bool,
}

/// A role to act as: the application role, or one that it can become.
struct Actor {
    name: String,
    inserts: BTreeSet<i16>,
    updates: BTreeSet<i16>,
}

#[derive(sqlx::FromRow)]
struct Rights {
    attnum: i16,
    inserts: bool,
    updates: bool,
}

/// The oracle in one transaction.
pub(super) struct Oracle<'a> {
    connection: &'a mut PgConnection,
    ground: &'a Ground,
    app: &'a str,
    crossings: Crossings,
}

impl<'a> Oracle<'a> {
    pub(super) fn new(connection: &'a mut PgConnection, ground: &'a Ground, app: &'a str) -> Self {
        Self { connection, ground, app, crossings: Crossings::new() }
    }

    /// Everything that gets through.
    pub(super) async fn ask(mut self, opening: &Opening) -> Result<Crossings> {
        let members: Vec<String> = sqlx::query_scalar(include_str!("../../../sql/rls/mutate/members.sql"))
            .bind(self.app)
            .fetch_all(&mut *self.connection)
            .await?;
        let mut actors = Vec::new();
        for name in std::iter::once(self.app.to_owned()).chain(members) {
            let rights: Vec<Rights> = sqlx::query_as(include_str!("../../../sql/rls/mutate/columns.sql"))
                .bind(self.ground.table.oid)
                .bind(&name)
                .fetch_all(&mut *self.connection)
                .await?;
            let of = |which: fn(&Rights) -> bool| {
                rights.iter().filter(|right| which(right)).map(|right| right.attnum).collect()
            };
            actors.push(Actor {
                name,
                inserts: of(|right| right.inserts),
                updates: of(|right| right.updates),
            });
        }
        let stances = self.stances(opening);
        for stance in &stances {
            for actor in &actors {
                self.reads(stance, actor, opening).await?;
                self.writes(stance, actor).await?;
            }
        }
        for actor in &actors {
            self.takes_over(actor).await?;
        }
        if let Opening::Script(script) = opening {
            self.scripted(script).await?;
        }
        Ok(self.crossings)
    }

    /// What a script reaches, by itself.
    pub(super) async fn ask_script(mut self, script: &str) -> Result<Crossings> {
        self.scripted(script).await?;
        Ok(self.crossings)
    }

    async fn scripted(&mut self, script: &str) -> Result<()> {
        let actor = Actor { name: self.app.to_owned(), inserts: BTreeSet::new(), updates: BTreeSet::new() };
        let stance = Stance {
            words: "in the context of tenant A".into(),
            settings: self.ground.context(0),
            stranger: false,
        };
        let mut script = script.to_owned();
        for (name, key) in KEYS.iter().zip(&self.ground.keys) {
            script = script.replace(name, &literal(key));
        }
        let other = self.ground.context(1);
        script = script
            .replace(CONTEXT, &literal(other.get(self.ground.acting.setting()).map_or("", String::as_str)));
        if self.attempt(None, &stance, &actor, &script, None).await?.is_some_and(|count| count != "0") {
            self.note("several statements", &stance, &actor, &script);
        }
        Ok(())
    }

    /// The one without a context comes first: a setting that was ever set does not read as unset again.
    fn stances(&self, opening: &Opening) -> Vec<Stance> {
        let stance = |words: &str, settings, stranger| Stance { words: words.into(), settings, stranger };
        let mut all = Vec::new();
        if self.ground.unset {
            all.push(stance("without a context", BTreeMap::new(), true));
        }
        all.push(stance("in an empty context", self.ground.acting.blank(), true));
        all.push(stance("in the context of a tenant that does not exist", self.ground.context(2), true));
        all.push(stance("in the context of tenant A", self.ground.context(0), false));
        if let Opening::Setting(name, value) = opening {
            let opened = |base: &BTreeMap<String, String>| {
                let mut settings = base.clone();
                settings.insert((*name).into(), (*value).into());
                settings
            };
            let spoofed: Vec<Stance> = all
                .iter()
                .filter(|stance| !stance.settings.is_empty())
                .map(|base| Stance {
                    words: format!("{} with {name} = {value}", base.words),
                    settings: opened(&base.settings),
                    stranger: base.stranger,
                })
                .collect();
            all.extend(spoofed);
        }
        all
    }

    fn tenant(&self) -> String {
        ident(&self.ground.column)
    }

    /// The condition on rows that nobody may reach in that stance.
    fn forbidden(&self, stranger: bool) -> String {
        let keys = &self.ground.keys;
        let whose = if stranger { &keys[..2] } else { &keys[1..2] };
        let keys: Vec<String> = whose.iter().map(|key| literal(key)).collect();
        format!("{} IN ({})", self.tenant(), keys.join(", "))
    }

    async fn reads(&mut self, stance: &Stance, actor: &Actor, opening: &Opening) -> Result<()> {
        let table = self.ground.table.name.clone();
        let mut preparation = None;
        let mut condition = self.forbidden(stance.stranger);
        if let Opening::Row { assignment, condition: mark } = opening {
            let b = literal(&self.ground.keys[1]);
            preparation = Some(format!("UPDATE {table} SET {assignment} WHERE {} = {b}", self.tenant()));
            condition = mark.clone().unwrap_or(condition);
        }
        let mut sources = vec![table];
        if let Opening::Relation(relation) = opening {
            sources.push(relation.clone());
        }
        for source in sources {
            let statement = format!("SELECT count(*) FROM {source} AS t WHERE t.{condition}");
            let found = self.attempt(preparation.as_deref(), stance, actor, &statement, None).await?;
            if found.is_some_and(|count| count != "0") {
                self.note(&format!("SELECT from {source}"), stance, actor, &statement);
            }
        }
        Ok(())
    }

    async fn writes(&mut self, stance: &Stance, actor: &Actor) -> Result<()> {
        let ground = self.ground;
        let table = &ground.table;
        let (name, tenant) = (&table.name, self.tenant());
        let [a, b] = [literal(&ground.keys[0]), literal(&ground.keys[1])];
        let mut groups: Vec<(&str, Option<String>, Vec<String>)> = Vec::new();
        let (columns, values): (Vec<_>, Vec<_>) = table
            .columns
            .iter()
            .zip(ground.spares[1].as_ref().unwrap_or(&ground.rows[1]))
            .filter(|(column, _)| !column.is_generated && actor.inserts.contains(&column.attnum))
            .map(|(column, value)| (ident(&column.name), value.as_deref().map_or("NULL".into(), literal)))
            .unzip();
        if !columns.is_empty() {
            // Where there is room for one row only, it is made first.
            let room = ground.spares[1].is_none().then(|| format!("DELETE FROM {name} WHERE {tenant} = {b}"));
            let insert = format!(
                "INSERT INTO {name} ({}) OVERRIDING SYSTEM VALUE VALUES ({})",
                columns.join(", "),
                values.join(", ")
            );
            groups.push(("INSERT", room, vec![insert]));
        }
        let own = table
            .columns
            .iter()
            .zip(&ground.rows[0])
            .filter(|(column, _)| {
                actor.updates.contains(&column.attnum)
                    && Some(column.attnum) != table.tenant
                    && !column.is_generated
                    && !column.is_identity
            })
            .min_by_key(|(column, _)| {
                (
                    table.unique_columns().contains(&column.attnum),
                    table.reference_columns().contains(&column.attnum),
                )
            });
        if let Some((column, value)) = own {
            let (column, value) = (ident(&column.name), value.as_deref().map_or("NULL".into(), literal));
            // With a condition the rows have to be visible as well; without one they need not be.
            let update = vec![
                format!("UPDATE {name} SET {column} = {column} WHERE {tenant} = {b}"),
                format!("UPDATE {name} SET {column} = {value}"),
            ];
            groups.push(("UPDATE", None, update));
        }
        if table.tenant.is_some_and(|attnum| actor.updates.contains(&attnum)) {
            let take = vec![format!("UPDATE {name} SET {tenant} = {a} WHERE {tenant} = {b}")];
            groups.push(("UPDATE that takes a row", None, take));
            let give = vec![
                format!("UPDATE {name} SET {tenant} = {b} WHERE {tenant} = {a}"),
                format!("UPDATE {name} SET {tenant} = {b}"),
            ];
            groups.push(("UPDATE that gives a row", None, give));
        }
        let delete = vec![format!("DELETE FROM {name} WHERE {tenant} = {b}"), format!("DELETE FROM {name}")];
        groups.push(("DELETE", None, delete));
        groups.push(("TRUNCATE", None, vec![format!("TRUNCATE {name}"), format!("TRUNCATE {name} CASCADE")]));
        let versions = self.versions(stance.stranger);
        let untouched = self.look(None, &versions).await?;
        for (what, room, statements) in groups {
            let before = match &room {
                Some(room) => self.look(Some(room), &versions).await?,
                None => untouched.clone(),
            };
            for statement in statements {
                let after = self.attempt(room.as_deref(), stance, actor, &statement, Some(&versions)).await?;
                if after.is_some() && after != before {
                    self.note(what, stance, actor, &statement);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Switches the isolation off, as whoever owns the table may.
    async fn takes_over(&mut self, actor: &Actor) -> Result<()> {
        let name = self.ground.table.name.clone();
        let stance = Stance {
            words: "in the context of tenant A".into(),
            settings: self.ground.context(0),
            stranger: false,
        };
        let statement = format!(
            "ALTER TABLE {name} DISABLE ROW LEVEL SECURITY; SELECT count(*) FROM {name} AS t WHERE t.{}",
            self.forbidden(false)
        );
        if self.attempt(None, &stance, actor, &statement, None).await?.is_some_and(|count| count != "0") {
            self.note("ALTER TABLE", &stance, actor, &statement);
        }
        Ok(())
    }

    /// Which rows are there that nobody may change in that stance, and which versions of them.
    fn versions(&self, stranger: bool) -> String {
        format!(
            "SELECT coalesce(pg_catalog.string_agg(concat(tableoid, ctid), ' ' ORDER BY tableoid, ctid), '') FROM {} WHERE {}",
            self.ground.table.name,
            self.forbidden(stranger)
        )
    }

    /// Runs statements in a subtransaction that is rolled back. Gives the last value, or nothing where one was refused.
    async fn trial(&mut self, statements: &str) -> Result<Option<String>> {
        let script = format!("SAVEPOINT trial;{statements};ROLLBACK TO trial;RELEASE trial");
        match self.connection.fetch_all(sqlx::raw_sql(trusted(script))).await {
            // The last row is that of the last SELECT.
            Ok(rows) => Ok(rows.last().map(|row| row.try_get_unchecked(0)).transpose()?.flatten()),
            Err(sqlx::Error::Database(_)) => {
                self.connection.execute("ROLLBACK TO trial; RELEASE trial").await?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn look(&mut self, preparation: Option<&str>, question: &str) -> Result<Option<String>> {
        let preparation = preparation.map_or(String::new(), |statement| format!("{statement};"));
        self.trial(&format!("{preparation}{question}")).await
    }

    /// Tries a statement as the actor, and asks the question afterwards where there is one.
    async fn attempt(
        &mut self,
        preparation: Option<&str>,
        stance: &Stance,
        actor: &Actor,
        statement: &str,
        question: Option<&str>,
    ) -> Result<Option<String>> {
        let mut script = preparation.map_or(String::new(), |statement| format!("{statement};"));
        // Unlike SET ROLE this leaves no way back, and lets it become what the role itself can become.
        script.push_str(&format!("SET LOCAL SESSION AUTHORIZATION {};", ident(self.app)));
        if actor.name != self.app {
            script.push_str(&format!("SET LOCAL ROLE {};", ident(&actor.name)));
        }
        for (name, value) in &stance.settings {
            script.push_str(&format!(
                "SELECT pg_catalog.set_config({}, {}, true);",
                literal(name),
                literal(value)
            ));
        }
        script.push_str(statement);
        if let Some(question) = question {
            script.push_str(&format!(";SET LOCAL SESSION AUTHORIZATION DEFAULT;{question}"));
        }
        self.trial(&script).await
    }

    fn note(&mut self, what: &str, stance: &Stance, actor: &Actor, statement: &str) {
        let who = if actor.name == self.app { String::new() } else { format!(" as {}", ident(&actor.name)) };
        let mut statement = statement.to_owned();
        for (key, name) in self.ground.keys.iter().zip(["<tenant A>", "<tenant B>", "<no tenant>"]) {
            statement = statement.replace(key.as_str(), name);
        }
        self.crossings.insert(format!("{what} {}{who}", stance.words), statement);
    }
}
