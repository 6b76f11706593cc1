//! Users: people, and their memberships of tenants.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::change::{Change, Outcome};
use crate::plan::EnvironmentLimits;
use crate::suggest::{closest, one_of};
use crate::tenant::{Tenant, TenantId, TenantRef};
use crate::{Error, Result, audit, tenant, usage, validate};

/// Identifies a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct UserId(pub Uuid);

/// The ways to name a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserRef {
    /// By identifier.
    Id(UserId),
    /// By e-mail address, in lower case.
    Email(String),
}

impl FromStr for UserRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match Uuid::parse_str(text.trim()) {
            Ok(id) => Ok(Self::Id(UserId(id))),
            Err(_) => Ok(Self::Email(validate::email("user", text)?)),
        }
    }
}

impl fmt::Display for UserRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.0.fmt(f),
            Self::Email(email) => email.fmt(f),
        }
    }
}

/// What a member of a tenant may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, the tenant's own existence included.
    Owner,
    /// Users and configuration. Counts against the plan's `admins`.
    Admin,
    /// Taking part.
    Member,
    /// Looking.
    Viewer,
}

impl Role {
    /// All of them, the most powerful first.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Admin, Self::Member, Self::Viewer];

    /// Its name in SQL, JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Member => "member",
            Self::Viewer => "viewer",
        }
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        one_of("role", text, &Self::ALL.map(|role| (role.as_str(), role)))
    }
}

/// A user as a member of a tenant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Member {
    /// Slug of the tenant.
    pub tenant: String,
    /// The user's identifier.
    pub user_id: UserId,
    /// The user's e-mail address.
    pub email: String,
    /// What they may do.
    pub role: Role,
    /// What they may do beyond or below their role, by permission.
    pub permissions: Value,
    /// Since when they are a member.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When the membership was last changed.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

struct Row {
    tenant: String,
    user_id: Uuid,
    email: String,
    role: String,
    permissions: Value,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl TryFrom<Row> for Member {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let role = row.role.parse().map_err(|error: Error| Error::BadData {
            table: "tenancy.memberships",
            column: "role",
            row: format!("{} of {}", row.email, row.tenant),
            value: row.role.clone(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            tenant: row.tenant,
            user_id: UserId(row.user_id),
            email: row.email,
            role,
            permissions: row.permissions,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// A membership that is to be.
#[derive(Debug, Clone)]
pub struct NewMembership {
    /// Who. An e-mail address that nobody has yet makes a new user.
    pub user: UserRef,
    /// What they may do.
    pub role: Role,
    /// Permissions by name.
    pub permissions: Map<String, Value>,
}

/// Reads `NAME=true` or `NAME=false`.
///
/// # Errors
/// [`Error::Invalid`].
pub fn parse_permission(text: &str) -> Result<(String, bool)> {
    let wrong = |reason: &str| Error::Invalid {
        field: "permission",
        value: text.into(),
        reason: reason.into(),
        hint: Some("write for example can_manage_events=true".into()),
    };
    let (name, value) = text.split_once('=').ok_or_else(|| wrong("it has no ="))?;
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
        return Err(wrong("a permission is named in lower-case letters, digits and underscores"));
    }
    match value {
        "true" => Ok((name.into(), true)),
        "false" => Ok((name.into(), false)),
        _ => Err(wrong("a permission is true or false")),
    }
}

/// Adds a user to a tenant.
///
/// With `if_not_exists` a membership that exists is left as it is and the outcome is `unchanged`.
///
/// # Errors
/// [`Error::Conflict`] where the user is a member already, [`Error::NotFound`] for a UUID that nobody has,
/// [`Error::LimitExceeded`] where an admin is added beyond the plan's limit.
pub async fn add(
    connection: &mut PgConnection,
    tenant: TenantId,
    new: &NewMembership,
    if_not_exists: bool,
    environment: &EnvironmentLimits,
) -> Result<Change<Member>> {
    let tenant = tenant::lock(connection, &TenantRef::Id(tenant)).await?;
    let user = match &new.user {
        UserRef::Id(id) => {
            sqlx::query_file_scalar!("sql/user/by_id.sql", id.0).fetch_optional(&mut *connection).await?
        }
        UserRef::Email(email) => {
            Some(sqlx::query_file_scalar!("sql/user/create.sql", email).fetch_one(&mut *connection).await?)
        }
    };
    let Some(user) = user else {
        return Err(Error::NotFound { kind: "user", name: new.user.to_string(), suggestion: None });
    };
    let permissions = Value::Object(new.permissions.clone());
    let added = sqlx::query_file!("sql/user/add.sql", tenant.id.0, user, new.role.as_str(), permissions)
        .execute(&mut *connection)
        .await?
        .rows_affected();
    if added == 0 {
        let existing = member(connection, &tenant, &UserRef::Id(UserId(user))).await?;
        if if_not_exists {
            return Ok(Change::unchanged(existing));
        }
        return Err(Error::Conflict {
            kind: "user",
            name: existing.email.clone(),
            reason: format!("is already {} of {}", existing.role.as_str(), tenant.slug),
            hint: Some("`tenantctl user update` changes the role; --if-not-exists leaves it as it is".into()),
        });
    }
    if new.role == Role::Admin {
        usage::count_admins(connection, &tenant, 1, environment).await?;
    }
    let member = member(connection, &tenant, &UserRef::Id(UserId(user))).await?;
    record(connection, "user.add", &tenant, &member).await?;
    Ok(Change { outcome: Outcome::Created, value: member })
}

/// The members of a tenant, the most powerful first.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn list(
    connection: &mut PgConnection,
    tenant: &TenantRef,
    role: Option<Role>,
) -> Result<Vec<Member>> {
    let tenant = tenant::find(connection, tenant).await?;
    sqlx::query_file_as!(
        Row,
        "sql/user/list.sql",
        tenant.id.0,
        role.map(Role::as_str),
        None::<Uuid>,
        None::<&str>
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Member::try_from)
    .collect()
}

/// One member of a tenant.
///
/// # Errors
/// [`Error::NotFound`] with the address that was probably meant.
pub async fn show(connection: &mut PgConnection, tenant: &TenantRef, user: &UserRef) -> Result<Member> {
    let tenant = tenant::find(connection, tenant).await?;
    member(connection, &tenant, user).await
}

async fn member(connection: &mut PgConnection, tenant: &Tenant, user: &UserRef) -> Result<Member> {
    let (id, email) = match user {
        UserRef::Id(id) => (Some(id.0), None),
        UserRef::Email(email) => (None, Some(email.as_str())),
    };
    let found = sqlx::query_file_as!(Row, "sql/user/list.sql", tenant.id.0, None::<&str>, id, email)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(row) = found {
        return row.try_into();
    }
    let members = list(connection, &TenantRef::Id(tenant.id), None).await?;
    Err(Error::NotFound {
        kind: "user",
        name: user.to_string(),
        suggestion: closest(&user.to_string(), members.iter().map(|m| m.email.as_str())),
    })
}

/// Changes a member's role or permissions; what is none stays as it is.
///
/// # Errors
/// [`Error::Refused`] where the last owner would lose the role, [`Error::LimitExceeded`] where an admin would be one
/// too many, [`Error::NotFound`].
pub async fn update(
    connection: &mut PgConnection,
    tenant: &TenantRef,
    user: &UserRef,
    role: Option<Role>,
    permissions: &Map<String, Value>,
    environment: &EnvironmentLimits,
) -> Result<Change<Member>> {
    let (tenant, before) = lock(connection, tenant, user).await?;
    let mut after = before.clone();
    after.role = role.unwrap_or(before.role);
    if let Some(object) = after.permissions.as_object_mut() {
        object.extend(permissions.clone());
    }
    if after == before {
        return Ok(Change::unchanged(before));
    }
    if before.role == Role::Owner && after.role != Role::Owner {
        refuse_last_owner(connection, &tenant, &before).await?;
    }
    let written = sqlx::query_file!(
        "sql/user/update.sql",
        tenant.id.0,
        before.user_id.0,
        after.role.as_str(),
        after.permissions
    )
    .execute(&mut *connection)
    .await?;
    crate::change::one_row("user", &before.email, written.rows_affected())?;
    match (before.role == Role::Admin, after.role == Role::Admin) {
        (false, true) => usage::count_admins(connection, &tenant, 1, environment).await?,
        (true, false) => usage::count_admins(connection, &tenant, -1, environment).await?,
        _ => {}
    }
    let member = member(connection, &tenant, user).await?;
    record(connection, "user.update", &tenant, &member).await?;
    Ok(Change { outcome: Outcome::Updated, value: member })
}

/// Ends a membership. The user stays a user.
///
/// # Errors
/// [`Error::Refused`] for the last owner, [`Error::NotFound`].
pub async fn remove(
    connection: &mut PgConnection,
    tenant: &TenantRef,
    user: &UserRef,
) -> Result<Change<Member>> {
    let (tenant, before) = lock(connection, tenant, user).await?;
    if before.role == Role::Owner {
        refuse_last_owner(connection, &tenant, &before).await?;
    }
    let written = sqlx::query_file!("sql/user/remove.sql", tenant.id.0, before.user_id.0)
        .execute(&mut *connection)
        .await?;
    crate::change::one_row("user", &before.email, written.rows_affected())?;
    if before.role == Role::Admin {
        usage::count_admins(connection, &tenant, -1, &EnvironmentLimits::default()).await?;
    }
    record(connection, "user.remove", &tenant, &before).await?;
    Ok(Change { outcome: Outcome::Removed, value: before })
}

/// The membership, with the tenant locked: two owners who leave at the same moment do so one after the other, so that
/// the second is seen to be the last.
async fn lock(connection: &mut PgConnection, tenant: &TenantRef, user: &UserRef) -> Result<(Tenant, Member)> {
    let tenant = tenant::lock(connection, tenant).await?;
    let member = member(connection, &tenant, user).await?;
    Ok((tenant, member))
}

async fn refuse_last_owner(connection: &mut PgConnection, tenant: &Tenant, owner: &Member) -> Result<()> {
    let owners = list(connection, &TenantRef::Id(tenant.id), Some(Role::Owner)).await?;
    if owners.iter().any(|other| other.user_id != owner.user_id) {
        return Ok(());
    }
    Err(Error::refused(
        format!("{} is the last owner of tenant {}", owner.email, tenant.slug),
        "make somebody else an owner first: `tenantctl user add … --role owner`",
    ))
}

async fn record(connection: &mut PgConnection, action: &str, tenant: &Tenant, member: &Member) -> Result<()> {
    let details =
        serde_json::json!({ "email": member.email, "role": member.role, "permissions": member.permissions });
    audit::record(connection, action, Some(tenant.id), details).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_role_is_recognised() {
        let error = "amdin".parse::<Role>().unwrap_err();
        assert_eq!(error.hint().as_deref(), Some("did you mean \"admin\"?"));
    }

    #[test]
    fn permissions() {
        assert_eq!(parse_permission("can_manage_events=true").unwrap(), ("can_manage_events".into(), true));
        for bad in ["x", "=true", "x=maybe", "X=true", "a b=true"] {
            assert!(parse_permission(bad).is_err(), "{bad}");
        }
    }
}
