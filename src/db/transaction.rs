//! Transactions: each begins with its time-outs and its role set locally, so that nothing outlives it on a pooled
//! connection.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::{Connection, PgConnection, Postgres};

use super::migrate::required_version;
use super::quote::{ident, trusted};
use crate::context::{SETTING, Signer};
use crate::id::TenantId;
use crate::{Error, Result};

/// Has the server look every second whether we are still there, so that a command that is killed while it waits for a
/// lock leaves the queue. A server on a system that cannot tell (Windows) refuses the setting and goes without.
const NOTICE_OUR_END: &str = "DO $$ BEGIN SET LOCAL client_connection_check_interval = '1s'; \
     EXCEPTION WHEN invalid_parameter_value THEN NULL; END $$";

/// One connection and what its transactions begin with.
#[derive(Debug)]
pub struct Session {
    connection: PgConnection,
    /// Longest that a statement may run; zero for no limit.
    pub statement_timeout: Duration,
    /// Longest that a statement may wait for a lock; zero for no limit.
    pub lock_timeout: Duration,
    /// What the names of the control plane's roles begin with.
    pub role_prefix: String,
    /// What signs the context of a connection that may not have the database sign it.
    pub signer: Option<Signer>,
}

/// A transaction of a [`Session`]; dropped without [`commit`](Self::commit) it is rolled back.
#[derive(Debug)]
pub struct Transaction<'s> {
    inner: sqlx::Transaction<'s, Postgres>,
    role_prefix: &'s str,
    signer: Option<&'s Signer>,
}

impl Session {
    /// Takes over a connection. Without further setting there is no time-out and the role prefix is `tenancy`.
    pub fn new(connection: PgConnection) -> Self {
        Self {
            connection,
            statement_timeout: Duration::ZERO,
            lock_timeout: Duration::ZERO,
            role_prefix: "tenancy".into(),
            signer: None,
        }
    }

    /// The connection itself, for what needs no transaction.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Begins a transaction as the connecting role.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn begin(&mut self) -> Result<Transaction<'_>> {
        self.begin_with("").await
    }

    /// Begins a transaction on the control plane: as its owner, after making sure that it is the one of this role
    /// prefix, and that its schema is of the version that this library knows. Names without a schema mean PostgreSQL's
    /// own in it.
    ///
    /// # Errors
    /// [`Error::SchemaVersion`]; [`Error::Configuration`] where the control plane was made with another role prefix;
    /// [`Error::Refused`] where schema `tenancy` is somebody else's; [`Error::Database`] of kind permission denied
    /// where the connecting role is not a member of the owner role.
    pub async fn begin_as_owner(&mut self) -> Result<Transaction<'_>> {
        let owner = format!("{}_owner", self.role_prefix);
        // Whoever owns the database can give it a search path that leads to functions of theirs.
        let mut transaction = self.begin_with("SET LOCAL search_path = pg_catalog, pg_temp").await?;
        check_holder(&mut transaction, &owner).await?;
        let set_role = format!("SET LOCAL ROLE {}", ident(&owner));
        sqlx::raw_sql(trusted(set_role)).execute(&mut *transaction.inner).await?;
        check_version(&mut transaction).await?;
        Ok(transaction)
    }

    /// Begins a transaction as the connecting role, after making sure of the control plane as
    /// [`begin_as_owner`](Self::begin_as_owner) does: for who may read it without acting as its owner.
    ///
    /// # Errors
    /// Those of [`begin_as_owner`](Self::begin_as_owner).
    pub async fn begin_checked(&mut self) -> Result<Transaction<'_>> {
        let owner = format!("{}_owner", self.role_prefix);
        let mut transaction = self.begin_with("SET LOCAL search_path = pg_catalog, pg_temp").await?;
        check_holder(&mut transaction, &owner).await?;
        check_version(&mut transaction).await?;
        // What the person types is looked up as they are used to.
        sqlx::raw_sql("SET LOCAL search_path = DEFAULT").execute(&mut *transaction.inner).await?;
        Ok(transaction)
    }

    async fn begin_with(&mut self, then: &str) -> Result<Transaction<'_>> {
        let sql = format!(
            "BEGIN; SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}; {NOTICE_OUR_END}; {then}",
            self.statement_timeout.as_millis(),
            self.lock_timeout.as_millis(),
        );
        let inner = self.connection.begin_with(trusted(sql)).await?;
        Ok(Transaction { inner, role_prefix: &self.role_prefix, signer: self.signer.as_ref() })
    }
}

/// Nothing in schema `tenancy` is named before the catalogue says that it is the owner role's: anybody who may create
/// schemas in the database could have put it there, and what it holds would run with the rights of whoever connects.
async fn check_holder(connection: &mut PgConnection, owner: &str) -> Result<()> {
    let Some(found) = sqlx::query_file!("sql/db/holder.sql").fetch_optional(connection).await? else {
        return Err(Error::SchemaVersion {
            what: "the database has no control plane".into(),
            hint: "run `tenantctl db migrate`".into(),
        });
    };
    if found.schema_owner == owner && found.table_owner == owner {
        return Ok(());
    }
    match found.schema_owner.strip_suffix("_owner") {
        Some(prefix) if found.schema_owner != owner && found.table_owner == found.schema_owner => {
            Err(Error::Configuration {
                what: format!("this database's control plane was not made with the roles of {owner:?}"),
                hint: Some(format!("set role_prefix: {prefix}")),
            })
        }
        _ => Err(Error::refused(
            format!("schema tenancy does not belong to {owner:?} with all that it holds"),
            "it is no control plane of this program; find out who made it",
        )),
    }
}

async fn check_version(connection: &mut PgConnection) -> Result<()> {
    let needed = required_version();
    let found = sqlx::query_file!("sql/db/version.sql").fetch_one(connection).await?;
    let (what, hint) = match found.version {
        version if version == needed => return Ok(()),
        version if version < needed => (
            format!("the control plane's schema is at version {version}, this program needs {needed}"),
            "run `tenantctl db migrate`",
        ),
        version => (
            format!("the control plane's schema is at version {version}, newer than this program's {needed}"),
            "use a newer tenantctl",
        ),
    };
    Err(Error::SchemaVersion { what, hint: hint.into() })
}

impl Transaction<'_> {
    /// From here on the transaction serves one tenant: it runs as the application role, in the tenant's context, which
    /// the session's signer signs, else the database where that is needed.
    ///
    /// # Errors
    /// [`Error::Database`]; of kind permission denied where the context is sealed, the session has no signer and the
    /// transaction does not run as the control plane's owner.
    pub async fn enter_tenant(&mut self, tenant: TenantId) -> Result<()> {
        let role = trusted(format!("SET LOCAL ROLE {}", ident(&format!("{}_app", self.role_prefix))));
        if let Some(signer) = self.signer {
            sqlx::raw_sql(role).execute(&mut *self.inner).await?;
            // Bound and not written out: what a session runs shows to all that log in as the same role.
            sqlx::query("SELECT pg_catalog.set_config($1, $2, true)")
                .bind(SETTING)
                .bind(signer.sign(tenant))
                .execute(&mut *self.inner)
                .await?;
        } else {
            // The application role may not sign.
            sqlx::query("SELECT pg_catalog.set_config($1, tenancy.context_value($2), true)")
                .bind(SETTING)
                .bind(tenant.to_string())
                .execute(&mut *self.inner)
                .await?;
            sqlx::raw_sql(role).execute(&mut *self.inner).await?;
        }
        Ok(())
    }

    /// Makes the changes last.
    ///
    /// # Errors
    /// [`Error::Database`]; whether the changes were made is then unknown.
    pub async fn commit(self) -> Result<()> {
        Ok(self.inner.commit().await?)
    }

    /// Undoes the changes: a dry run ends like this.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn rollback(self) -> Result<()> {
        Ok(self.inner.rollback().await?)
    }
}

impl Deref for Transaction<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.inner
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.inner
    }
}
