//! Tenants: the customers of a platform.

use std::str::FromStr;

use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::audit;
use crate::change::{Change, Outcome};
use crate::plan::EnvironmentLimits;
use crate::suggest::closest;
use crate::validate;
use crate::{Error, Result};

mod billing;
mod fit;
mod reference;
mod slug;
pub use crate::id::TenantId;
pub use billing::BillingDay;
pub use reference::TenantRef;
pub use slug::Slug;

/// What state a tenant is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// In use.
    Active,
    /// Barred from new usage until it is resumed; its data stays.
    Suspended,
    /// Deleted, and restorable until its grace period ends.
    Deleted,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Active, Self::Suspended, Self::Deleted];

    /// Its name in SQL, JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
        }
    }
}

impl FromStr for Status {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        crate::suggest::one_of("status", text, &Self::ALL.map(|s| (s.as_str(), s)))
    }
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tenant {
    /// Its identifier.
    pub id: TenantId,
    /// Its unique short name.
    pub slug: Slug,
    /// Its name, for people.
    pub name: String,
    /// What state it is in.
    pub status: Status,
    /// Key of its plan.
    pub plan: String,
    /// Whom to write to.
    pub contact_email: Option<String>,
    /// What sort of organization it is, in the platform's own words.
    pub organization_type: Option<String>,
    /// Its web site.
    pub website_url: Option<String>,
    /// How the platform looks for it: an object of the platform's making.
    pub branding: Value,
    /// Anything else that the platform keeps for it: an object.
    pub settings: Value,
    /// Slugs that it had before, oldest first.
    pub aliases: Vec<String>,
    /// When it was created.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
    /// Since when it is suspended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub suspended_at: Option<OffsetDateTime>,
    /// From when its data may be removed for good; only where it is deleted.
    #[serde(with = "time::serde::rfc3339::option")]
    pub purge_after: Option<OffsetDateTime>,
    /// How many members it has.
    pub user_count: i64,
    /// The day of the month that its monthly periods begin on; none for that of each metric.
    pub billing_day: Option<BillingDay>,
}

struct Row {
    id: Uuid,
    slug: String,
    name: String,
    status: String,
    plan: String,
    contact_email: Option<String>,
    organization_type: Option<String>,
    website_url: Option<String>,
    branding: Value,
    settings: Value,
    aliases: Vec<String>,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    suspended_at: Option<OffsetDateTime>,
    purge_after: Option<OffsetDateTime>,
    user_count: i64,
    anchor_day: Option<i16>,
}

impl TryFrom<Row> for Tenant {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let bad = |column: &'static str, value: &str, error: Error| Error::BadData {
            table: "tenancy.tenants",
            column,
            row: row.id.to_string(),
            value: value.into(),
            reason: error.to_string(),
        };
        Ok(Self {
            slug: Slug::from_database(&row.slug).map_err(|e| bad("slug", &row.slug, e))?,
            status: row.status.parse().map_err(|e| bad("status", &row.status, e))?,
            id: TenantId(row.id),
            name: row.name,
            plan: row.plan,
            contact_email: row.contact_email,
            organization_type: row.organization_type,
            website_url: row.website_url,
            branding: row.branding,
            settings: row.settings,
            aliases: row.aliases,
            created_at: row.created_at,
            updated_at: row.updated_at,
            suspended_at: row.suspended_at,
            purge_after: row.purge_after,
            user_count: row.user_count,
            billing_day: row
                .anchor_day
                .map(BillingDay::from_database)
                .transpose()
                .map_err(|e| bad("anchor_day", &format!("{:?}", row.anchor_day), e))?,
        })
    }
}

/// A tenant that is to be created.
#[derive(Debug, Clone)]
pub struct NewTenant {
    /// Its name, for people.
    pub name: String,
    /// Its unique short name.
    pub slug: Slug,
    /// Key of its plan; none for the default plan.
    pub plan: Option<String>,
    /// Whom to write to.
    pub contact_email: Option<String>,
    /// What sort of organization it is.
    pub organization_type: Option<String>,
    /// Its web site.
    pub website_url: Option<String>,
    /// The day of the month that its monthly periods begin on; none for that of each metric.
    pub billing_day: Option<BillingDay>,
}

/// Which tenants to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only these states; empty for all but deleted.
    pub status: Vec<Status>,
    /// Only on this plan.
    pub plan: Option<String>,
    /// Only where slug, name or contact e-mail contain this, in any case.
    pub text: Option<String>,
}

/// Creates a tenant. Its owner is added with [`crate::user::add`] in the same transaction.
///
/// With `if_not_exists` a tenant of the same slug is left as it is and the outcome is `unchanged`.
///
/// # Errors
/// [`Error::Conflict`] where the slug is taken, [`Error::NotFound`] for the plan, [`Error::Invalid`].
pub async fn create(
    connection: &mut PgConnection,
    new: &NewTenant,
    if_not_exists: bool,
) -> Result<Change<Tenant>> {
    let name = validate::name("name", &new.name)?;
    let contact_email =
        new.contact_email.as_deref().map(|e| validate::email("contact_email", e)).transpose()?;
    let website_url = new.website_url.as_deref().map(|u| validate::url("website_url", u)).transpose()?;
    let organization_type =
        new.organization_type.as_deref().map(|t| validate::name("organization_type", t)).transpose()?;
    let plan = match &new.plan {
        Some(plan) => crate::plan::show(connection, plan, &EnvironmentLimits::default()).await?.key,
        None => default_plan(connection).await?,
    };
    let created = sqlx::query_file_scalar!(
        "sql/tenant/create.sql",
        new.slug.as_str(),
        name,
        plan,
        contact_email,
        organization_type,
        website_url,
        new.billing_day.map(BillingDay::day)
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(id) = created.map(TenantId) else {
        let existing = find(connection, &TenantRef::Slug(new.slug.to_string())).await?;
        // An earlier slug leads to a tenant, too, but not to the one that was asked for.
        let same = existing.slug == new.slug;
        if if_not_exists && same && existing.status != Status::Deleted {
            return Ok(Change::unchanged(existing));
        }
        return Err(Error::Conflict {
            kind: "tenant",
            name: new.slug.to_string(),
            reason: match existing.status {
                Status::Deleted => "belongs to a deleted tenant whose grace period is not over".into(),
                _ if !same => format!("is an earlier slug of tenant {}", existing.slug),
                _ => "already exists".into(),
            },
            hint: Some(match existing.status {
                Status::Deleted => "choose another slug".into(),
                _ if !same => "choose another slug".into(),
                _ => "choose another slug, or pass --if-not-exists to leave it as it is".to_owned(),
            }),
        });
    };
    let tenant = find(connection, &TenantRef::Id(id)).await?;
    audit::record(
        connection,
        "tenant.create",
        Some(id),
        serde_json::json!({ "slug": tenant.slug, "plan": tenant.plan }),
    )
    .await?;
    Ok(Change { outcome: Outcome::Created, value: tenant })
}

async fn default_plan(connection: &mut PgConnection) -> Result<String> {
    sqlx::query_file_scalar!("sql/plan/default.sql").fetch_optional(connection).await?.ok_or_else(|| {
        Error::Configuration {
            what: "the catalogue has no default plan".into(),
            hint: Some("name a plan".into()),
        }
    })
}

/// The tenant that a reference leads to, whatever its state.
///
/// # Errors
/// [`Error::NotFound`] with the slug that was probably meant.
pub async fn find(connection: &mut PgConnection, reference: &TenantRef) -> Result<Tenant> {
    let (id, slug) = match reference {
        TenantRef::Id(id) => (Some(id.0), None),
        TenantRef::Slug(slug) => (None, Some(slug.as_str())),
    };
    let id =
        sqlx::query_file_scalar!("sql/tenant/resolve.sql", id, slug).fetch_optional(&mut *connection).await?;
    let row = match id {
        Some(id) => {
            select(connection, Some(id), &Filter { status: Status::ALL.to_vec(), ..Filter::default() })
                .await?
                .pop()
        }
        None => None,
    };
    match row {
        Some(tenant) => Ok(tenant),
        None => {
            let slugs = slugs(connection).await?;
            Err(Error::NotFound {
                kind: "tenant",
                name: reference.to_string(),
                suggestion: closest(&reference.to_string(), slugs.iter().map(String::as_str)),
            })
        }
    }
}

/// The slugs of all tenants that are not deleted, in alphabetical order.
///
/// # Errors
/// [`Error::Database`].
pub async fn slugs(connection: &mut PgConnection) -> Result<Vec<String>> {
    Ok(sqlx::query_file_scalar!("sql/tenant/slugs.sql").fetch_all(connection).await?)
}

/// The tenants that a filter lets through, by slug.
///
/// # Errors
/// [`Error::NotFound`] where the filter names a plan that does not exist.
pub async fn list(connection: &mut PgConnection, filter: &Filter) -> Result<Vec<Tenant>> {
    if let Some(plan) = &filter.plan {
        crate::plan::show(connection, plan, &EnvironmentLimits::default()).await?;
    }
    select(connection, None, filter).await
}

async fn select(connection: &mut PgConnection, id: Option<Uuid>, filter: &Filter) -> Result<Vec<Tenant>> {
    let status: Vec<String> = match filter.status.as_slice() {
        [] => vec![Status::Active.as_str().into(), Status::Suspended.as_str().into()],
        some => some.iter().map(|s| s.as_str().to_owned()).collect(),
    };
    sqlx::query_file_as!(Row, "sql/tenant/select.sql", id, &status, filter.plan, filter.text)
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(Tenant::try_from)
        .collect()
}

/// What to change of a tenant; what is none stays as it is.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// New name.
    pub name: Option<String>,
    /// Key of the new plan.
    pub plan: Option<String>,
    /// New contact; empty to remove it.
    pub contact_email: Option<String>,
    /// New sort of organization; empty to remove it.
    pub organization_type: Option<String>,
    /// New web site; empty to remove it.
    pub website_url: Option<String>,
    /// New day of the month for its monthly periods, or (`Some(None)`) that of each metric. A changed day begins a new
    /// period.
    pub billing_day: Option<Option<BillingDay>>,
    /// Values to put into `branding` and `settings`, by path (`branding.primary_color`); null removes one.
    pub set: Vec<(String, Value)>,
}

/// Changes a tenant. A change of plan takes its usage along and is refused where that does not fit.
///
/// # Errors
/// [`Error::PlanTooSmall`], [`Error::NotFound`] for the plan, [`Error::Invalid`], [`Error::Refused`] for a deleted tenant.
pub async fn update(
    connection: &mut PgConnection,
    tenant: &TenantRef,
    update: &Update,
    environment: &EnvironmentLimits,
) -> Result<Change<Tenant>> {
    let before = lock(connection, tenant).await?;
    let optional = |old: &Option<String>, new: &Option<String>, check: fn(&str) -> Result<String>| match new
        .as_deref()
    {
        None => Ok(old.clone()),
        Some("") => Ok(None),
        Some(text) => check(text).map(Some),
    };
    let mut after = before.clone();
    if let Some(name) = &update.name {
        after.name = validate::name("name", name)?;
    }
    after.contact_email =
        optional(&before.contact_email, &update.contact_email, |e| validate::email("contact_email", e))?;
    after.website_url =
        optional(&before.website_url, &update.website_url, |u| validate::url("website_url", u))?;
    after.organization_type = optional(&before.organization_type, &update.organization_type, |t| {
        validate::name("organization_type", t)
    })?;
    after.billing_day = update.billing_day.unwrap_or(before.billing_day);
    for (path, value) in &update.set {
        slug::set_path(&mut after, path, value.clone())?;
    }
    if let Some(plan) = &update.plan {
        // Its limits stay as they are until this is done. Nothing of this transaction has a counter locked yet.
        sqlx::query_file!("sql/plan/read_limits.sql").fetch_one(&mut *connection).await?;
        let plan = crate::plan::show(connection, plan, environment).await?.key;
        if plan != before.plan {
            fit::check(connection, &before, &plan, environment).await?;
        }
        after.plan = plan;
    }
    if after == before {
        return Ok(Change::unchanged(before));
    }
    let written = sqlx::query_file!(
        "sql/tenant/update.sql",
        before.id.0,
        after.name,
        after.plan,
        after.contact_email,
        after.organization_type,
        after.website_url,
        after.branding,
        after.settings,
        after.billing_day.map(BillingDay::day)
    )
    .execute(&mut *connection)
    .await?;
    crate::change::one_row("tenant", before.slug.as_str(), written.rows_affected())?;
    if after.plan != before.plan {
        sqlx::query_file!("sql/usage/refresh_limits.sql", before.id.0).fetch_one(&mut *connection).await?;
    }
    let details = serde_json::json!({
        "slug": before.slug, "plan": after.plan, "name": after.name, "billing_day": after.billing_day,
    });
    audit::record(connection, "tenant.update", Some(before.id), details).await?;
    Ok(Change { outcome: Outcome::Updated, value: find(connection, &TenantRef::Id(before.id)).await? })
}

/// Locks a tenant against other changes until the transaction ends.
pub(crate) async fn lock(connection: &mut PgConnection, reference: &TenantRef) -> Result<Tenant> {
    let id = find(connection, reference).await?.id;
    sqlx::query_file!("sql/tenant/lock.sql", id.0).fetch_one(&mut *connection).await?;
    let tenant = find(connection, &TenantRef::Id(id)).await?;
    tenant.refuse_deleted()?;
    Ok(tenant)
}

impl Tenant {
    /// # Errors
    /// [`Error::Refused`] where the tenant is deleted.
    pub(crate) fn refuse_deleted(&self) -> Result<()> {
        match self.status {
            Status::Active | Status::Suspended => Ok(()),
            Status::Deleted => Err(Error::Refused {
                what: format!("tenant {:?} is deleted", self.slug.as_str()),
                hint: Some("nothing can be changed about a deleted tenant".into()),
            }),
        }
    }
}

/// Bars a tenant from new usage.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Refused`] for a deleted tenant.
pub async fn suspend(connection: &mut PgConnection, tenant: &TenantRef) -> Result<Change<Tenant>> {
    transition(connection, tenant, Status::Suspended, None).await
}

/// Lets a suspended tenant go on.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Refused`] for a deleted tenant.
pub async fn resume(connection: &mut PgConnection, tenant: &TenantRef) -> Result<Change<Tenant>> {
    transition(connection, tenant, Status::Active, None).await
}

/// Marks a tenant as deleted. Its rows stay until the grace period, fixed at this moment, is over.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn delete(
    connection: &mut PgConnection,
    tenant: &TenantRef,
    grace: Duration,
) -> Result<Change<Tenant>> {
    let found = find(connection, tenant).await?;
    if found.status == Status::Deleted {
        return Ok(Change::unchanged(found));
    }
    transition(connection, tenant, Status::Deleted, Some(grace)).await
}

async fn transition(
    connection: &mut PgConnection,
    tenant: &TenantRef,
    to: Status,
    grace: Option<Duration>,
) -> Result<Change<Tenant>> {
    let before = lock(connection, tenant).await?;
    if before.status == to {
        return Ok(Change::unchanged(before));
    }
    let grace = grace.map(Duration::as_seconds_f64);
    let written = sqlx::query_file!("sql/tenant/transition.sql", before.id.0, to.as_str(), grace)
        .execute(&mut *connection)
        .await?;
    crate::change::one_row("tenant", before.slug.as_str(), written.rows_affected())?;
    let action = match to {
        Status::Active => "tenant.resume",
        Status::Suspended => "tenant.suspend",
        Status::Deleted => "tenant.delete",
    };
    audit::record(connection, action, Some(before.id), serde_json::json!({ "slug": before.slug })).await?;
    Ok(Change { outcome: Outcome::Updated, value: find(connection, &TenantRef::Id(before.id)).await? })
}
