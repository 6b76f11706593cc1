//! What a verification is about: the tenant tables, and the roles that must be confined to their tenant.

use sqlx::postgres::PgConnection;
use sqlx::postgres::types::Oid;

use crate::context::Signer;
use crate::rls::contract::{Acting, Contract};
use crate::{Error, Result};

/// Who runs the verification, on what server.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Session {
    pub(crate) server_version: String,
    pub(crate) citus: bool,
    pub(crate) has_registry: bool,
    pub(crate) has_role_name: bool,
    /// Whether a tenant in the control plane's context has to be signed, and whether we may have the key for it.
    pub(crate) sealed: bool,
    pub(crate) may_sign: bool,
    pub(crate) in_recovery: bool,
    pub(crate) privileged: bool,
}

/// A role that the application role can act as or inherits from, itself too; or a login behind it, which RESET ROLE
/// leads back to.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Role {
    pub(crate) oid: Oid,
    pub(crate) name: String,
    pub(crate) superuser: bool,
    pub(crate) bypassrls: bool,
    pub(crate) settable: bool,
    /// Whether whoever verifies may act as it.
    pub(crate) attackable: bool,
}

impl Role {
    /// Whether no policy applies to it.
    pub(crate) fn exempt(&self) -> bool {
        self.superuser || self.bypassrls
    }
}

/// A table that is registered, or has a column named like a tenant column.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Table {
    pub(crate) oid: Oid,
    /// Quoted, with its schema.
    pub(crate) name: String,
    pub(crate) schema: String,
    pub(crate) relname: String,
    pub(crate) object_kind: String,
    kind: String,
    pub(crate) tenant_column: Option<String>,
    pub(crate) row_security: bool,
    pub(crate) is_partition: bool,
    /// Whether it is a partition or an inheritance child of a tenant table.
    pub(crate) is_child: bool,
    /// Whether a role in reach acts for the owner, whom no policy binds.
    pub(crate) owner_unbound: bool,
    pub(crate) reachable: bool,
}

/// One application role with what it can become, and the tables as that role meets them.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) app: Role,
    pub(crate) roles: Vec<Role>,
    pub(crate) tables: Vec<Table>,
    pub(crate) shared: Vec<Oid>,
    /// How a transaction says which tenant it serves.
    pub(crate) acting: Acting,
    /// The control plane's owner, whose members administer.
    pub(crate) owner_role: Option<Oid>,
    /// Roles that may cross tenants on purpose.
    pub(crate) admins: Vec<Oid>,
    /// Tables that nobody asked about: those of schemas which the contract leaves out.
    pub(crate) elsewhere: Vec<Oid>,
}

#[derive(sqlx::FromRow)]
struct Registered {
    oid: Oid,
    kind: String,
    tenant_column: Option<String>,
}

/// Reads who is connected.
pub(crate) async fn session(connection: &mut PgConnection) -> Result<Session> {
    Ok(sqlx::query_as(include_str!("../../sql/rls/session.sql")).fetch_one(connection).await?)
}

/// Name of the application role that the control plane made.
pub(crate) async fn default_role(connection: &mut PgConnection) -> Result<String> {
    Ok(sqlx::query_scalar("SELECT tenancy.role_name('app')").fetch_one(connection).await?)
}

/// The scope for one application role.
pub(crate) async fn load(
    connection: &mut PgConnection,
    session: &Session,
    app_role: &str,
    tenant_columns: &[String],
    context_setting: &str,
    contract: Option<&Contract>,
) -> Result<Scope> {
    let mut roles: Vec<Role> = sqlx::query_as(include_str!("../../sql/rls/roles.sql"))
        .bind(app_role)
        .fetch_all(&mut *connection)
        .await?;
    let Some(app) = roles.iter().find(|role| role.name == app_role).cloned() else {
        if contract.is_some_and(|contract| contract.app_roles.iter().any(|role| role == app_role)) {
            return Err(Error::Configuration {
                what: format!("app_roles: there is no role {app_role:?}"),
                hint: None,
            });
        }
        return Err(Error::NotFound { kind: "role", name: app_role.into(), suggestion: None });
    };
    let owner_role: Option<Oid> = if session.has_role_name {
        sqlx::query_scalar(
            "SELECT pg_catalog.to_regrole(pg_catalog.quote_ident(tenancy.role_name('owner')))::oid",
        )
        .fetch_one(&mut *connection)
        .await?
    } else {
        None
    };
    let mut admins: Vec<Oid> = if session.has_role_name {
        sqlx::query_scalar(
            "SELECT oid FROM pg_catalog.pg_roles WHERE rolname IN (tenancy.role_name('admin'), tenancy.role_name('owner'))",
        )
        .fetch_all(&mut *connection)
        .await?
    } else {
        Vec::new()
    };
    let logins: Vec<Role> = sqlx::query_as(include_str!("../../sql/rls/logins.sql"))
        .bind(app.oid)
        .bind(owner_role)
        .bind(roles.iter().map(|role| role.oid).collect::<Vec<_>>())
        .fetch_all(&mut *connection)
        .await?;
    roles.extend(logins);
    let registered: Vec<Registered> = if let Some(contract) = contract {
        admins.extend(declared_roles(connection, contract).await?);
        declared_tables(connection, contract).await?
    } else if session.has_registry {
        sqlx::query_as(include_str!("../../sql/rls/registry.sql")).fetch_all(&mut *connection).await?
    } else {
        Vec::new()
    };
    let mut names = contract.map_or(tenant_columns, |contract| &contract.tenant_column).to_vec();
    // A key called id says nothing about other tables; any other name that is registered somewhere does.
    for column in registered.iter().filter_map(|table| table.tenant_column.as_ref()) {
        if column != "id" && !names.contains(column) {
            names.push(column.clone());
        }
    }
    let schemas = contract.map(|contract| contract.schemas.clone()).unwrap_or_default();
    let all: Vec<Table> = sqlx::query_as(include_str!("../../sql/rls/scope.sql"))
        .bind(registered.iter().map(|table| table.oid).collect::<Vec<_>>())
        .bind(registered.iter().map(|table| table.kind.clone()).collect::<Vec<_>>())
        .bind(registered.iter().map(|table| table.tenant_column.clone()).collect::<Vec<_>>())
        .bind(names)
        .bind(roles.iter().map(|role| role.oid).collect::<Vec<_>>())
        .bind(&schemas)
        .fetch_all(&mut *connection)
        .await?;
    let elsewhere = if schemas.is_empty() { Vec::new() } else { outside(connection, &schemas).await? };
    let acting = match contract {
        Some(contract) => Acting::of(&contract.context, app_role)
            .map_err(|what| Error::Configuration { what, hint: None })?,
        None => Acting::plain(context_setting),
    };
    let acting = if session.sealed { acting.sealed(signer(connection, session).await?) } else { acting };
    let (tables, shared): (Vec<Table>, Vec<Table>) =
        all.into_iter().partition(|table| table.kind == "tenant");
    if let (Some(contract), true) = (contract, tables.is_empty()) {
        let columns = contract.tenant_column.join(" or ");
        let place = if schemas.is_empty() { "" } else { " in these schemas" };
        return Err(Error::Configuration {
            what: format!("tenant_column: no table{place} has a column {columns:?}"),
            hint: None,
        });
    }
    Ok(Scope {
        app,
        roles,
        tables,
        shared: shared.iter().map(|table| table.oid).collect(),
        acting,
        owner_role,
        admins,
        elsewhere,
    })
}

/// What signs the context, where we may have the key.
async fn signer(connection: &mut PgConnection, session: &Session) -> Result<Option<Signer>> {
    if !session.may_sign {
        return Ok(None);
    }
    let key: Option<String> =
        sqlx::query_scalar("SELECT tenancy.signing_key()").fetch_one(connection).await?;
    key.map(|key| key.parse()).transpose()
}

/// The tables that a contract names, whatever their columns are called.
async fn declared_tables(connection: &mut PgConnection, contract: &Contract) -> Result<Vec<Registered>> {
    let tenants = contract.tables.iter().map(|(name, column)| ("tables", name, Some(column)));
    let shared = contract.shared_tables.iter().map(|name| ("shared_tables", name, None));
    let mut found = Vec::new();
    for (key, name, column) in tenants.chain(shared) {
        let (oid, has_column): (Option<Oid>, bool) =
            sqlx::query_as(include_str!("../../sql/rls/declared_table.sql"))
                .bind(name)
                .bind(column)
                .fetch_one(&mut *connection)
                .await?;
        let wrong = |what: String| Error::Configuration { what: format!("{key}: {what}"), hint: None };
        let oid = oid.ok_or_else(|| wrong(format!("there is no table {name:?}")))?;
        if let (Some(column), false) = (column, has_column) {
            return Err(wrong(format!("table {name:?} has no column {column:?}")));
        }
        let kind = if column.is_some() { "tenant" } else { "shared" };
        found.push(Registered { oid, kind: kind.into(), tenant_column: column.cloned() });
    }
    Ok(found)
}

/// The roles that a contract lets cross.
async fn declared_roles(connection: &mut PgConnection, contract: &Contract) -> Result<Vec<Oid>> {
    let mut found = Vec::new();
    for name in &contract.admin_roles {
        let oid: Option<Oid> = sqlx::query_scalar("SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1")
            .bind(name)
            .fetch_optional(&mut *connection)
            .await?;
        let missing =
            || Error::Configuration { what: format!("admin_roles: there is no role {name:?}"), hint: None };
        found.push(oid.ok_or_else(missing)?);
    }
    Ok(found)
}

/// The tables of all other schemas.
async fn outside(connection: &mut PgConnection, schemas: &[String]) -> Result<Vec<Oid>> {
    for name in schemas {
        let known: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)")
                .bind(name)
                .fetch_one(&mut *connection)
                .await?;
        if !known {
            return Err(Error::Configuration {
                what: format!("schemas: there is no schema {name:?}"),
                hint: None,
            });
        }
    }
    let query = sqlx::query_scalar(
        "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
          WHERE c.relkind IN ('r', 'p', 'f') AND n.nspname <> ALL ($1::text[])",
    );
    Ok(query.bind(schemas).fetch_all(connection).await?)
}
